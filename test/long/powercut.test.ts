import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { pointDurably, type SlotDisk } from '../../src/adapters/slots/slot-disk.js';
import { SlotStore } from '../../src/adapters/slots/slot-store.js';
import { systemClock } from '../../src/core/clock.js';
import type { Manifest } from '../../src/fleet/manifest.js';
import type { SlotName } from '../../src/fleet/slots.js';
import type { UpdateStep } from '../../src/fleet/update-plan.js';
import { LabLauncher } from '../../src/lab/lab-launcher.js';
import { cutEverywhere } from '../../src/lab/power-cuts.js';
import { type Behaviour, labReleases, type MachineFault } from '../../src/lab/update-machine.js';

/** Of a disk: all but what the fault changes. */
function diskWith(change: (disk: SlotDisk) => Partial<SlotDisk>): (disk: SlotDisk) => SlotDisk {
  return (disk) => {
    const made: SlotDisk = {
      read: (path) => disk.read(path),
      readRange: (path, at, bytes) => disk.readRange(path, at, bytes),
      readLink: (path) => disk.readLink(path),
      list: (path) => disk.list(path),
      makeFolder: (path) => disk.makeFolder(path),
      create: (path, mode) => disk.create(path, mode),
      unlink: (path) => disk.unlink(path),
      removeFolder: (path) => disk.removeFolder(path),
      rename: (from, to) => disk.rename(from, to),
      link: (target, path) => disk.link(target, path),
      syncFile: (path) => disk.syncFile(path),
      syncFolder: (path) => disk.syncFolder(path),
      freeBytes: () => disk.freeBytes(),
    };
    return { ...made, ...change(disk) };
  };
}

const nothing = async (): Promise<void> => {};

