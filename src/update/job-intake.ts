import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import type { ReleaseKind } from '../fleet/manifest.js';
import { isOver } from '../fleet/update-journal.js';
import { type JobReport, readWanted, type Wanted, type WantedUpdate } from '../protocol/update-job.js';
import { DoneJobs, MOST_AHEAD_MS } from './done-jobs.js';
import { pause } from './pace.js';
import { type QuietHours, untilQuietHoursMs } from './quiet-hours.js';
import { reasonOf } from './update-run.js';

/** What is told of a job while it goes on, and at its end. */
export type JobProgress = Pick<JobReport, 'seq' | 'state' | 'step' | 'progress' | 'reason'>;

export interface JobIntakeOptions {
  /** Of the list of jobs that are done. */
  readonly path: string;
  readonly site: string;
  readonly station: string;
  /** Jobs that are not urgent begin within them alone; null: at any hour. */
  readonly quietHours: QuietHours | null;
  /**
   * Carries an order out and tells how it goes. A job that is under way already, since before a restart, is gone on with.
   * `signal` is given with the reason of a cancel; whether the job can still be ended is for who carries it out to know.
   * @returns its end
   * @throws AppError `trust-unreachable`, `trust-too-slow`: it is tried again until the deadline; any other error is its end
   */
  readonly run: (
    order: WantedUpdate,
    told: (progress: JobProgress) => void,
    signal: AbortSignal,
  ) => Promise<JobProgress>;
  /** To the fleet manager. A job that is over is remembered before it is told. */
  readonly tell: (report: JobReport) => void;
  /** A job about this kind is over, and remembered. */
  readonly ended: (kind: ReleaseKind) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Jobs that wait for the one that is under way, or for their hour. */
const MOST_WAITING = 4;
/** Messages in a minute: many times what a manager has to say. */
const MOST_TAKEN = 100;
/** The clock of the wall may be set while a job waits for its hour. */
const LOOK_AGAIN_MS = 60_000;
const MOST_REASON_CHARS = 200;
/** Metadata that does not come yet: nothing is begun, nothing is wrong with the release. */
const PASSING = new Set(['trust-unreachable', 'trust-too-slow', 'update-busy']);
const TRY_AGAIN_MS = 60_000;

/**
 * Takes what the fleet manager wants of this station, one job at a time, others behind it:
 *
 *   job/{id}, desired/{kind} ──▶ known? old? stale? late? ──▶ [ at most 4 wait ] ──quiet hours──▶ run ──▶ remembered ──▶ told
 *
 * A broker keeps jobs and says them again at each start: one that is done is told about, and not done again. What is desired has a
 * `rev` that grows: an older one is refused, in words, unless it was issued later.
 */
export class JobIntake {
  /** Faults of `readWanted`; `already-done`, `old`, `stale`, `too-many`, `too-late`, `flood`. */
  readonly refused = new Counters<string>();
  readonly #options: JobIntakeOptions;
  readonly #done: DoneJobs;
  readonly #warnings: RateLimit;
  readonly #taken: RateLimit;
  readonly #waiting: WantedUpdate[] = [];
  #current: { order: WantedUpdate; last: JobProgress; cancel: AbortController } | null = null;
  #timer: Timer | null = null;
  #isClosed = false;

  private constructor(options: JobIntakeOptions, done: DoneJobs) {
    this.#options = options;
    this.#done = done;
    this.#warnings = new RateLimit({ most: 5, perMs: 10_000, clock: options.clock });
    this.#taken = new RateLimit({ most: MOST_TAKEN, perMs: 60_000, clock: options.clock });
  }

  static async open(options: JobIntakeOptions): Promise<JobIntake> {
    return new JobIntake(options, await DoneJobs.open(options.path, options.clock, options.logger));
  }

  /** The job that is under way; null where none is. */
  get current(): WantedUpdate | null {
    return this.#current?.order ?? null;
  }

  get waiting(): number {
    return this.#waiting.length;
  }

