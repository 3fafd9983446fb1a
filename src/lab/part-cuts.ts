import { join } from 'node:path';
import { systemClock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import { diskBeforeParts, KindMachine, type OtherKind, type PartBehaviour, partRelease } from './kind-machine.js';
import type { PowerCutDisk } from './power-cut-disk.js';
import { type CutResult, fingerprint, forgotten, whatIsLeft } from './power-cuts.js';

const KINDS: readonly OtherKind[] = ['flows', 'config', 'models'];
const BEHAVIOURS: readonly PartBehaviour[] = ['good', 'mute', 'refused'];

/** Of each kind beside firmware, with releases of every behaviour: as `good flows`. */
export type PartCuts = Readonly<Record<string, CutResult>>;

/**
 * The power goes at every call of the file system that the first release of a kind makes, what ran before being written down among them;
 * whatever the disk may have made of it, the update goes on to its end. No launcher has a part in it: the firmware stays as it is.
 */
export async function cutParts(dir: string, untilMs: number): Promise<PartCuts> {
  const cuts: Record<string, CutResult> = {};
  for (const kind of KINDS) {
    const release = await partRelease(join(dir, 'parts'), kind);
    for (const behaviour of BEHAVIOURS) {
      const machineOn = (disk: PowerCutDisk) => new KindMachine({ release, behaviour, disk });
      // Until the slot is whole it is the same for each.
      const from = Object.keys(cuts).length === 0 ? 1 : await callsUntil('check-content', machineOn);
      cuts[`${behaviour} ${kind}`] = await cutPart(machineOn, { what: `${behaviour} ${kind}`, from, untilMs });
    }
  }
  return cuts;
}

async function cutPart(
  machineOn: (disk: PowerCutDisk) => KindMachine,
  { what, from, untilMs }: { readonly what: string; readonly from: number; readonly untilMs: number },
): Promise<CutResult> {
  const begin = await diskBeforeParts();
  const tried = new Set<string>();
  const faults: string[] = [];
  const steps: Record<string, number> = {};
  let [cases, bricked, calls] = [0, 0, 0];
  for (let cutAt = from; ; cutAt++) {
    const machine = machineOn(begin.twin());
    machine.disk.cutAt = cutAt;
    const isOver = await machine.update().then(
      () => true,
      () => false,
    );
    if (isOver) break;
    calls += 1;
    const step = machine.job.steps.at(-1) ?? 'before the first';
    for (const disk of whatIsLeft(machine.disk)) {
      const print = fingerprint(disk);
      const lost = await forgotten(disk, machine.job.told);
      if (tried.has(print) && lost === null) continue;
      tried.add(print);
      cases += 1;
      steps[step] = (steps[step] ?? 0) + 1;
      const fault = lost ?? (await goneOn(machineOn(disk)));
      if (fault === null) continue;
      bricked += 1;
      faults.push(`${what}, cut at call ${cutAt} in ${step}: ${fault}`);
    }
    if (systemClock.nowMs() > untilMs) {
      faults.push(`${what}: not all cases were tried in time`);
      break;
    }
  }
  return { cases, bricked, calls, steps, faults };
}

async function callsUntil(wanted: string, machineOn: (disk: PowerCutDisk) => KindMachine): Promise<number> {
  const machine = machineOn(await diskBeforeParts());
  let calls = 1;
  await machine.update((_run, step) => {
    if (step === wanted) calls = machine.disk.calls;
  });
  return calls;
}

/** @returns what is wrong in the end; null where nothing is */
async function goneOn(machine: KindMachine): Promise<string | null> {
  try {
    return await machine.fault(await machine.update());
  } catch (error) {
    return errorText(error);
  }
}
