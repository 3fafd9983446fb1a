import * as z from 'zod';
import { RELEASE_KINDS, type ReleaseKind } from '../fleet/manifest.js';
import { JOB_STATES } from '../fleet/update-journal.js';
import { JOB_STEPS } from '../fleet/update-plan.js';
import { isRepositoryPath } from './artefact-piece.js';
import { type Parsed, parseBody } from './call-message.js';
import { ID_PATTERN } from './topics.js';

/**
 * What a fleet manager wants of a station, and what the station says of it.
 *
 * | topic | retained, QoS | body |
 * | --- | --- | --- |
 * | `down/desired/{kind}` | yes, 1 | `Desired`: what is to run from now on, also on a station that was away; nothing: whatever does |
 * | `up/reported/{kind}` | yes, 1 | `Reported` |
 * | `down/job/{id}` | yes, 1 | `UpdateJob`: a cancel, or an update that is nobody's desired state; nothing once nobody needs it |
 * | `up/job/{id}` | no, 1 | `JobReport`, of either |
 *
 * ```
 *   fleet update ─▶ desired {rev 7, id} ─▶ the job {id} ─▶ succeeded: it stays, and a board that comes in this one's place finds it
 *                                                      └─▶ any other end, a cancel: what was desired before is again
 * ```
 * None of them is believed for what is installed: they name a target, and TUF says what that is.
 */
const id = z.string().regex(ID_PATTERN);
const seq = z.int().min(0).max(0xffff_ffff);
const wallMs = z.int().min(0).max(8_640_000_000_000_000);
const target = z
  .string()
  .max(200)
  .refine((path) => path.endsWith('/manifest.json') && isRepositoryPath(path), 'no manifest of a release');
const reason = z.string().max(200);
export const MOST_REV = 0xffff_ffff;

/** What both a job and a desired state say of how to come by a release. */
const order = {
  target,
  /** Folder of the repository on a web server; without one, or where it does not answer, files come over MQTT. */
  baseUrl: z
    .url({ protocol: /^https$/ })
    .max(500)
    .optional(),
  /** At any hour; never in a call. */
  isUrgent: z.boolean().default(false),
  /** Also a release that has failed here before. */
  mayRetry: z.boolean().default(false),
  /** Milliseconds since 1970, by the manager's clock. */
  issuedAt: wallMs,
};

export const updateJobSchema = z.discriminatedUnion('do', [
  z.object({
    v: z.literal(1),
    id,
    /** A cancel has a greater one than what it cancels. */
    seq,
    do: z.literal('update'),
    site: id,
    station: id,
    ...order,
    /** Over by then, or `timed_out`; ms since 1970. */
    deadlineAt: wallMs.optional(),
  }),
  z.object({ v: z.literal(1), id, seq, do: z.literal('cancel'), site: id, station: id, issuedAt: wallMs, reason }),
]);
export type UpdateJob = z.infer<typeof updateJobSchema>;

export const desiredSchema = z.object({
  v: z.literal(1),
  /** Of the job that brings it about. */
  id,
  seq,
  site: id,
  station: id,
  /** Counts what was wanted of this kind. */
  rev: z.int().min(1).max(MOST_REV),
  ...order,
  /** Over by then, or `timed_out`; ms since 1970. */
  deadlineAt: wallMs.optional(),
});
export type Desired = z.infer<typeof desiredSchema>;

export const jobReportSchema = z.object({
  v: z.literal(1),
  /** Of the job. */
  id,
  /** A report with a lesser one than the last is an old one. */
  seq,
  state: z.enum(JOB_STATES),
  step: z.enum(JOB_STEPS).nullable(),
  /** Of the step, in percent. */
  progress: z.number().min(0).max(100),
  reason: reason.nullable(),
  /** By the station's clock, ms since 1970. */
  at: z.number(),
});
export type JobReport = z.infer<typeof jobReportSchema>;

export const reportedSchema = z.object({
  v: z.literal(1),
  id,
  seq,
  /** Of the desired state that this came of; null where it came otherwise. */
  rev: z.int().nullable(),
  /** The greatest that this station has heard of: what is desired next has a greater one, or is refused. */
  knownRev: z.int().min(0),
  version: z.string().max(64).nullable(),
  /** Of what runs. */
  hash: z.string().max(64).nullable(),
  appliedAt: z.number().nullable(),
  /** Why it is not what is desired, in words. */
  error: z.string().max(200).nullable(),
  /** By the station's clock, ms since 1970. */
  at: z.number(),
  /** Flows: `state`, `isSafeMode`, `rev` (Node-RED's), `fault`. Configuration: its `hash` (defaults and own file), `sinceMs`. */
  runs: z.record(z.string(), z.unknown()).optional(),
});
export type Reported = z.infer<typeof reportedSchema>;