  /** The greatest `rev` of desired states of this kind that was heard of; 0 before the first. */
  knownRev(kind: ReleaseKind): number {
    const open = [...this.#waiting, ...(this.#current === null ? [] : [this.#current.order])];
    const revs = open.map((order) => (order.kind === kind ? (order.rev ?? 0) : 0));
    return Math.max(this.#done.revOf(kind), ...revs);
  }

  /** What is remembered of the last jobs about this kind. */
  lastOf(kind: ReleaseKind): ReturnType<DoneJobs['lastOf']> {
    return this.#done.lastOf(kind);
  }

  /** What came at `path` of `down/`. Resolves when it is taken, or refused and counted; never rejects. */
  async take(path: string, body: Uint8Array): Promise<void> {
    const { site, station, logger } = this.#options;
    if (this.#isClosed) return;
    // Whatever comes of it is written to the disk, and told.
    if (this.#taken.admit() === undefined) {
      this.#refuse('flood', path);
      return;
    }
    const read = readWanted(path, body, { site, station });
    if (!read.ok) {
      this.#refuse(read.fault, `${path} ${read.why ?? ''}`);
      return;
    }
    try {
      await this.#wanted(read.value);
    } catch (error) {
      logger.error({ path, error: errorText(error) }, 'a job could not be taken');
    }
  }

  /** Nothing is begun any more; a job that is under way is not over, and gone on with after the next start. */
  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
    this.#waiting.length = 0;
  }

  async #wanted(wanted: Wanted): Promise<void> {
    if (wanted.do === 'update') {
      await this.#order(wanted.order);
      return;
    }
    const at = this.#waiting.findIndex(({ jobId, kind, rev }) =>
      wanted.do === 'withdraw' ? rev !== null && kind === wanted.kind : jobId === wanted.jobId,
    );
    const [waiting] = at < 0 ? [] : this.#waiting.slice(at, at + 1);
    if (wanted.do === 'forget' || wanted.do === 'withdraw') {
      if (at >= 0) this.#waiting.splice(at, 1);
      if (waiting !== undefined) await this.#over(waiting, { ...AT_ONCE, state: 'removed', reason: null });
      return;
    }
    const known = waiting ?? (this.current?.jobId === wanted.jobId ? this.current : undefined);
    if (known !== undefined && wanted.seq <= known.seq) {
      this.#refuse('stale', wanted.jobId);
      return;
    }
    if (this.#retold(wanted.jobId)) return;
    if (waiting !== undefined) {
      this.#waiting.splice(at, 1);
      await this.#over(waiting, { ...AT_ONCE, state: 'canceled', reason: wanted.reason });
    } else if (known !== undefined) this.#current?.cancel.abort(new AppError('job-canceled', wanted.reason));
    // Of a job that never came. It may still come, behind its cancel.
    else await this.#over(ghostOf(wanted), { ...AT_ONCE, state: 'canceled', reason: wanted.reason });
  }

  async #order(order: WantedUpdate): Promise<void> {
    const { clock } = this.#options;
    const { jobId, issuedAtMs, deadlineMs, kind, rev } = order;
    if (this.#retold(jobId)) {
      // What is desired now is said at each start.
      if (rev === null || rev < this.knownRev(kind)) this.#refuse('already-done', jobId);
      return;
    }
    if (jobId === this.current?.jobId) {
      this.#tell(order, this.#current?.last ?? QUEUED);
      return;
    }
    if (this.#waiting.some((one) => one.jobId === jobId)) return;
    if (rev !== null && this.#isStale(order, rev)) {
      this.#refuse('stale', jobId);
      const known = this.knownRev(kind);
      const reason = `rev ${rev} of what ${kind} is desired is no newer than rev ${known}, which this station has`;
      // Not remembered: whoever can write here could fill the list.
      this.#tell(order, { ...AT_ONCE, state: 'rejected', reason });
      return;
    }
    if (rev === null && this.#done.isOld(issuedAtMs)) {
      this.#refuse('old', jobId);
      await this.#over(order, {
        ...AT_ONCE,
        state: 'rejected',
        reason: 'it was issued before jobs that are long over',
      });
      return;
    }
    if (deadlineMs !== null && deadlineMs <= clock.wallMs()) {
      this.#refuse('too-late', jobId);
      await this.#over(order, { ...AT_ONCE, state: 'timed_out', reason: 'its time was over when it came' });
      return;
    }
    const superseded = this.#superseded(order);
    if (this.#waiting.length >= MOST_WAITING) {
      this.#refuse('too-many', jobId);
      await this.#over(order, { ...AT_ONCE, state: 'rejected', reason: `${MOST_WAITING} jobs wait already` });
      return;
    }
    // Nothing is waited for until it is in the row: a second copy may be behind it.
    this.#waiting.push(order);
    this.#tell(order, QUEUED);
    this.#next();
    if (superseded === undefined) return;
    await this.#over(superseded, { ...AT_ONCE, state: 'canceled', reason: `rev ${rev} is wanted instead` });
  }

