import type { ChunkStore } from '../adapters/slots/chunk-store.js';
import type { SlotDisk } from '../adapters/slots/slot-disk.js';
import type { SlotStore } from '../adapters/slots/slot-store.js';
import type { Clock } from '../core/clock.js';
import type { Logger } from '../core/logger.js';
import type { Chunk } from '../fleet/manifest.js';
import type { UpdateJournal } from '../fleet/update-journal.js';
import type { Proof, Restarted, UpdateFacts } from '../fleet/update-plan.js';
import type { JobFile, KeptJob } from './job-file.js';

/** What an update asks of the station that it changes. */
export interface UpdateStation {
  facts(): Promise<Pick<UpdateFacts, 'architecture' | 'board' | 'nodeAbi' | 'firmware' | 'running' | 'isReady'>>;
  /** Resolves when nobody would be disturbed: no call, no ringing, no open door. Rejects with the signal's reason. */
  untilQuiet(signal: AbortSignal): Promise<void>;
  /** Why it is not quiet now, in words; null where it is. */
  noise(): string | null;
  /** Orders the supervisor. Where everything is restarted, this process ends before long. */
  restart(what: Restarted): Promise<void>;
  /** Waits for a proof as long as it may take. @returns what is wrong, in words; null where nothing is */
  prove(proof: Proof, signal: AbortSignal): Promise<string | null>;
}

export interface UpdateRunOptions {
  readonly job: KeptJob;
  readonly jobs: JobFile;
  readonly disk: SlotDisk;
  readonly slots: SlotStore;
  readonly chunks: ChunkStore;
  /** Brings a chunk, as it is stored; goes on trying until it has it or the signal says no more. */
  readonly fetch: (chunk: Chunk, signal: AbortSignal) => Promise<Uint8Array>;
  readonly station: UpdateStation;
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
