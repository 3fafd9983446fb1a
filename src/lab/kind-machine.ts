import { readFileSync } from 'node:fs';
import { buildRelease } from '../adapters/releases/release-builder.js';
import { ReleaseRepository } from '../adapters/releases/release-repository.js';
import { diskOfKind, dropDurably, putDurably } from '../adapters/slots/slot-disk.js';
import { SlotStore, type SlotsOnDisk } from '../adapters/slots/slot-store.js';
import { AppError } from '../core/errors.js';
import type { ReleaseKind } from '../fleet/manifest.js';
import type { SlotName } from '../fleet/slots.js';
import type { UpdateJournal } from '../fleet/update-journal.js';
import type { ReleaseTarget } from '../update/step-context.js';
import type { UpdateRun } from '../update/update-run.js';
import { JobWatch, type SignedRelease } from './lab-job.js';
import { PowerCutDisk } from './power-cut-disk.js';

/** Kinds whose slots are below a folder of their own. */
export type OtherKind = Exclude<ReleaseKind, 'firmware'>;

/** How a release behaves: it proves itself; it is taken up and does not; who takes it up refuses its content. */
export type PartBehaviour = 'good' | 'mute' | 'refused';

const CONTENT = 'content';
/** Of the process that takes releases up, which keeps by itself what it was given, as Node-RED does. */
const TAKEN = 'process/taken';
/** What it was given before, until the trial is over, and which slot is on trial. */
const KEPT = 'process/kept';
const BEFORE = 'what ran before the first release';
const CHUNK_SIZES = { leastBytes: 2_048, normalBytes: 4_096, mostBytes: 16_384 };

/** A release of a kind in a repository. */
export async function partRelease(
  dir: string,
  kind: OtherKind,
): Promise<SignedRelease & { repository: ReleaseRepository }> {
  const repository = new ReleaseRepository(dir);
  const content = {
    path: CONTENT,
    mode: 0o644,
    content: { bytes: Buffer.from(`${kind} of 1.0.0 `.repeat(500)) },
  } as const;
  const description = { kind, version: '1.0.0', architecture: 'any', requires: { boards: [] } } as const;
  const { manifest, file } = await buildRelease(description, [content], repository, { sizes: CHUNK_SIZES });
  return { manifest, text: readFileSync(file), repository };
}

/** A disk on which no release of another kind than firmware has been yet. */
export async function diskBeforeParts(): Promise<PowerCutDisk> {
  const disk = new PowerCutDisk();
  await disk.makeFolder('process');
  await putDurably(disk, TAKEN, BEFORE);
  await disk.syncFolder('.');
  return disk.after({ changes: disk.unsyncedChanges, content: 'kept' });
}

/**
 * A station that is given a release of another kind than firmware, on a disk in memory. What takes it up is a process that goes on with
 * what it was given, whatever becomes of the station's.
 */
export class KindMachine {
  disk: PowerCutDisk;
  readonly #release: SignedRelease & { readonly repository: ReleaseRepository };
  readonly #behaviour: PartBehaviour;
  readonly job = new JobWatch();

  constructor(options: {
    release: SignedRelease & { readonly repository: ReleaseRepository };
    behaviour: PartBehaviour;
    disk: PowerCutDisk;
  }) {
    this.#release = options.release;
    this.#behaviour = options.behaviour;
    this.disk = options.disk;
  }

  get #kind(): ReleaseKind {
    return this.#release.manifest.kind;
  }

  /** Takes the job, or goes on with it, until it is over. @throws PowerCut where the disk says so */
  async update(onStep: (run: UpdateRun, step: string) => void = () => {}): Promise<UpdateJournal> {
    const { repository, ...release } = this.#release;
    const slotsDisk = diskOfKind(this.disk, this.#kind);
    const slots = new SlotStore(slotsDisk);
    const target = this.#target(slots);
    const run = await this.job.run({ release, repository, disk: this.disk, slotsDisk, slots, target, onStep });
    return run.run();
  }

  /** What is wrong once the job is over; null where nothing is. */
  async fault({ state, reason }: UpdateJournal): Promise<string | null> {
    const isGood = this.#behaviour === 'good';
    const expected = { good: 'succeeded', mute: 'failed', refused: 'failed' }[this.#behaviour];
    if (state !== expected) return `the job is ${state} (${reason}), not ${expected}`;
    if (state === 'failed' && reason === null) return 'the job failed for no reason';
    const on = await new SlotStore(diskOfKind(this.disk, this.#kind)).read();
    const here = on.state.slots[on.current];
    const version = isGood ? '1.0.0' : '0.0.0';
    if (here.is !== 'whole' || here.version !== version || !here.isConfirmed) {
      return `slot ${on.current} is ${JSON.stringify(here)}, not ${version}, confirmed`;
    }
    if (on.state.floor !== version) return `the floor is ${on.state.floor}, not ${version}`;
    const [taken, content] = [await this.#read(TAKEN), await this.#contentOf(on.current)];
    if (taken !== content || (taken === BEFORE) === isGood) return `what is taken up is ${taken?.slice(0, 30)}`;
    const left = [...(await this.disk.list(KEPT)), ...(await this.disk.list(`${this.#kind}/fetched`))];
    return left.length > 0 || (await this.#read(KEPT)) !== null ? 'something is left of the job' : null;
  }

  #target(slots: SlotStore): ReleaseTarget {
    return {
      seed: async () => [{ path: CONTENT, bytes: Buffer.from((await this.#read(TAKEN)) ?? '') }],
      check: async () => (this.#behaviour === 'refused' ? 'it can not be taken up' : null),
      running: (on) => this.#running(on),
      isReady: async () => true,
      restart: async (slot) => {
        const { trial } = (await slots.read()).state;
        if (trial?.slot === slot) {
          if ((await this.#read(KEPT)) === null) await this.#put(KEPT, `${slot} ${await this.#read(TAKEN)}`);
          await this.#put(TAKEN, (await this.#contentOf(slot)) ?? '');
        } else {
          const kept = await this.#read(KEPT);
          if (kept !== null) await this.#put(TAKEN, kept.slice(2));
        }
      },
      prove: async (proof) =>
        this.#behaviour === 'mute' && proof !== 'processes-ready' ? 'it does not do what it should' : null,
      hasKept: async () => (await this.#read(KEPT)) !== null,
      settle: () => dropDurably(this.disk, KEPT),
    };
  }

  async #running({ state, current }: SlotsOnDisk): Promise<SlotName> {
    const kept = await this.#read(KEPT);
    if (kept === null) return state.trial?.from ?? current;
    const tried = kept.slice(0, 1) as SlotName;
    const isTaken = (await this.#read(TAKEN)) === (await this.#contentOf(tried));
    return isTaken ? tried : tried === 'a' ? 'b' : 'a';
  }

  #contentOf(slot: SlotName): Promise<string | null> {
    return this.#read(`${this.#kind}/${slot}/${CONTENT}`);
  }

  async #read(path: string): Promise<string | null> {
    const bytes = await this.disk.read(path);
    return bytes === null ? null : Buffer.from(bytes).toString();
  }

  #put(path: string, content: string): Promise<void> {
    if (content === '') throw new AppError('slot-not-whole', `nothing to put at ${path}`);
    return putDurably(this.disk, path, content);
  }
}