  /** As of what is done (`DoneJobs`), also against what waits or runs. */
  #isStale({ kind, issuedAtMs }: WantedUpdate, rev: number): boolean {
    const mostMs = this.#options.clock.wallMs() + MOST_AHEAD_MS;
    const open = [...this.#waiting, ...(this.#current === null ? [] : [this.#current.order])];
    const isNoNewer = (one: WantedUpdate) => (one.rev ?? 0) >= rev && Math.min(one.issuedAtMs, mostMs) >= issuedAtMs;
    return open.some((one) => one.kind === kind && isNoNewer(one)) || this.#done.isStale(kind, { rev, issuedAtMs });
  }

  /** Of what was wanted of a kind only the last counts. @returns what waited, and does no longer */
  #superseded({ kind, rev }: WantedUpdate): WantedUpdate | undefined {
    const old = rev === null ? -1 : this.#waiting.findIndex((one) => one.rev !== null && one.kind === kind);
    const [order] = old < 0 ? [] : this.#waiting.splice(old, 1);
    return order;
  }

  /** Begins what may begin, and comes back for the rest. */
  #next(): void {
    const { clock, quietHours } = this.#options;
    this.#timer?.cancel();
    this.#timer = null;
    if (this.#isClosed) return;
    const nowMs = clock.wallMs();
    const late = this.#waiting.filter(({ deadlineMs }) => deadlineMs !== null && deadlineMs <= nowMs);
    for (const order of late) {
      this.#waiting.splice(this.#waiting.indexOf(order), 1);
      const reason = this.#current === null ? 'its time was over before its hour' : 'its time was over before its turn';
      void this.#over(order, { ...AT_ONCE, state: 'timed_out', reason });
    }
    const quietInMs = quietHours === null ? 0 : untilQuietHoursMs(quietHours, nowMs);
    const first = this.#waiting.findIndex(({ isUrgent }) => isUrgent || quietInMs === 0);
    if (this.#current === null && first >= 0) {
      const [order] = this.#waiting.splice(first, 1);
      if (order !== undefined) void this.#run(order);
    }
    if (this.#waiting.length === 0) return;
    const deadlines = this.#waiting.map(({ deadlineMs }) => (deadlineMs ?? Infinity) - nowMs);
    const inMs = Math.min(LOOK_AGAIN_MS, ...deadlines, quietInMs === 0 ? Infinity : quietInMs);
    this.#timer = clock.after(Math.max(1, inMs), () => this.#next());
  }

  async #run(order: WantedUpdate): Promise<void> {
    const current = { order, last: QUEUED as JobProgress, cancel: new AbortController() };
    this.#current = current;
    let toldMs = Number.NEGATIVE_INFINITY;
    const told = (progress: JobProgress): void => {
      const { state, step, reason } = current.last;
      current.last = progress;
      // The end is told when it is remembered.
      if (isOver(progress.state) || this.#current !== current) return;
      // A step may go on by thousands of files, each a message to the manager.
      const nowMs = this.#options.clock.nowMs();
      const isOnward = progress.state === state && progress.step === step && progress.reason === reason;
      if (isOnward && nowMs - toldMs < PROGRESS_EVERY_MS) return;
      toldMs = nowMs;
      this.#tell(order, progress);
    };
    let end: JobProgress | undefined;
    while (end === undefined && !this.#isClosed)
      end = await this.#attempt(order, () => current.last, told, current.cancel.signal);
    if (this.#isClosed || end === undefined) return;
    this.#current = null;
    await this.#over(order, end);
    this.#next();
  }

  /** @returns undefined where what it failed by may pass: the broker is away, the line is slow; it has been waited for a while */
  async #attempt(
    order: WantedUpdate,
    last: () => JobProgress,
    told: (progress: JobProgress) => void,
    signal: AbortSignal,
  ): Promise<JobProgress | undefined> {
    const { clock, run } = this.#options;
    try {
      return await run(order, told, signal);
    } catch (error) {
      const { seq, step, progress } = last();
      const ended = (state: 'failed' | 'canceled' | 'timed_out', reason: string): JobProgress => ({
        ...{ seq: seq + 1, step, progress, state, reason },
      });
      if (!(error instanceof AppError) || !PASSING.has(error.code)) return ended('failed', reasonOf(error));
      const leftMs = (order.deadlineMs ?? Infinity) - clock.wallMs();
      if (leftMs <= 0) return ended('timed_out', `its time is over: ${error.message}`);
      told({ ...last(), seq: seq + 1, reason: error.message.slice(0, MOST_REASON_CHARS) });
      try {
        await pause(clock, Math.min(TRY_AGAIN_MS, leftMs), signal);
      } catch {
        return ended('canceled', errorText(signal.reason));
      }
      return undefined;
    }
  }

  /** Remembers the end, then tells it. */
  async #over(order: WantedUpdate, end: JobProgress): Promise<void> {
    const report = this.#report(order, end);
    const { issuedAtMs, rev, kind, target } = order;
    try {
      await this.#done.add({ report, issuedAtMs, rev, kind, target });
    } catch (error) {
      // Told all the same: if it is said again, the plan of the update finds it done.
      this.#options.logger.error({ job: order.jobId, error: errorText(error) }, 'the end of a job can not be kept');
    }
    this.#options.tell(report);
    this.#options.ended(kind);
  }

  /** Tells the end of a job that is over again. @returns whether it is */
  #retold(jobId: string): boolean {
    const done = this.#done.get(jobId);
    if (done !== undefined) this.#options.tell(done.report);
    return done !== undefined;
  }

  #tell(order: WantedUpdate, progress: JobProgress): void {
    this.#options.tell(this.#report(order, progress));
  }

  #report({ jobId }: Pick<WantedUpdate, 'jobId'>, { seq, state, step, progress, reason }: JobProgress): JobReport {
    const words = reason?.slice(0, MOST_REASON_CHARS) ?? null;
    return { v: 1, id: jobId, seq, state, step, progress, reason: words, at: this.#options.clock.wallMs() };
  }

  #refuse(fault: string, about: string): void {
    this.refused.count(fault);
    if (this.#warnings.admit() === undefined) return;
    this.#options.logger.warn({ fault, about: about.slice(0, 200) }, 'a job was not taken');
  }
}

/** How often it is told that a step goes on. */
const PROGRESS_EVERY_MS = 1_000;

const QUEUED: JobProgress = { seq: 0, state: 'queued', step: null, progress: 0, reason: null };
/** Of a job that was never begun. */
const AT_ONCE = { seq: 1, step: null, progress: 0 } as const;

function ghostOf({ jobId, seq }: { jobId: string; seq: number }): WantedUpdate {
  return {
    ...{ jobId, seq, kind: 'firmware', target: '', baseUrl: null, isUrgent: false, mayRetry: false },
    ...{ issuedAtMs: 0, deadlineMs: null, rev: null },
  };
}
