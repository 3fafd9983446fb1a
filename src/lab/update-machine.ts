import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildRelease } from '../adapters/releases/release-builder.js';
import { ReleaseRepository } from '../adapters/releases/release-repository.js';
import type { TreeFile } from '../adapters/releases/release-tree.js';
import type { SlotDisk } from '../adapters/slots/slot-disk.js';
import { SlotStore } from '../adapters/slots/slot-store.js';
import { AppError } from '../core/errors.js';
import { packageRoot } from '../core/package-root.js';
import { otherSlot, type SlotName } from '../fleet/slots.js';
import type { UpdateJournal } from '../fleet/update-journal.js';
import type { ReleaseTarget } from '../update/step-context.js';
import type { UpdateRun } from '../update/update-run.js';
import { JobWatch, type SignedRelease } from './lab-job.js';
import type { LabLauncher } from './lab-launcher.js';
import { PowerCutDisk } from './power-cut-disk.js';

/** How a release behaves: it proves itself; it comes up but is not heard; its station ends as soon as it has begun. */
export type Behaviour = 'good' | 'mute' | 'crashing';

export interface LabReleases {
  readonly repository: ReleaseRepository;
  /** What ran before the old one. */
  readonly oldest: SignedRelease;
  readonly old: SignedRelease;
  readonly next: SignedRelease;
}

const startFile = join(packageRoot, 'device/start.sh');
const CHUNK_SIZES = { leastBytes: 2_048, normalBytes: 4_096, mostBytes: 16_384 };
const PROGRAM_BYTES = 30_000;

/** Three small releases of the layout of real ones; what stands for Node.js says whose it is. */
export async function labReleases(dir: string): Promise<LabReleases> {
  const repository = new ReleaseRepository(dir);
  const release = async (version: string): Promise<SignedRelease> => {
    const text = (path: string, content: string, mode: 0o644 | 0o755 = 0o644): TreeFile => ({
      path,
      mode,
      content: { bytes: Buffer.from(content) },
    });
    const files: TreeFile[] = [
      { path: 'device/start.sh', mode: 0o755, content: { from: startFile } },
      text('.toolchain/bin/node', `#!/bin/sh\necho release ${version}\n`, 0o755),
      text('dist/src/bin/station.js', madeText('station', PROGRAM_BYTES) + version),
      text('dist/src/bin/media.js', madeText('media', PROGRAM_BYTES)),
      text('flows/door-station.json', `[] ${version}`),
      text('empty', ''),
    ];
    const description = { kind: 'firmware', version, architecture: 'x64', requires: { boards: [] } } as const;
    const { manifest, file } = await buildRelease(description, files, repository, { sizes: CHUNK_SIZES });
    return { manifest, text: readFileSync(file) };
  };
  const [oldest, old] = [await release('0.9.0'), await release('1.0.0')];
  return { repository, oldest, old, next: await release('1.1.0') };
}

/** Text that does not repeat, the same for the same name. */
function madeText(name: string, sizeBytes: number): string {
  let text = '';
  for (let i = 0; text.length < sizeBytes; i++) text += createHash('sha256').update(`${name} ${i}`).digest('base64');
  return text;
}

/** A disk on which the old release runs, confirmed, and the one before it stands in the other slot. */
export async function diskWithOldRelease({ repository, oldest, old }: LabReleases): Promise<PowerCutDisk> {
  const disk = new PowerCutDisk();
  const slots = new SlotStore(disk);
  for (const [slot, { manifest, text }] of [
    ['b', oldest],
    ['a', old],
  ] as const) {
    await slots.unpack(slot, manifest, (chunk) => repository.readChunk(chunk));
    await slots.seal(slot, text);
  }
  await disk.link('a', 'current');
  await disk.link('b', 'previous');
  await slots.raiseFloor(old.manifest.version);
  return disk.after({ changes: disk.unsyncedChanges, content: 'kept' });
}

/** A fault that is put into what a machine is made of, to see whether it is noticed. */
export interface MachineFault {
  readonly disk?: (disk: SlotDisk) => SlotDisk;
  readonly slots?: (disk: SlotDisk) => SlotStore;
}

