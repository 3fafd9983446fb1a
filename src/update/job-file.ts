import { createHash } from 'node:crypto';
import * as z from 'zod';
import { dropDurably, putDurably, type SlotDisk } from '../adapters/slots/slot-disk.js';
import { type Manifest, RELEASE_KINDS } from '../fleet/manifest.js';
import { JOB_STATES, type UpdateJournal } from '../fleet/update-journal.js';
import { JOB_STEPS, STEP_NAMES, type UpdateStep } from '../fleet/update-plan.js';
import { readManifest } from '../protocol/release-manifest.js';

const JOB = 'job.json';
const DESIRED = 'desired.json';

const journalSchema = z.object({
  v: z.literal(1),
  jobId: z.string().min(1).max(128),
  seq: z.int().min(0),
  kind: z.enum(RELEASE_KINDS),
  version: z.string().max(64),
  hash: z.string().length(64),
  state: z.enum(JOB_STATES),
  at: z
    .object({
      do: z.custom<UpdateStep['do']>((name) => STEP_NAMES.includes(name as UpdateStep['do'])),
      job: z.enum(JOB_STEPS),
      isDone: z.boolean(),
    })
    .nullable(),
  progressPct: z.number(),
  hasSwitched: z.boolean(),
  isConfirmed: z.boolean(),
  ending: z.object({ state: z.enum(['failed', 'timed_out', 'canceled']), reason: z.string() }).nullable(),
  reason: z.string().nullable(),
});

const jobSchema = z.object({
  journal: journalSchema,
  /** Of the manifest beside it. */
  manifestSha256: z.string().length(64),
  /** Where its chunks come from. */
  origin: z.string().max(1_024),
  /** By the clock of the station, ms since 1970; null: none. */
  deadlineMs: z.number().nullable(),
  mayRetry: z.boolean(),
});

/** A job as it outlives a power cut: how far it is, and the manifest that was checked when it was taken. */
export interface KeptJob {
  readonly journal: UpdateJournal;
  readonly manifest: Manifest;
  readonly manifestText: Uint8Array;
  readonly origin: string;
  readonly deadlineMs: number | null;
  readonly mayRetry: boolean;
}

/** Keeps the one job of a station beside its slots: `job.json`, and `desired.json`, which is there before it. */
export class JobFile {
  readonly #disk: SlotDisk;

  constructor(disk: SlotDisk) {
    this.#disk = disk;
  }

  /** @returns null where there is none, or none that can be read whole: what was begun is tidied by the next one */
  async read(): Promise<KeptJob | null> {
    const [job, text] = [await this.#disk.read(JOB), await this.#disk.read(DESIRED)];
    if (job === null || text === null) return null;
    const parsed = jobSchema.safeParse(jsonOf(job));
    if (!parsed.success || sha256(text) !== parsed.data.manifestSha256) return null;
    const manifest = readManifest(text);
    if (!manifest.ok) return null;
    const { journal, origin, deadlineMs, mayRetry } = parsed.data;
    return { journal, manifest: manifest.value, manifestText: text, origin, deadlineMs, mayRetry };
  }

  /** A job is there when this returns. */
  async begin(job: KeptJob): Promise<void> {
    // The job before is over: gone, before its manifest is.
    await dropDurably(this.#disk, JOB);
    await putDurably(this.#disk, DESIRED, job.manifestText);
    await this.keep(job);
  }

  async keep({ journal, manifestText, origin, deadlineMs, mayRetry }: KeptJob): Promise<void> {
    const job = { journal, manifestSha256: sha256(manifestText), origin, deadlineMs, mayRetry };
    await putDurably(this.#disk, JOB, `${JSON.stringify(job)}\n`);
  }
}

function jsonOf(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch {
    return undefined;
  }
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
