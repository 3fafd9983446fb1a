import type { Timer } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { storedBytesOf } from '../fleet/release-diff.js';
import { isOver, type JobEvent, transition, type UpdateJournal } from '../fleet/update-journal.js';
import { planUpdate, type UpdateFacts, type UpdateStep } from '../fleet/update-plan.js';
import type { StepContext, UpdateRunOptions } from './step-context.js';
import { type Doable, EXECUTE } from './steps.js';

/** A plan is made anew after each thing that came between; more often than this nothing good comes of it. */
const MOST_ROUNDS = 24;
const PROGRESS_EVERY_MS = 500;

/**
 * Carries out one job: plans by what is on the disk, does the plan's steps one after the other, each written down before it is begun
 * and after it is done, and plans anew whenever something came between.
 *
 *   job.json ─▶ tidy ─▶ planUpdate(state, desired, facts) ─▶ step ─▶ step ─▶ … ─▶ over
 *                 ▲                                           │ failed, cancelled, late, restarted
 *                 └───────────────────────────────────────────┘
 */
export class UpdateRun implements StepContext {
  readonly options: UpdateRunOptions;
  #journal: UpdateJournal;
  /** Of the step that is under way: it is to stop, since the job ends otherwise. */
  #step = new AbortController();
  #deadline: Timer | undefined;
  #isStopped = false;
  /** Whether the release before is ready was waited for, as long as it may take: there is no more to be done. */
  #hasAwaited = false;
  #toldAtMs = Number.NEGATIVE_INFINITY;
  #writing: Promise<unknown> = Promise.resolve();

  constructor(options: UpdateRunOptions) {
    this.options = options;
    this.#journal = options.job.journal;
  }

  get journal(): UpdateJournal {
    return this.#journal;
  }

  get signal(): AbortSignal {
    return this.#step.signal;
  }

