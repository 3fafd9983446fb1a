import { readFile } from 'node:fs/promises';
import * as z from 'zod';
import type { Clock } from '../core/clock.js';
import { writeDurably } from '../core/durable-file.js';
import type { Logger } from '../core/logger.js';
import { RELEASE_KINDS, type ReleaseKind } from '../fleet/manifest.js';
import { parseJson } from '../protocol/call-message.js';
import { jobReportSchema } from '../protocol/update-job.js';

/** So many are remembered one by one. */
const MOST_JOBS = 32;
export const MOST_AHEAD_MS = 86_400_000;

const doneSchema = z.object({
  report: jobReportSchema,
  issuedAtMs: z.number(),
  rev: z.int().nullable(),
  kind: z.enum(RELEASE_KINDS).default('firmware'),
  /** What it was about; empty of a cancel that came before its job. */
  target: z.string().max(200).default(''),
});
export type DoneJob = z.infer<typeof doneSchema>;

const fileSchema = z.object({
  v: z.literal(1),
  /** What was issued no later is done or forgotten. */
  floorMs: z.number(),
  done: z.array(doneSchema).max(MOST_JOBS),
});

/**
 * The jobs of a station that are over, in a file that a power cut leaves whole: what a broker keeps, or somebody replays, is not
 * done again. Of those that are no longer remembered one by one the latest time of issue is: nothing older is taken.
 */
export class DoneJobs {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #done: Map<string, DoneJob>;
  #floorMs: number;
  #writing: Promise<void> = Promise.resolve();

  private constructor(path: string, clock: Clock, { floorMs, done }: z.infer<typeof fileSchema>) {
    this.#path = path;
    this.#clock = clock;
    this.#floorMs = floorMs;
    this.#done = new Map(done.map((one) => [one.report.id, one]));
  }

  /** A damaged file is as good as none: the plan of an update refuses what is installed, or older. */
  static async open(path: string, clock: Clock, logger: Logger): Promise<DoneJobs> {
    const text = await readFile(path).catch(() => null);
    const parsed = text === null ? null : parseJson(fileSchema, jsonOf(text));
    if (parsed?.ok === false) logger.warn({ path, fault: parsed.fault }, 'the list of jobs that are done is damaged');
    return new DoneJobs(path, clock, parsed?.ok === true ? parsed.value : { v: 1, floorMs: 0, done: [] });
  }

  get(jobId: string): DoneJob | undefined {
    return this.#done.get(jobId);
  }

  /** The greatest `rev` of a kind of desired state that is done; 0 before the first. */
  revOf(kind: ReleaseKind): number {
    return this.#of(kind).reduce((most, { rev }) => Math.max(most, rev ?? 0), 0);
  }

  /**
   * Whether something is desired that is no newer than what was, by its `rev` and by when it was issued: a `rev` that leaves none above it,
   * from whoever could write here once, keeps nothing out that is issued later, a day from then on at the latest.
   */
  isStale(kind: ReleaseKind, { rev, issuedAtMs }: { readonly rev: number; readonly issuedAtMs: number }): boolean {
    return this.#of(kind).some((one) => (one.rev ?? 0) >= rev && issuedMs(one) >= issuedAtMs);
  }

  /** The last that was about a release of this kind, and the last of them that succeeded. */
  lastOf(kind: ReleaseKind): { readonly done: DoneJob | undefined; readonly succeeded: DoneJob | undefined } {
    const own = this.#of(kind).filter(({ target }) => target !== '');
    return { done: own.at(-1), succeeded: own.findLast(({ report }) => report.state === 'succeeded') };
  }

  /** Whether a job that is not remembered was issued before one that is forgotten. */
  isOld(issuedAtMs: number): boolean {
    return issuedAtMs <= this.#floorMs;
  }

  /** Resolves when it is on the disk. */
  async add(job: DoneJob): Promise<void> {
    this.#done.delete(job.report.id);
    this.#done.set(job.report.id, job);
    for (const [id, { issuedAtMs, rev, kind }] of this.#done) {
      if (this.#done.size <= MOST_JOBS) break;
      // The broker keeps what is desired for as long as nothing newer is; and what runs came of one.
      if (rev !== null && (rev === this.revOf(kind) || id === this.#lastDesired(kind)?.report.id)) continue;
      if (id === this.lastOf(kind).succeeded?.report.id) continue;
      this.#done.delete(id);
      // A time in years to come would refuse all that is issued until then.
      if (rev === null)
        this.#floorMs = Math.max(this.#floorMs, Math.min(issuedAtMs, this.#clock.wallMs() + MOST_AHEAD_MS));
    }
    this.#writing = this.#writing.catch(() => {}).then(() => this.#write());
    await this.#writing;
  }

  #lastDesired(kind: ReleaseKind): DoneJob | undefined {
    const desired = this.#of(kind).filter(({ rev }) => rev !== null);
    return desired.toSorted((one, other) => issuedMs(one) - issuedMs(other)).at(-1);
  }

  #of(kind: ReleaseKind): DoneJob[] {
    return [...this.#done.values()].filter((one) => one.kind === kind);
  }

  #write(): Promise<void> {
    const content = { v: 1, floorMs: this.#floorMs, done: [...this.#done.values()] } satisfies z.infer<
      typeof fileSchema
    >;
    return writeDurably(this.#path, `${JSON.stringify(content)}\n`);
  }
}

/** Our own: 32 jobs with long words are more than a message may have. */
function jsonOf(text: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(text).toString());
  } catch {
    return undefined;
  }
}

/** By the clock of who issued it, but no later than a day after it was over here. */
function issuedMs({ issuedAtMs, report }: DoneJob): number {
  return Math.min(issuedAtMs, report.at + MOST_AHEAD_MS);
}