/** A station that is updated on a disk in memory, started by the real launcher. */
export class UpdateMachine {
  readonly disk: PowerCutDisk;
  readonly #releases: LabReleases;
  readonly #behaviour: Behaviour;
  readonly #launcher: LabLauncher;
  readonly #fault: MachineFault;
  running: SlotName | null = 'a';
  /** What the launcher said, at each start. */
  readonly starts: { readonly slot: SlotName | null; readonly isWhole: boolean }[] = [];
  readonly job = new JobWatch();

  constructor(options: {
    releases: LabReleases;
    behaviour: Behaviour;
    disk: PowerCutDisk;
    launcher: LabLauncher;
    fault?: MachineFault;
  }) {
    this.#releases = options.releases;
    this.#behaviour = options.behaviour;
    this.disk = options.disk;
    this.#launcher = options.launcher;
    this.#fault = options.fault ?? {};
  }

  /** What runs, below what nothing is taken, and why what stands in the other slot is not taken again. */
  async runs(): Promise<{ version: string | null; floor: string | null; failedThere: string | null }> {
    const { state, current, manifests } = await new SlotStore(this.disk).read();
    const version = this.running === null ? null : (manifests[this.running]?.version ?? null);
    const there = state.slots[otherSlot(current)];
    return { version, floor: state.floor, failedThere: there.is === 'failed' ? there.reason : null };
  }

  /**
   * Takes the job, or goes on with it, through every restart, until it is over.
   * @throws PowerCut where the disk says so
   */
  async update(onStep: (run: UpdateRun, step: string) => void = () => {}): Promise<UpdateJournal> {
    for (let lives = 0; lives < 12; lives++) {
      const journal = await this.#live(onStep);
      if (journal !== null) return journal;
      await this.start();
    }
    throw new AppError('update-stuck', 'the update comes to no end');
  }

  /**
   * The processes are started, as after power-on: by the real launcher, until they stay. What the disk has not synced stays unsynced.
   * @throws PowerCut where the disk says so
   */
  async start(): Promise<void> {
    for (let times = 0; times < 8; times++) {
      const { slot, version } = await this.#launcher.start(this.disk);
      this.starts.push({ slot, isWhole: slot !== null && this.#isWhole(slot, version) });
      this.running = slot;
      if (slot === null) return;
      const isNext = version === this.#releases.next.manifest.version;
      if (!(isNext && this.#behaviour === 'crashing')) return;
    }
    throw new AppError('update-stuck', 'a release that ends at once is started again and again');
  }

  /** @returns null where the process was restarted */
  async #live(onStep: (run: UpdateRun, step: string) => void): Promise<UpdateJournal | null> {
    const { repository, next: release } = this.#releases;
    const { disk: make = (one: SlotDisk) => one, slots: store = (one: SlotDisk) => new SlotStore(one) } = this.#fault;
    const disk = make(this.disk);
    const ended = Promise.withResolvers<null>();
    const target = this.#target(() => ended.resolve(null));
    const run = await this.job.run({
      ...{ release, repository, disk, slotsDisk: disk, slots: store(disk), target, onStep },
    });
    return Promise.race([run.run(), ended.promise]);
  }

  #target(end: () => void): ReleaseTarget {
    return {
      seed: () => Promise.reject(new AppError('slot-not-whole', 'the first release was installed')),
      check: async () => null,
      running: async () => this.running,
      isReady: async () => this.running !== null,
      hasKept: async () => false,
      settle: async () => {},
      // As it is for the process that orders it: what was under way is written, and nothing comes after.
      restart: () => {
        setImmediate(end);
        return new Promise(() => {});
      },
      prove: async (proof) => {
        const runs = await new SlotStore(this.disk).read();
        const isNext =
          this.running !== null && runs.manifests[this.running]?.hash === this.#releases.next.manifest.hash;
        return isNext && this.#behaviour === 'mute' && proof === 'self-test' ? 'the self-test heard nothing' : null;
      },
    };
  }

  /** Whether every file of the slot that was started is the one of its release. */
  #isWhole(slot: SlotName, version: string | null): boolean {
    const { oldest, old, next } = this.#releases;
    const release = [oldest, old, next].find(({ manifest }) => manifest.version === version);
    if (release === undefined) return false;
    const there = new Map(this.disk.entries());
    return release.manifest.files.every(({ path, sha256, mode }) => {
      const entry = there.get(`${slot}/${path}`);
      return entry?.is === 'file' && sha256Of(entry.bytes) === sha256 && entry.mode === mode;
    });
  }
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