export const jobPath = (jobId: string): string => `job/${jobId}`;
export const desiredPath = (kind: ReleaseKind): string => `desired/${kind}`;
export const reportedPath = (kind: ReleaseKind): string => `reported/${kind}`;

/** Of a target that has passed the schemas. */
export function kindOfTarget(path: string): ReleaseKind {
  const [folder = ''] = path.split('/', 1);
  return RELEASE_KINDS.find((kind) => kind === folder) ?? 'firmware';
}

/** One thing to be done, whichever way it was asked for. */
export interface WantedUpdate {
  readonly jobId: string;
  readonly seq: number;
  readonly kind: ReleaseKind;
  readonly target: string;
  readonly baseUrl: string | null;
  readonly isUrgent: boolean;
  readonly mayRetry: boolean;
  readonly issuedAtMs: number;
  readonly deadlineMs: number | null;
  /** Of the desired state. */
  readonly rev: number | null;
}

export type Wanted =
  | { readonly do: 'update'; readonly order: WantedUpdate }
  | { readonly do: 'cancel'; readonly jobId: string; readonly seq: number; readonly reason: string }
  /** The broker was told to keep it no longer. */
  | { readonly do: 'forget'; readonly jobId: string }
  /** Nothing of this kind is desired. */
  | { readonly do: 'withdraw'; readonly kind: ReleaseKind };

const MOST_BODY_BYTES = 4_096;

/**
 * Reads `job/{id}` and `desired/{kind}` of `down/`. Never throws; faults: `unknown-topic`, `oversized`, `malformed`, `not-for-us`,
 * `id-mismatch`.
 */
export function readWanted(
  path: string,
  body: Uint8Array,
  own: { readonly site: string; readonly station: string },
): Parsed<Wanted> & { readonly why?: string } {
  const [what, name = '', ...rest] = path.split('/');
  if (rest.length > 0 || !ID_PATTERN.test(name)) return { ok: false, fault: 'unknown-topic' };
  if (body.byteLength > MOST_BODY_BYTES) return { ok: false, fault: 'oversized' };
  if (what === 'job') return readJob(name, body, own);
  if (what === 'desired') return readDesired(name, body, own);
  return { ok: false, fault: 'unknown-topic' };
}

type Own = { readonly site: string; readonly station: string };

function readJob(name: string, body: Uint8Array, own: Own): Parsed<Wanted> & { readonly why?: string } {
  if (body.byteLength === 0) return { ok: true, value: { do: 'forget', jobId: name } };
  const parsed = parseBody(updateJobSchema, body);
  if (!parsed.ok) return { ok: false, fault: 'malformed', why: parsed.fault };
  const { value } = parsed;
  if (value.station !== own.station || value.site !== own.site) return { ok: false, fault: 'not-for-us' };
  if (value.id !== name) return { ok: false, fault: 'id-mismatch' };
  if (value.do === 'cancel') {
    return { ok: true, value: { do: 'cancel', jobId: name, seq: value.seq, reason: value.reason } };
  }
  return { ok: true, value: { do: 'update', order: orderOf(value, null) } };
}

function readDesired(name: string, body: Uint8Array, own: Own): Parsed<Wanted> & { readonly why?: string } {
  const kind = RELEASE_KINDS.find((one) => one === name);
  if (kind === undefined) return { ok: false, fault: 'unknown-topic' };
  if (body.byteLength === 0) return { ok: true, value: { do: 'withdraw', kind } };
  const parsed = parseBody(desiredSchema, body);
  if (!parsed.ok) return { ok: false, fault: 'malformed', why: parsed.fault };
  const { value } = parsed;
  if (value.station !== own.station || value.site !== own.site) return { ok: false, fault: 'not-for-us' };
  if (kindOfTarget(value.target) !== kind) return { ok: false, fault: 'id-mismatch' };
  return { ok: true, value: { do: 'update', order: orderOf(value, value.rev) } };
}

function orderOf(
  from: Pick<Desired, 'id' | 'seq' | 'target' | 'baseUrl' | 'isUrgent' | 'mayRetry' | 'issuedAt' | 'deadlineAt'>,
  rev: number | null,
): WantedUpdate {
  const { id: jobId, seq, target, baseUrl = null, isUrgent, mayRetry, issuedAt, deadlineAt = null } = from;
  const kind = kindOfTarget(target);
  return { jobId, seq, kind, target, baseUrl, isUrgent, mayRetry, issuedAtMs: issuedAt, deadlineMs: deadlineAt, rev };
}