class SealsFirst extends SlotStore {
  #text: Uint8Array = new Uint8Array(0);
  override async sync(slot: SlotName, manifest: Manifest): Promise<void> {
    await super.seal(slot, this.#text);
    await super.sync(slot, manifest);
  }
  with(text: Uint8Array): this {
    this.#text = text;
    return this;
  }
}

class SwitchesBeforeSync extends SlotStore {
  readonly #disk: SlotDisk;
  constructor(disk: SlotDisk) {
    super(disk);
    this.#disk = disk;
  }
  override async sync(slot: SlotName, manifest: Manifest): Promise<void> {
    await pointDurably(this.#disk, 'current', slot);
    await super.sync(slot, manifest);
  }
}

/** The link first, then what it is on trial by. */
class SwitchesUncounted extends SlotStore {
  override async switchTo(slot: SlotName, from: SlotName): Promise<void> {
    await super.switchBack(slot, from, null);
    await super.switchTo(slot, from);
  }
}

class ConfirmsAtOnce extends SlotStore {
  override async switchTo(slot: SlotName, from: SlotName): Promise<void> {
    await super.switchTo(slot, from);
    await super.confirm(slot);
  }
}

class RaisesAtOnce extends SlotStore {
  #version: string | null = null;
  override async sync(slot: SlotName, manifest: Manifest): Promise<void> {
    this.#version = manifest.version;
    await super.sync(slot, manifest);
  }
  override async switchTo(slot: SlotName, from: SlotName): Promise<void> {
    await super.switchTo(slot, from);
    if (this.#version !== null) await super.raiseFloor(this.#version);
  }
}

class NeverRaises extends SlotStore {
  override raiseFloor = nothing;
}

/** Goes back without a word of it. */
class ForgetsFailure extends SlotStore {
  override switchBack(slot: SlotName, from: SlotName): Promise<void> {
    return super.switchBack(slot, from, null);
  }
}

interface Mutation {
  readonly what: string;
  readonly by: readonly Behaviour[];
  readonly from?: UpdateStep['do'];
  readonly fault?: (text: Uint8Array) => MachineFault;
  readonly launcher?: (text: string) => string;
}

const replaced = (from: string | RegExp, to: string) => (text: string) => {
  const changed = text.replace(from, to);
  if (changed === text) throw new Error(`the launcher has no ${from}`);
  return changed;
};

const disk = (change: (disk: SlotDisk) => Partial<SlotDisk>) => () => ({ disk: diskWith(change) });
const slots = (Store: new (disk: SlotDisk) => SlotStore) => () => ({ slots: (one: SlotDisk) => new Store(one) });

const MUTATIONS: readonly Mutation[] = [
  {
    what: 'small files are not synced before their rename',
    by: ['good'],
    fault: disk((on) => ({
      create: async (path, mode) => ({ ...(await on.create(path, mode)), sync: nothing }),
    })),
  },
  { what: 'files of a slot are not synced', from: 'sync', by: ['good'], fault: disk(() => ({ syncFile: nothing })) },
  { what: 'no folder is synced', by: ['good'], fault: disk(() => ({ syncFolder: nothing })) },
  {
    what: 'folders of a slot are not synced',
    from: 'sync',
    by: ['good'],
    fault: disk((on) => ({ syncFolder: (path) => (path.includes('/') ? nothing() : on.syncFolder(path)) })),
  },
  {
    what: 'files are written in place',
    by: ['good'],
    fault: disk((on) => ({
      rename: async (from, to) => {
        if ((await on.readLink(from)) !== null) return on.rename(from, to);
        const file = await on.create(to, 0o644);
        await file.append((await on.read(from)) ?? new Uint8Array(0));
        await file.sync();
        await file.close();
        await on.unlink(from);
      },
    })),
  },
  {
    what: 'the slot is sealed before it is synced',
    from: 'sync',
    by: ['good'],
    fault: (text) => ({ slots: (one) => new SealsFirst(one).with(text) }),
  },
  { what: 'the link before the trial', by: ['crashing'], fault: slots(SwitchesUncounted) },
  { what: 'confirmed before its proofs', by: ['mute'], fault: slots(ConfirmsAtOnce) },
  { what: 'the floor raised before it is confirmed', by: ['mute'], fault: slots(RaisesAtOnce) },
  { what: 'the floor never raised', by: ['good'], fault: slots(NeverRaises) },
  { what: 'gone back without noting why', by: ['mute'], fault: slots(ForgetsFailure) },
  {
    what: 'the launcher does not count',
    by: ['crashing'],
    launcher: replaced('starts=$((starts + 1))', 'starts=$starts'),
  },
  { what: 'the launcher never goes back', by: ['crashing'], launcher: replaced('most_starts=3', 'most_starts=99') },
  { what: 'the launcher writes no reason', by: ['crashing'], launcher: replaced('if put back', 'if : put back') },
  {
    what: 'the launcher does not sync files',
    from: 'switch',
    by: ['good', 'crashing'],
    launcher: replaced('sync "$1.new" && ', ''),
  },
  {
    what: 'the launcher ends the trial before it has gone back',
    by: ['crashing'],
    launcher: replaced('&& point current "$before" && rm -f trying', '&& rm -f trying && point current "$before"'),
  },
  {
    what: 'the launcher writes in place',
    from: 'switch',
    by: ['good'],
    launcher: replaced('>"$1.new" && sync "$1.new" && mv -fT "$1.new" "$1" && sync .', '>"$1" && sync "$1"'),
  },
  {
    // Each alone is made up for by the other.
    what: 'switched before it is synced, and the launcher takes what is not whole',
    by: ['good'],
    from: 'unpack',
    fault: slots(SwitchesBeforeSync),
    launcher: replaced('[ -s "$1/manifest.json" ] && ', ''),
  },
];

test('the lab notices faults in what it is to prove', async (t) => {
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'entryphone-powercut-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const releases = await labReleases(join(dir, 'repository'));
  for (const { what, by, from, fault, launcher } of MUTATIONS) {
    const startedMs = systemClock.nowMs();
    const faults: string[] = [];
    for (const behaviour of by) {
      const result = await cutEverywhere({
        ...{
          releases,
          behaviour,
          launcher: new LabLauncher(dir, launcher),
          mostBricked: 1,
          ...(from === undefined ? {} : { from }),
        },
        untilMs: Number.POSITIVE_INFINITY,
        fault: fault?.(releases.next.text) ?? {},
      });
      faults.push(...result.faults);
    }
    t.ok(
      faults.length > 0,
      `${what}: ${faults[0] ?? 'not noticed'} (${Math.round(systemClock.nowMs() - startedMs)} ms)`,
    );
  }
});
