import type { ChunkStore } from '../adapters/slots/chunk-store.js';
import type { SlotDisk } from '../adapters/slots/slot-disk.js';
import type { SlotStore, SlotsOnDisk } from '../adapters/slots/slot-store.js';
import type { Clock } from '../core/clock.js';
import type { Logger } from '../core/logger.js';
import type { Chunk, ReleaseKind } from '../fleet/manifest.js';
import type { SlotName } from '../fleet/slots.js';
import type { UpdateJournal } from '../fleet/update-journal.js';
import type { Proof, UpdateFacts } from '../fleet/update-plan.js';
import type { JobFile, KeptJob } from './job-file.js';
import type { SeedFile } from './seed.js';

/** What an update asks of the station that it changes, whatever kind the release is of. */
export interface UpdateStation {
  readonly facts: Pick<UpdateFacts, 'architecture' | 'board' | 'nodeAbi' | 'firmware'>;
  /** Resolves when nobody would be disturbed: no call, no ringing, no open door. Rejects with the signal's reason. */
  untilQuiet(signal: AbortSignal): Promise<void>;
  /** Why it is not quiet now, in words; null where it is. */
  noise(): string | null;
}

/** What of the station takes up the releases of one kind. */
export interface ReleaseTarget {
  /** What runs before the first release of the kind. Never asked of firmware, whose first release was installed. @throws AppError */
  seed(signal: AbortSignal): Promise<readonly SeedFile[]>;
  /** Looks through a release that is whole in its slot. @returns why it can't be taken up, in words; null where it can */
  check(slot: SlotName, signal: AbortSignal): Promise<string | null>;
  /** The slot whose release is taken up; what nobody has changed since is that of `current`. Null: none, or that can't be known now. */
  running(slots: SlotsOnDisk): Promise<SlotName | null>;
  isReady(): Promise<boolean>;
  /** Has the release of a slot taken up. Where everything is restarted, this process ends before long. @throws AppError */
  restart(slot: SlotName, signal: AbortSignal): Promise<void>;
  /** Waits for a proof as long as it may take. @returns what is wrong, in words; null where nothing is */
  prove(proof: Proof, signal: AbortSignal): Promise<string | null>;
  /** Whether something is kept for the way back, which `settle` removes. */
  hasKept(): Promise<boolean>;
  /** No job leads away from `current` any more: it was confirmed, or gone back to. May be said again. */
  settle(slots: SlotsOnDisk): Promise<void>;
}

/** A kind that this station takes no releases of, and why, in words. */
export interface Untaken {
  readonly untaken: string;
}

export type ReleaseTargets = Readonly<Record<ReleaseKind, ReleaseTarget | Untaken>>;

export interface UpdateRunOptions {
  readonly job: KeptJob;
  readonly jobs: JobFile;
  /** Of the slots of the release's kind, as the two after it. */
  readonly disk: SlotDisk;
  readonly slots: SlotStore;
  readonly chunks: ChunkStore;
  /** Brings a chunk, as it is stored; goes on trying until it has it or the signal says no more. */
  readonly fetch: (chunk: Chunk, signal: AbortSignal) => Promise<Uint8Array>;
  readonly station: UpdateStation;
  readonly target: ReleaseTarget;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told whenever the job changes, and of its progress, a few times a second at most. */
  readonly told: (journal: UpdateJournal) => void;
}

/** What a step is carried out with. */
export interface StepContext {
  readonly options: UpdateRunOptions;
  /** Of this step: it is to stop, since the job ends otherwise. */
  readonly signal: AbortSignal;
  /** Of this step, in percent. */
  progress(pct: number): void;
}
