import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { RangeClient } from '../adapters/http/range-client.js';
import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { MetadataSource } from '../adapters/tuf/metadata-source.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { chunkFile, RELEASE_KINDS, type ReleaseKind } from '../fleet/manifest.js';
import { isOver, type JobState, stepTold, type UpdateJournal } from '../fleet/update-journal.js';
import { MOST_MANIFEST_BYTES } from '../protocol/release-manifest.js';
import { topic } from '../protocol/topics.js';
import { type JobReport, jobPath, type WantedUpdate } from '../protocol/update-job.js';
import { Artefacts, type PieceTransport } from '../update/artefacts.js';
import { JobIntake, type JobProgress } from '../update/job-intake.js';
import { metadataByArtefacts } from '../update/metadata-by-artefacts.js';
import { MqttPieces } from '../update/mqtt-pieces.js';
import { Pace } from '../update/pace.js';
import { PartialFiles } from '../update/partial-files.js';
import type { FetchChunk } from '../update/updater.js';
import type { StationReports } from './station-reports.js';
import type { StationUpdates } from './station-updates.js';

export interface FleetUpdatesOptions {
  readonly config: Config;
  readonly link: MqttLink;
  readonly reports: Pick<StationReports, 'release'>;
  /** Files wait while it is so. */
  readonly isInCall: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Web servers that connections are kept to. */
const MOST_CLIENTS = 4;
const decompress = promisify(zstdDecompress);
/** Of a job's origin; what follows is the URL of the repository, or nothing. */
const ORIGIN = 'fleet:';
const MOST_ARTEFACTS = 8;
/** Told of the job again and again, or of its progress, this is enough. */
const REPORT_EXPIRY_S = 86_400;

/**
 * What the fleet manager wants of this station's releases, and how they come: its jobs, the metadata that says what they are, and
 * their chunks.
 *
 *   down/desired, down/job ─▶ JobIntake ─▶ TufTrust ─▶ StationUpdates.order ─▶ up/job
 *   down/chunk ─▶ MqttPieces ┐                ▲              │ chunks
 *   HTTPS ranges ────────────┴─▶ Artefacts ───┴──────────────┘
 */
export class FleetUpdates {
  /** Files and pieces that were not taken. */
  readonly refused = new Counters<string>();
  readonly #options: FleetUpdatesOptions;
  readonly #pieces: MqttPieces;
  readonly #partials: PartialFiles;
  readonly #pace: Pace;
  /** Metadata are small, and a job that can't be judged can't be told of: they don't wait for the end of a call. */
  readonly #metadataPace: Pace;
  /** Each remembers which of its ways is not open. */
  readonly #artefacts = new Map<string, Artefacts>();
  readonly #clients = new Map<string, RangeClient>();
  #updates: StationUpdates | undefined;
  #intake: JobIntake | undefined;
  /** Where metadata come from: what the last order said. */
  #origin = ORIGIN;
  readonly #watching = new Set<(journal: UpdateJournal) => void>();

  /** @throws AppError `folder-unusable` */
  static async open(options: FleetUpdatesOptions): Promise<FleetUpdates> {
    return new FleetUpdates(options, await PartialFiles.open(join(options.config.state, 'partial-files')));
  }

  private constructor(options: FleetUpdatesOptions, partials: PartialFiles) {
    const { config, link, clock, isInCall } = options;
    const { id: station, site } = config.station;
    this.#options = options;
    this.#partials = partials;
    this.#pieces = new MqttPieces({ link, site, station, clock, refused: this.refused });
    const { maxRateBps: rateBps } = config.update;
    this.#pace = new Pace({ rateBps, isHeld: isInCall, clock });
    this.#metadataPace = new Pace({ rateBps, isHeld: () => false, clock });
  }

