import * as z from 'zod';
import { RELEASE_KINDS } from '../fleet/manifest.js';
import { JOB_STATES } from '../fleet/update-journal.js';
import { JOB_STEPS } from '../fleet/update-plan.js';
import { isVersion } from '../fleet/version.js';
import { MOST_LOG_MINUTES, RESTARTED } from './command.js';
import { ID_PATTERN } from './topics.js';

/** The fleet manager's local API: JSON-RPC 2.0 over a Unix socket, for `entryphone fleet`. */
export const MANAGER_SOCKET = 'manager.sock';

const id = z.string().regex(ID_PATTERN);
/** `{station}@{site}`, or the station alone where no other site has one of that id. */
const address = z
  .string()
  .max(130)
  .refine(
    (text) => text.split('@').length <= 2 && text.split('@').every((part) => ID_PATTERN.test(part)),
    'no station',
  );
/** Who gives the order, as the command line says: the socket's file mode says who may. */
const by = z.string().min(1).max(64);
const jobId = id;

/** What a station says of itself, kept since it was said last: `up/reported/{kind}`, and the last self-test. */
const report = z.object({ kind: z.string(), body: z.record(z.string(), z.unknown()), atMs: z.number() });
export type StationReport = z.infer<typeof report>;

const desiredView = z.object({ kind: z.enum(RELEASE_KINDS), rev: z.int(), target: z.string() });

export const stationView = z.object({
  site: z.string(),
  station: z.string(),
  isOnline: z.boolean(),
  /** What it says that it runs. */
  release: z.string(),
  architecture: z.string().nullable(),
  /** When it was heard of last, by the manager's clock; ms since 1970, as all times here. */
  seenAtMs: z.number(),
  reports: z.array(report),
  /** What is to run, of each kind of which something is. */
  desired: z.array(desiredView),
});
export type StationView = z.infer<typeof stationView>;

const jobChange = z.object({
  seq: z.int(),
  state: z.enum(JOB_STATES),
  step: z.enum(JOB_STEPS).nullable(),
  progressPct: z.number(),
  reason: z.string().nullable(),
  atMs: z.number(),
});
export type JobChange = z.infer<typeof jobChange>;

export const jobView = z.object({
  jobId,
  site: z.string(),
  station: z.string(),
  kind: z.enum(RELEASE_KINDS),
  version: z.string(),
  target: z.string(),
  isUrgent: z.boolean(),
  deadlineAtMs: z.number().nullable(),
  by: z.string(),
  createdAtMs: z.number(),
  /** As the station told last; `queued` before it did. */
  now: jobChange,
  isOver: z.boolean(),
  /** Each state and step that it went through. */
  history: z.array(jobChange),
});
export type JobView = z.infer<typeof jobView>;

export const auditView = z.object({
  n: z.int(),
  atMs: z.number(),
  by: z.string(),
  /** `update`, `cancel`, `self-test`, `restart media`, `logs`, … */
  what: z.string(),
  /** `{station}@{site}` */
  target: z.string(),
  /** `ordered`, then what came of it. */
  outcome: z.string(),
  detail: z.string(),
});
export type AuditView = z.infer<typeof auditView>;

const order = z.discriminatedUnion('verb', [
  z.object({ verb: z.literal('self-test') }),
  z.object({ verb: z.literal('restart'), service: z.enum(RESTARTED) }),
  z.object({
    verb: z.literal('logs'),
    minutes: z.int().min(0).max(MOST_LOG_MINUTES),
    level: z.enum(['info', 'warn']),
  }),
]);

export const orderOutcome = z.object({
  ok: z.boolean(),
  code: z.string(),
  text: z.string(),
  remedy: z.string().nullable(),
  result: z.record(z.string(), z.unknown()).nullable(),
  /** Log lines name it. */
  commandId: z.string(),
});
export type OrderOutcome = z.infer<typeof orderOutcome>;

export const managerRequests = {
  'manager.status': {
    params: z.object({}),
    result: z.object({
      broker: z.object({ connected: z.boolean(), fault: z.string().nullable() }),
      /** What stations are to have in `fleet.commandKeys`. */
      commandKey: z.string(),
      repository: z.string().nullable(),
      stations: z.int(),
      /** That are not over. */
      jobs: z.int(),
      /** Of the repository, over MQTT, since the manager's start. */
      served: z.object({ pieces: z.int(), bytes: z.number(), waiting: z.int() }).nullable(),
      refused: z.record(z.string(), z.int()),
    }),
  },
  'fleet.stations': { params: z.object({}), result: z.object({ stations: z.array(stationView) }) },
  'fleet.station': {
    params: z.object({ station: address }),
    result: z.object({ station: stationView, jobs: z.array(jobView), audit: z.array(auditView) }),
  },
  'fleet.update': {
    params: z.object({
      stations: z.array(address).min(1).max(200),
      kind: z.enum(RELEASE_KINDS),
      version: z.string().refine(isVersion, 'no version such as 1.2.3'),
      /** From now. */
      deadlineMs: z
        .int()
        .min(60_000)
        .max(30 * 86_400_000)
        .nullable(),
      isUrgent: z.boolean(),
      mayRetry: z.boolean(),
      baseUrl: z
        .url({ protocol: /^https$/ })
        .max(500)
        .nullable(),
      by,
    }),
    result: z.object({ jobs: z.array(jobView) }),
  },
  'fleet.cancel': { params: z.object({ jobId, by }), result: jobView },
  /** The newest first; of these ids, or all. */
  'fleet.jobs': {
    params: z.object({ jobIds: z.array(jobId).max(200).optional() }),
    result: z.object({ jobs: z.array(jobView) }),
  },
  'fleet.run': { params: z.object({ station: address, order, by }), result: orderOutcome },
  'fleet.audit': {
    params: z.object({ most: z.int().min(1).max(1_000) }),
    result: z.object({ audit: z.array(auditView) }),
  },
};

export const managerNotifications = {
  'job.changed': jobView,
  'log.lines': z.object({
    site: z.string(),
    station: z.string(),
    commandId: z.string(),
    lines: z.array(z.string()),
    dropped: z.int(),
    ended: z.string().nullable(),
  }),
};
