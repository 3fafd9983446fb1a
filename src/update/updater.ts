import { ChunkStore } from '../adapters/slots/chunk-store.js';
import { diskOfKind, type SlotDisk } from '../adapters/slots/slot-disk.js';
import { SlotStore, type SlotsOnDisk } from '../adapters/slots/slot-store.js';
import type { Clock, Timer } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { type Chunk, RELEASE_KINDS, type ReleaseKind } from '../fleet/manifest.js';
import { isOver, newJob, type UpdateJournal } from '../fleet/update-journal.js';
import { readManifest } from '../protocol/release-manifest.js';
import { JobFile, type KeptJob } from './job-file.js';
import type { ReleaseTarget, ReleaseTargets, UpdateStation } from './step-context.js';
import { UpdateRun } from './update-run.js';

/** Brings a chunk, as it is stored; goes on trying until it has it or the signal says no more. */
export type FetchChunk = (chunk: Chunk, signal: AbortSignal) => Promise<Uint8Array>;

export interface UpdaterOptions {
  readonly disk: SlotDisk;
  readonly station: UpdateStation;
  readonly targets: ReleaseTargets;
  /** Where a job's release comes from, by what the job says of it; also after a restart. */
  readonly source: (origin: string) => FetchChunk;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told of each change of the job, in the order of its `seq`. */
  readonly told: (journal: UpdateJournal) => void;
}

/** A job whose release is vouched for: who takes it has checked the manifest's signature. */
export interface UpdateOrder {
  readonly jobId: string;
  readonly manifestText: Uint8Array;
  /** Where the chunks are: what `source` understands. */
  readonly origin: string;
  /** ms since 1970; null: none. */
  readonly deadlineMs: number | null;
  /** Try also a release that failed here before. */
  readonly mayRetry: boolean;
}

/** What stood still is tried again: the disk may have room, the power may stay. */
const AGAIN_AFTER_MS = 60_000;

/** The one place where a station's releases are changed: a job at a time, gone on with after every restart. */
export class Updater {
  readonly #options: UpdaterOptions;
  readonly #jobs: JobFile;
  readonly #slots: Readonly<Record<ReleaseKind, SlotStore>>;
  #run: UpdateRun | null = null;
  #journal: UpdateJournal | null = null;
  /** Of the job that is being taken or is under way. */
  #busyWith: string | null = null;
  #isResuming = false;
  #again: Timer | null = null;
  #isClosed = false;