  /** For `TufTrust`. */
  readonly repository: MetadataSource = {
    read: async (name, signal) => {
      const source = metadataByArtefacts(this.#artefactsOf(this.#origin, 'trust'), MOST_MANIFEST_BYTES);
      if (!name.endsWith('/manifest.json')) return source.read(name, signal);
      // A quarter of the bytes. What it unpacks to is checked as if it had come so.
      const small = await source.read(`${name}.zst`, signal);
      return small === undefined ? source.read(name, signal) : unpacked(small);
    },
  };

  /** Brings the chunks of a job from the fleet. @returns undefined for another origin */
  fetcher(origin: string): FetchChunk | undefined {
    if (!origin.startsWith(ORIGIN)) return undefined;
    const artefacts = this.#artefactsOf(origin, 'chunks');
    return (chunk, signal) => artefacts.fetch(chunkFile(chunk.id), { mostBytes: chunk.storedBytes, signal });
  }

  /** Takes jobs from here on. */
  async serve(updates: StationUpdates): Promise<void> {
    const { config, clock, logger } = this.#options;
    const { id: station, site } = config.station;
    this.#updates = updates;
    this.#intake = await JobIntake.open({
      path: join(config.state, 'jobs-done.json'),
      ...{ site, station, clock, logger },
      quietHours: config.update.quietHours ?? null,
      run: (order, told, signal) => this.#run(order, told, signal),
      tell: (report) => this.#tell(report),
      ended: (kind) => this.#report(kind),
    });
    for (const kind of RELEASE_KINDS) this.#report(kind);
  }

  /** What came at `path` of `down/` from the fleet manager. @returns whether it is for us */
  take(path: string, message: LinkMessage): boolean {
    const [kind] = path.split('/', 1);
    if (kind === 'chunk') this.#pieces.take(path, message.body);
    else if ((kind === 'job' || kind === 'desired') && this.#intake !== undefined) {
      void this.#intake.take(path, message.body);
    } else return false;
    return true;
  }

