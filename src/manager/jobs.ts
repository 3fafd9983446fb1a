import { randomBytes } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { FleetStore } from '../adapters/sqlite/fleet-store.js';
import type { Clock, Timer } from '../core/clock.js';
import type { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { ReleaseKind } from '../fleet/manifest.js';
import { isOver } from '../fleet/update-journal.js';
import { parseBody } from '../protocol/call-message.js';
import type { JobChange, JobView, StationView } from '../protocol/manager-api.js';
import { topic } from '../protocol/topics.js';
import {
  type Desired,
  desiredPath,
  jobPath,
  jobReportSchema,
  MOST_REV,
  type UpdateJob,
  updateJobSchema,
} from '../protocol/update-job.js';
import { findRelease } from './release-shelf.js';

/** A station that was away says what became of a job when it is back; until then the manager waits so long beyond the deadline. */
const GRACE_MS = 60_000;
const LOOK_EVERY_MS = 15_000;

export interface Wanted {
  readonly stations: readonly StationView[];
  readonly kind: ReleaseKind;
  readonly version: string;
  readonly deadlineMs: number | null;
  readonly isUrgent: boolean;
  readonly mayRetry: boolean;
  readonly baseUrl: string | null;
  readonly by: string;
}

export interface JobsOptions {
  readonly link: Pick<MqttLink, 'publish'>;
  readonly store: FleetStore;
  /** Of the repository. */
  readonly folder: string | undefined;
  readonly refused: Counters<string>;
  readonly onChange: (job: JobView) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * Updates that stations were told to make. What a station is to have is kept by the broker (`down/desired/{kind}`), and said again
 * whenever the station has connected, or the manager while its job is open: so it reaches a station that is away, a board that comes in
 * its place, and a broker that lost it. It is withdrawn with its job: by a cancel (`down/job/{id}`), or where that does not succeed; what
 * was desired before is again.
 */
export class Jobs {
  readonly #options: JobsOptions;
  /** How far the step is that a job is in: not worth a write to the disk each. */
  readonly #progress = new Map<string, JobChange>();
  #timer: Timer;

  constructor(options: JobsOptions) {
    this.#options = options;
    this.#timer = options.clock.after(LOOK_EVERY_MS, () => this.#look());
  }

  /**
   * Tells stations to update; all or none. Each may have one job that is not over.
   * @throws AppError `job-open`, `no-repository`, `release-unknown`, `release-unsigned`
   */
  async update(wanted: Wanted): Promise<JobView[]> {
    const { store, folder, clock } = this.#options;
    const open = store.openJobs();
    const targets = new Map<StationView, string>();
    for (const station of wanted.stations) {
      const busy = open.find((job) => job.site === station.site && job.station === station.station);
      if (busy !== undefined) {
        throw new AppError('job-open', `${station.station}@${station.site} has the job ${busy.jobId} still`, {
          remedy: `Wait for it, or: entryphone fleet cancel ${busy.jobId}`,
        });
      }
      targets.set(station, await findRelease(folder, { ...wanted, architecture: station.architecture }));
    }
    const nowMs = Math.round(clock.wallMs());
    const { kind, version, deadlineMs, isUrgent, mayRetry, baseUrl, by } = wanted;
    return [...targets].map(([{ site, station }, target]) => {
      const jobId = `u-${nowMs.toString(36)}-${randomBytes(4).toString('hex')}`;
      const deadlineAtMs = deadlineMs === null ? null : nowMs + deadlineMs;
      const rev = store.desired.nextRev(site, station, kind, this.#knownRev(site, station, kind));
      const said: Desired = {
        ...{ v: 1, id: jobId, seq: 0, site, station, rev, target, isUrgent, mayRetry, issuedAt: nowMs },
        ...(baseUrl === null ? {} : { baseUrl }),
        ...(deadlineAtMs === null ? {} : { deadlineAt: deadlineAtMs }),
      };
      const job = { jobId, site, station, kind, version, target, isUrgent, deadlineAtMs, by, createdAtMs: nowMs };
      store.addJob(job, rev, JSON.stringify(said));
      store.audit({
        by,
        what: 'update',
        target: `${station}@${site}`,
        outcome: 'ordered',
        detail: `${jobId} ${target}`,
      });
      this.#sayDesired(job);
      return this.#changed(jobId);
    });
  }

  /** The station says what became of it: it may be too late. @throws AppError `job-unknown`, `job-over` */
  cancel(jobId: string, by: string): JobView {
    const { store, clock } = this.#options;
    const job = store.job(jobId);
    if (job === undefined) throw noJob(jobId);
    if (job.isOver) throw new AppError('job-over', `the job ${jobId} is over: ${job.now.state}`);
    const { site, station } = job;
    store.audit({ by, what: 'cancel', target: `${station}@${site}`, outcome: 'ordered', detail: jobId });
    const reason = `canceled by ${by}`;
    const issuedAt = Math.round(clock.wallMs());
    const said: UpdateJob = { v: 1, id: jobId, seq: 1, do: 'cancel', site, station, issuedAt, reason };
    store.sayOfJob(jobId, JSON.stringify(said));
    store.desired.withdraw(jobId);
    this.#say(job);
    return job;
  }

  /** A message of `up/job/{id}`. */
  take(site: string, station: string, jobId: string, body: Uint8Array): void {
    const { store, refused, logger } = this.#options;
    const read = parseBody(jobReportSchema, body);
    if (!read.ok || read.value.id !== jobId) {
      refused.count('malformed-job-report');
      return;
    }
    const { seq, state, step, progress, reason, at } = read.value;
    const before = this.job(jobId);
    const isTheirs = before?.site === site && before.station === station;
    if (before === undefined || !isTheirs || seq <= before.now.seq) {
      refused.count('stale-job-report');
      return;
    }
    const told: JobChange = { seq, state, step, progressPct: progress, reason, atMs: at };
    const { now } = before;
    if (now.seq >= 0 && now.state === state && now.step === step && now.reason === reason) {
      this.#progress.set(jobId, told);
      this.#options.onChange({ ...before, now: told });
      return;
    }
    this.#progress.delete(jobId);
    const job = store.jobTold(site, station, jobId, told);
    if (job === undefined) return;
    if (isOver(state) && !before.isOver) {
      const target = `${station}@${site}`;
      logger.info({ jobId, target, state, reason }, 'a job is over');
      store.audit({ by: job.by, what: 'update', target, outcome: state, detail: `${jobId} ${reason ?? ''}`.trim() });
    }
    if (isOver(state)) this.#over(job);
    this.#options.onChange(job);
  }

  /** As it is now. */
  job(jobId: string): JobView | undefined {
    const job = this.#options.store.job(jobId);
    return job === undefined ? undefined : this.withProgress(job);
  }

  /** What the store has of a job, and how its step goes on since. */
  withProgress(job: JobView): JobView {
    const progress = this.#progress.get(job.jobId);
    return progress === undefined || progress.seq <= job.now.seq ? job : { ...job, now: progress };
  }

  /** The broker is there (again). */
  connected(): void {
    const { store } = this.#options;
    for (const job of store.openJobs()) this.#say(job);
  }

  /** A station is there (again): RabbitMQ 3.10 hands what it keeps to no subscription with a wildcard. */
  online(site: string, station: string): void {
    const { store } = this.#options;
    for (const { kind } of store.desired.of(site, station)) this.#sayDesired({ site, station, kind });
    for (const job of store.openJobs()) if (job.site === site && job.station === station) this.#sayCancel(job);
  }

  close(): void {
    this.#timer.cancel();
  }

  #changed(jobId: string): JobView {
    const job = this.#options.store.job(jobId);
    if (job === undefined) throw noJob(jobId);
    this.#options.onChange(job);
    return job;
  }

  /** A station that never says what became of a job must not keep it open for ever. */
  #look(): void {
    const { store, clock, refused } = this.#options;
    const nowMs = Math.round(clock.wallMs());
    for (const job of store.openJobs()) {
      if (job.deadlineAtMs === null || nowMs < job.deadlineAtMs + GRACE_MS) continue;
      const { site, station, jobId } = job;
      const reason = 'the station did not say by the deadline what became of it';
      this.#progress.delete(jobId);
      const over = store.jobSilent(jobId, reason);
      refused.count('silent-job');
      if (over === undefined) continue;
      store.audit({ by: job.by, what: 'update', target: `${station}@${site}`, outcome: 'timed_out', detail: jobId });
      this.#over(over);
      this.#options.onChange(over);
    }
    this.#timer = clock.after(LOOK_EVERY_MS, () => this.#look());
  }

  /** The greatest `rev` that the station has told of: another manager, or this one before its disk broke, may have been there. */
  #knownRev(site: string, station: string, kind: ReleaseKind): number {
    const body = this.#options.store.station(site, station)?.reports.find((report) => report.kind === kind)?.body;
    const revs = [body?.rev, body?.knownRev].filter((rev) => Number.isInteger(rev)) as number[];
    // The greatest there is would leave it without any to come: what says so is broken.
    return Math.max(0, ...revs.filter((rev) => rev < MOST_REV / 2));
  }

  /** The job has come to its end, whatever that is. */
  #over(job: JobView): void {
    const { store } = this.#options;
    const { desired } = store;
    const isNews = job.now.state === 'succeeded' ? desired.achieved(job.jobId) : desired.withdraw(job.jobId);
    if (isNews) this.#sayDesired(job);
    if (this.#isCanceled(job)) this.#publish(job, jobPath(job.jobId), '');
  }

  #say(job: JobView): void {
    this.#sayCancel(job);
    this.#sayDesired(job);
  }

  #sayCancel(job: JobView): void {
    if (this.#isCanceled(job)) this.#publish(job, jobPath(job.jobId), this.#options.store.saidOfJob(job.jobId) ?? '');
  }

  #isCanceled({ jobId }: JobView): boolean {
    const said = parseBody(updateJobSchema, Buffer.from(this.#options.store.saidOfJob(jobId) ?? ''));
    return said.ok && said.value.do === 'cancel';
  }

  #sayDesired({ site, station, kind }: Pick<JobView, 'site' | 'station' | 'kind'>): void {
    const desired = this.#options.store.desired.of(site, station).find((one) => one.kind === kind);
    this.#publish({ site, station }, desiredPath(kind), desired?.said ?? '');
  }

  /** @param body empty: the broker keeps nothing of it any more */
  #publish({ site, station }: Pick<JobView, 'site' | 'station'>, path: string, body: string): void {
    const { link, logger } = this.#options;
    link
      .publish({
        topic: topic(site, station, 'down', path),
        body,
        retained: true,
        qos: 1,
        // Without an expiry, which the broker would keep to: a station may be away for days.
        priority: 'state',
      })
      // Said again when the broker is there.
      .catch((error: unknown) => logger.debug({ path, error: errorText(error) }, 'the broker was not told of a job'));
  }
}

function noJob(jobId: string): AppError {
  return new AppError('job-unknown', `there is no job ${jobId}`, { remedy: 'See: entryphone fleet jobs' });
}