  /**
   * Goes on with the job until it is over.
   * @throws AppError `update-stuck`: not even the way back can be gone; the next start, or the launcher, goes it
   */
  async run(): Promise<UpdateJournal> {
    this.#awaitDeadline();
    try {
      for (let round = 0; round < MOST_ROUNDS; round++) {
        if (this.#isStopped || isOver(this.#journal.state)) return this.#journal;
        this.#step = new AbortController();
        const back = await this.options.slots.tidy();
        if (back !== null) this.options.logger.warn({ ...back }, 'the launcher went back to the release before');
        const plan = await this.plan();
        if (plan.length === 0) await this.#end();
        else await this.#carryOut(plan);
      }
    } finally {
      this.#deadline?.cancel();
    }
    if (isOver(this.#journal.state)) return this.#journal;
    throw new AppError('update-stuck', `the job ${this.#journal.jobId} comes to no end`);
  }

  /** What is left to do now. */
  async plan(): Promise<UpdateStep[]> {
    const { slots, chunks, station, target, job } = this.options;
    const onDisk = await slots.read();
    const { state, current } = onDisk;
    const lacking = await chunks.lacking(job.manifest);
    const { hasSwitched, ending } = this.#journal;
    const facts: UpdateFacts = {
      ...station.facts,
      ...{ current, running: await target.running(onDisk), isReady: this.#hasAwaited || (await target.isReady()) },
      lackingBytes: storedBytesOf(lacking),
      hasFetched: (await chunks.hasFetched()) || (await target.hasKept()),
      hasSwitched,
      ending,
    };
    return planUpdate(state, { ...job.manifest, mayRetry: job.mayRetry }, facts);
  }

  /** Ends the job before its time. @returns whether it still could be */
  async cancel(reason: string): Promise<boolean> {
    return this.#endEarly({ type: 'cancel', reason });
  }

  /** This process ends: what is under way is left as it is, and gone on with by the next one. */
  stop(): void {
    this.#isStopped = true;
    this.#deadline?.cancel();
    this.#step.abort(new AppError('process-ends', 'the station ends'));
  }

  /** Of the step that is under way. */
  progress(pct: number): void {
    const result = transition(this.#journal, { type: 'progress', pct: Math.floor(pct) });
    // Not written down: it is told, and begins anew after a cut.
    if (!result.ok) return;
    this.#journal = result.journal;
    const nowMs = this.options.clock.nowMs();
    if (nowMs - this.#toldAtMs < PROGRESS_EVERY_MS) return;
    this.#toldAtMs = nowMs;
    this.options.told(this.#journal);
  }

  async #carryOut(plan: readonly UpdateStep[]): Promise<void> {
    for (const step of plan) {
      if (step.do === 'reject' || step.do === 'fail') {
        await this.#tell({ type: step.do, reason: step.reason });
        return;
      }
      const { ending } = this.#journal;
      if (!(await this.#tell({ type: 'begin', step }))) return;
      const isOnTheWay = await this.#execute(step);
      if (!isOnTheWay || this.#isStopped || this.#journal.ending !== ending) return;
      if (!(await this.#tell({ type: 'finish' }))) return;
    }
  }

  /** @returns whether the plan goes on as it is */
  async #execute(step: Doable): Promise<boolean> {
    const { logger } = this.options;
    const { jobId, ending } = this.#journal;
    logger.info({ job: jobId, step: step.do }, 'a step of an update');
    try {
      const isDone = (await EXECUTE[step.do](step as never, this)) === 'done';
      this.#hasAwaited ||= step.do === 'await-ready';
      return isDone;
    } catch (error) {
      // It was told to stop, by what has changed the job's end already.
      if (this.#isStopped || this.#journal.ending !== ending) return false;
      logger.warn({ job: jobId, step: step.do, error: errorText(error) }, 'a step of an update failed');
      if (isFull(error)) await this.#makeRoom(step);
      if (await this.#tell({ type: 'fail', reason: reasonOf(error) })) return false;
      throw new AppError('update-stuck', `${step.do}: ${errorText(error)}`, { cause: error });
    }
  }

  /** What is not whole is worth nothing; it may leave no room even to write down that the disk is full. */
  async #makeRoom(step: Doable): Promise<void> {
    const { disk, chunks, logger } = this.options;
    try {
      if (step.do === 'unpack') await disk.removeFolder(step.slot);
      if (step.do === 'fetch') await chunks.clean();
    } catch (error) {
      logger.error({ step: step.do, error: errorText(error) }, 'no room could be made on a full disk');
    }
  }

  async #end(): Promise<void> {
    const { state, current } = await this.options.slots.read();
    const here = state.slots[current];
    const isConfirmed = here.is === 'whole' && here.hash === this.#journal.hash && here.isConfirmed;
    await this.#tell({ type: 'end', isConfirmed });
  }

  #awaitDeadline(): void {
    const { job, clock, station } = this.options;
    if (job.deadlineMs === null) return;
    this.#deadline = clock.after(Math.max(0, job.deadlineMs - clock.wallMs()), () => {
      const noise = this.#journal.at?.do === 'wait-for-quiet' ? station.noise() : null;
      const reason = noise === null ? 'the deadline has passed' : `the deadline has passed: ${noise}`;
      this.#endEarly({ type: 'expire', reason }).catch((error: unknown) => {
        this.options.logger.error({ error: errorText(error) }, 'a job whose time is over can not be ended');
      });
    });
  }

  async #endEarly(event: JobEvent): Promise<boolean> {
    const isTaken = await this.#tell(event);
    if (isTaken) this.#step.abort(new AppError('job-ended', this.#journal.reason ?? 'the job has ended'));
    return isTaken;
  }

  /** Writes the change down, then tells it. @returns false where it can't happen to the job any more */
  #tell(event: JobEvent): Promise<boolean> {
    const { job, jobs, told } = this.options;
    const work = this.#writing.then(async () => {
      const result = transition(this.#journal, event);
      if (!result.ok) return false;
      await jobs.keep({ ...job, journal: result.journal });
      this.#journal = result.journal;
      told(result.journal);
      return true;
    });
    this.#writing = work.catch(() => {});
    return work;
  }
}

/** In words that a fleet manager reads. */
export function reasonOf(error: unknown): string {
  if (isFull(error)) return 'the disk is full';
  if ((error as NodeJS.ErrnoException).code === 'EROFS') return 'the slot is read-only';
  return errorText(error);
}

function isFull(error: unknown): boolean {
  return (error as NodeJS.ErrnoException).code === 'ENOSPC';
}