  /** A job of the updater has changed. */
  changed(journal: UpdateJournal): void {
    for (const watch of this.#watching) watch(journal);
    // A stick's too, of which no intake knows.
    if (isOver(journal.state)) this.#report(journal.kind);
  }

  close(): void {
    this.#intake?.close();
    for (const client of this.#clients.values()) client.close();
  }

  async #run(order: WantedUpdate, told: (progress: JobProgress) => void, signal: AbortSignal): Promise<JobProgress> {
    const updates = this.#updates;
    if (updates?.trust === undefined) {
      throw new AppError('no-trust-root', 'this station knows nobody who may sign its releases');
    }
    const { jobId, deadlineMs, mayRetry, baseUrl, target } = order;
    const ended = Promise.withResolvers<UpdateJournal>();
    let isTaken = false;
    ended.promise.catch(() => {});
    const cancel = (): void => {
      const reason = signal.reason instanceof Error ? signal.reason.message : 'cancelled';
      void updates.cancel(jobId, reason);
    };
    const watch = (journal: UpdateJournal): void => {
      if (journal.jobId === jobId) {
        isTaken = true;
        told(progressOf(journal));
        if (isOver(journal.state)) ended.resolve(journal);
        // It stood still when it was cancelled.
        else if (signal.aborted) cancel();
      } else if (isTaken) {
        ended.reject(new AppError('job-replaced', `it stood still, and another took its place: ${journal.jobId}`));
      }
    };
    this.#watching.add(watch);
    signal.addEventListener('abort', cancel, { once: true });
    try {
      // Begun before this process was: it is gone on with, or over and not told yet.
      const known = updates.journal?.jobId === jobId ? updates.journal : null;
      if (known !== null) {
        watch(known);
        return progressOf(isOver(known.state) ? known : await ended.promise);
      }
      this.#origin = `${ORIGIN}${baseUrl ?? ''}`;
      const { bytes } = await updates.trust.signedManifest(target);
      signal.throwIfAborted();
      await updates.order({ jobId, manifestText: bytes, origin: this.#origin, deadlineMs, mayRetry });
      return progressOf(await ended.promise);
    } catch (error) {
      if (signal.aborted) return { ...NOTHING_DONE, state: 'canceled', reason: (signal.reason as Error).message };
      throw error;
    } finally {
      this.#watching.delete(watch);
      signal.removeEventListener('abort', cancel);
    }
  }

  #artefactsOf(origin: string, job: 'trust' | 'chunks'): Artefacts {
    const known = this.#artefacts.get(`${job} ${origin}`);
    if (known !== undefined) return known;
    const { clock } = this.#options;
    const https = this.#client(origin.slice(ORIGIN.length));
    const transports: PieceTransport[] = https === undefined ? [this.#pieces] : [https, this.#pieces];
    const pace = job === 'trust' ? this.#metadataPace : this.#pace;
    const { refused } = this;
    const artefacts = new Artefacts({ transports, job, pace, partials: this.#partials, clock, refused });
    // Of the repositories that were named, the last few.
    if (this.#artefacts.size >= MOST_ARTEFACTS) this.#artefacts.clear();
    this.#artefacts.set(`${job} ${origin}`, artefacts);
    return artefacts;
  }

  #client(baseUrl: string): RangeClient | undefined {
    if (baseUrl === '') return undefined;
    const known = this.#clients.get(baseUrl);
    if (known !== undefined) return known;
    const { config, clock } = this.#options;
    const ca = config.update.ca === undefined ? undefined : readFileSync(config.update.ca);
    const client = new RangeClient({ baseUrl, ca, clock });
    // Of one job at a time: an older one has nothing under way.
    for (const [url, oldest] of this.#clients) {
      if (this.#clients.size < MOST_CLIENTS) break;
      oldest.close();
      this.#clients.delete(url);
    }
    this.#clients.set(baseUrl, client);
    return client;
  }

  /** What runs of a kind, of which desired state it came, and why it is not what was asked for last. */
  #report(kind: ReleaseKind): void {
    const { reports, logger } = this.#options;
    const report = async (): Promise<void> => {
      const { version, hash } = (await this.#updates?.running(kind)) ?? { version: null, hash: null };
      const { done, succeeded } = this.#intake?.lastOf(kind) ?? {};
      // By a stick, or by hand, another may have come since.
      const came = succeeded?.target.split('/')[1] === version ? succeeded : undefined;
      const isWanted = done === undefined || isAsWanted(done.report.state);
      reports.release(kind, {
        rev: came?.rev ?? null,
        knownRev: this.#intake?.knownRev(kind) ?? 0,
        ...{ version, hash, appliedAt: came?.report.at ?? null },
        error: isWanted ? null : (done.report.reason ?? done.report.state),
      });
    };
    report().catch((fault: unknown) => logger.warn({ error: errorText(fault) }, 'what runs was not reported'));
  }

  #tell(report: JobReport): void {
    const { link, config, logger } = this.#options;
    const { id: station, site } = config.station;
    link
      .publish({
        topic: topic(site, station, 'up', jobPath(report.id)),
        body: JSON.stringify(report),
        ...{ qos: 1, priority: 'state', expiryS: REPORT_EXPIRY_S },
      })
      // A job that is over is told again when the manager asks for it again.
      .catch(() => logger.warn({ job: report.id }, 'a report of a job was not sent'));
  }
}

/** Nobody wants anything else: it runs, or was called off. */
const isAsWanted = (state: JobState): boolean => ['succeeded', 'canceled', 'removed'].includes(state);

const NOTHING_DONE = { seq: 1, step: null, progress: 0 } as const;

function progressOf(journal: UpdateJournal): JobProgress {
  const { seq, state, progressPct, reason } = journal;
  return { seq: seq + 1, state, step: stepTold(journal), progress: progressPct, reason };
}

async function* unpacked(pieces: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const stored: Uint8Array[] = [];
  for await (const piece of pieces) stored.push(piece);
  try {
    yield await decompress(Buffer.concat(stored), { maxOutputLength: MOST_MANIFEST_BYTES });
  } catch (cause) {
    throw new AppError('trust-malformed', 'a manifest came that can not be unpacked', { cause });
  }
}