  constructor(options: UpdaterOptions) {
    this.#options = options;
    this.#jobs = new JobFile(options.disk);
    const slotsOf = (kind: ReleaseKind) => new SlotStore(diskOfKind(options.disk, kind));
    this.#slots = {
      firmware: slotsOf('firmware'),
      flows: slotsOf('flows'),
      config: slotsOf('config'),
      models: slotsOf('models'),
    };
  }

  /** The job that runs, or was the last; null before there was one. */
  get journal(): UpdateJournal | null {
    return this.#run?.journal ?? this.#journal;
  }

  /** What the slots of a kind hold. */
  async slots(kind: ReleaseKind): Promise<SlotsOnDisk> {
    return this.#slots[kind].read();
  }

  /**
   * Goes on with what was begun before this process was; what can't be read or tidied now is tried again.
   * @throws the disk's errors, where not even the job can be read
   */
  async resume(): Promise<void> {
    this.#isResuming = true;
    try {
      await this.#goOn();
    } catch (error) {
      this.#tryAgain();
      throw error;
    } finally {
      this.#isResuming = false;
    }
  }

  /**
   * Takes a job.
   * @throws AppError `update-busy` while another is under way, `manifest-invalid`, `kind-untaken`
   */
  async order({ jobId, manifestText, origin, deadlineMs, mayRetry }: UpdateOrder): Promise<void> {
    if (this.#busyWith !== null || this.#isResuming) {
      throw new AppError('update-busy', `the job ${this.#busyWith ?? 'before'} is under way`, {
        remedy: 'Wait for its end, or cancel it',
      });
    }
    const read = readManifest(manifestText);
    if (!read.ok) throw new AppError('manifest-invalid', `the manifest is refused: ${read.why} (${read.fault})`);
    const { kind, version, hash } = read.value;
    this.#targetOf(kind);
    const journal = newJob({ jobId, kind, version, hash });
    const kept: KeptJob = { journal, manifest: read.value, manifestText, origin, deadlineMs, mayRetry };
    this.#busyWith = jobId;
    try {
      await this.#jobs.begin(kept);
    } catch (error) {
      this.#busyWith = null;
      throw error;
    }
    this.#journal = journal;
    this.#options.told(journal);
    this.#start(kept);
  }

  /** @returns whether there was such a job, and it could still be ended */
  async cancel(jobId: string, reason: string): Promise<boolean> {
    return this.#run?.journal.jobId === jobId ? this.#run.cancel(reason) : false;
  }

  /** Nothing is begun any more; what is under way goes on after the next start. */
  close(): void {
    this.#isClosed = true;
    this.#again?.cancel();
    this.#run?.stop();
  }

  async #goOn(): Promise<void> {
    const kept = await this.#jobs.read();
    const open = kept === null || isOver(kept.journal.state) ? null : kept.manifest.kind;
    for (const kind of RELEASE_KINDS) {
      try {
        await this.#settle(kind, kind === open);
      } catch (error) {
        // The job of another kind may be on trial: it does not wait for this one.
        this.#options.logger.error({ kind, error: errorText(error) }, 'what an update left can not be tidied yet');
        this.#tryAgain();
      }
    }
    if (kept === null) return;
    this.#journal = kept.journal;
    // Told again: nobody knows whether the last word of it was heard.
    this.#options.told(kept.journal);
    if (open !== null) this.#start(kept);
  }

  async #settle(kind: ReleaseKind, isOpen: boolean): Promise<void> {
    const back = await this.#slots[kind].tidy();
    if (back !== null) this.#options.logger.warn({ kind, ...back }, 'the launcher went back to the release before');
    const target = this.#options.targets[kind];
    // A power cut may have brought back what was removed at the end of a job.
    if (!isOpen && !('untaken' in target)) await target.settle(await this.#slots[kind].read());
  }

  /** @throws AppError `kind-untaken` */
  #targetOf(kind: ReleaseKind): ReleaseTarget {
    const target = this.#options.targets[kind];
    if ('untaken' in target) throw new AppError('kind-untaken', `no releases of ${kind}: ${target.untaken}`);
    return target;
  }

  #start(job: KeptJob): void {
    this.#busyWith = job.journal.jobId;
    void this.#carryOut(job).catch((error: unknown) => {
      this.#busyWith = null;
      this.#options.logger.error({ job: job.journal.jobId, error: errorText(error) }, 'an update stands still');
      if (this.#isClosed) return;
      this.#tryAgain();
    });
  }

  #tryAgain(): void {
    this.#again ??= this.#options.clock.after(AGAIN_AFTER_MS, () => {
      this.#again = null;
      if (this.#isClosed) return;
      if (this.#busyWith !== null || this.#isResuming) {
        this.#tryAgain();
        return;
      }
      this.resume().catch((error: unknown) => {
        this.#options.logger.error({ error: errorText(error) }, 'an update still stands still');
      });
    });
  }

  async #carryOut(job: KeptJob): Promise<void> {
    const { source, station, clock, logger, told } = this.#options;
    const { kind } = job.manifest;
    const [disk, slots] = [diskOfKind(this.#options.disk, kind), this.#slots[kind]];
    const { current, manifests } = await slots.read();
    const manifest = manifests[current];
    const run = new UpdateRun({
      job,
      jobs: this.#jobs,
      disk,
      slots,
      chunks: new ChunkStore(disk, manifest === null ? null : { slot: current, manifest }),
      fetch: source(job.origin),
      station,
      target: this.#targetOf(kind),
      clock,
      logger,
      told,
    });
    this.#run = run;
    try {
      this.#journal = await run.run();
    } finally {
      this.#journal = run.journal;
      this.#run = null;
      this.#busyWith = null;
    }
  }
}
