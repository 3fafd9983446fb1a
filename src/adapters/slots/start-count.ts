import { otherSlot, type SlotName } from '../../fleet/slots.js';
import { dropDurably, pointDurably, putDurably, type SlotDisk } from './slot-disk.js';
import type { WentBack } from './slot-store.js';

/** As `device/launcher.sh` has it for programs. */
const MOST_STARTS = 3;

/**
 * Counts a start of what the slots of a kind name, while that is on trial, and goes back where it was started three times without being
 * confirmed, can't be counted, or the record of its trial is damaged: to `previous`, or the other slot, also where that is not whole, which
 * its readers leave out. Durable, and in the order of the launcher: the reason, the link, the end of the trial. Call it before the release
 * is read.
 * @returns what was gone back from; null where nothing was
 * @throws the disk's errors, where not even the way back can be written
 */
export async function countStart(disk: SlotDisk): Promise<WentBack | null> {
  const [current, trial] = [slotOf(await disk.readLink('current')), await disk.read('trying')];
  if (current === null || trial === null) return null;
  const [, slot, starts] = /^slot=([ab]) starts=(\d)\n?$/.exec(Buffer.from(trial).toString('latin1')) ?? [];
  if (slot === undefined) return goBack(disk, current, 'the record of its trial is damaged');
  // Of a slot that is not current it means nothing: a power cut came before the switch.
  if (slot !== current) return null;
  if (Number(starts) >= MOST_STARTS) return goBack(disk, current, `not confirmed after ${starts} starts`);
  try {
    await putDurably(disk, 'trying', `slot=${slot} starts=${Number(starts) + 1}\n`);
    return null;
  } catch {
    // What can't be counted could be started for ever.
    return goBack(disk, current, 'its starts cannot be counted');
  }
}

async function goBack(disk: SlotDisk, from: SlotName, reason: string): Promise<WentBack> {
  const previous = slotOf(await disk.readLink('previous'));
  const to = previous === null || previous === from ? otherSlot(from) : previous;
  try {
    await putDurably(disk, 'back', `from=${from} to=${to} reason=${reason}\n`);
  } catch {
    // On a full disk a link may still be replaced; why is in the log alone.
  }
  await pointDurably(disk, 'current', to);
  await dropDurably(disk, 'trying');
  return { from, to, reason };
}

function slotOf(target: string | null): SlotName | null {
  return target === 'a' || target === 'b' ? target : null;
}
