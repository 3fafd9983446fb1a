import * as z from 'zod';
import { dtmfParams, dtmfTold, engineStatusResult, mediaPath, sessionFigures } from './engine-api.js';
import { hearingFigures, hearingView } from './hearing.js';
import { qualityFigures } from './quality.js';
import { selfTestResult } from './selftest.js';
import { updateStatus, updateView } from './update.js';

/** The station's local API: JSON-RPC 2.0 over a Unix socket. Requests and results, then notifications. */
const callId = z.string().regex(/^[a-z0-9-]{8,64}$/);
const target = z.string().min(1).max(80);

export const callView = z.object({
  callId,
  state: z.enum(['inviting', 'ringing-out', 'ringing-in', 'answered', 'ended']),
  direction: z.enum(['out', 'in']),
  peer: z.string(),
  peerName: z.string(),
  sinceMs: z.number(),
  /** Why it ended: `hung-up`, `no-answer`, `rejected`, `busy`, `unreachable`, `media-failed`, … */
  reason: z.string().nullable(),
});
export type CallView = z.infer<typeof callView>;

/** A digit that the peer of the call pressed. */
export const callDtmf = dtmfTold.extend({ callId });
export type CallDtmf = z.infer<typeof callDtmf>;

const total = z.int().min(0);
/** Frames of 10 ms and bytes. */
const edgeCounts = z.object({
  /** What the microphone gave to inference, as samples. */
  capturedFrames: total,
  capturedBytes: total,
  /** What of it features and decisions were made of. */
  inferredFrames: total,
  inferredBytes: total,
  /** What left the station because of it: the sound in alerts, and all of their messages' bytes. */
  sentFrames: total,
  sentBytes: total,
  /** What calls that have ended sent of the microphone: payload of RTP. */
  callBytes: total,
});
export type EdgeCounts = z.infer<typeof edgeCounts>;
/** In sum since the station's start, and of each of the last 24 hours, by when the hour began. */
const edgeStatus = edgeCounts.extend({ hours: z.array(edgeCounts.extend({ fromMs: z.number() })).max(25) });
export type EdgeStatus = z.infer<typeof edgeStatus>;

export const stationStatusResult = z.object({
  station: z.string(),
  name: z.string(),
  role: z.enum(['station', 'site-host']),
  pid: z.int(),
  /** As configured, so that people see what a press does. */
  buttons: z.array(
    z.object({
      name: z.string(),
      line: z.int(),
      action: z.string(),
      working: z.boolean(),
      fault: z.string().nullable(),
    }),
  ),
  broker: z.object({
    connected: z.boolean(),
    url: z.string(),
    protocol: z.enum(['5', '3.1.1']).nullable(),
    fault: z.string().nullable(),
  }),
  calls: z.array(callView),
  door: z.object({ fitted: z.boolean(), open: z.boolean(), openings: z.int(), refused: z.record(z.string(), z.int()) }),
  microphoneLed: z.boolean(),
  /** The last, since the station's start. */
  selfTest: selfTestResult.nullable(),
  gpio: z.object({ driver: z.string(), chip: z.string(), base: z.int() }).nullable(),
  outbox: z.object({ waiting: z.int(), dropped: z.int() }),
  engine: engineStatusResult.nullable(),
  /** What it runs for the whole site; null where it hosts none. */
  siteHost: z
    .object({
      broker: z.object({ running: z.boolean(), fault: z.string().nullable() }),
      /** Other sites can be called now; null where no way to them is configured. */
      elsewhere: z.boolean().nullable(),
      /** Live now, and messages that were routed since the start. */
      calls: z.int(),
      routed: z.int(),
      refused: z.record(z.string(), z.int()),
    })
    .nullable(),
  /** null where the configuration has them off. */
  flows: z
    .object({
      state: z.enum(['absent', 'starting', 'running', 'idle', 'hung', 'stopped', 'restoring']),
      isSafeMode: z.boolean(),
      fault: z.object({ code: z.string(), text: z.string() }).nullable(),
      rev: z.string().nullable(),
      pid: z.int().nullable(),
      url: z.string().nullable(),
      crashes: z.int(),
      hangs: z.int(),
      restores: z.int(),
      /** Of config nodes, since the station's start. */
      heartbeats: z.int(),
      /** What became of presses: `acknowledged`, `unwatched`, `unacknowledged`, `late`, … */
      presses: z.record(z.string(), z.int()),
      /** What became of alerts: `raised`, `too-many-alerts`, `alert-not-kept`. */
      alerts: z.record(z.string(), z.int()),
      /** What flows did about faults, and what of that was refused: `path`, `restart-media`, `restart-media-too-soon`, … */
      actions: z.record(z.string(), z.int()),
    })
    .nullable(),
  /** What it hears by itself. `isWanted`: some flow wants decisions. `decisions`: those that started, by label. */
  hearing: hearingView.extend({
    pid: z.int().nullable(),
    isWanted: z.boolean(),
    figures: hearingFigures.nullable(),
    decisions: z.record(z.string(), z.int()),
  }),
  /** Of a release of configuration defaults: whether they stand under the station's own, or were left out, and why; null: there is none. */
  defaults: z
    .object({ version: z.string().nullable(), isApplied: z.boolean(), faults: z.array(z.string()) })
    .nullable(),
  edge: edgeStatus,
  refused: z.record(z.string(), z.int()),
});
export type StationStatus = z.infer<typeof stationStatusResult>;

export const stationRequests = {
  /** Calls a name, number or station id of the directory. */
  'call.place': { params: z.object({ target }), result: z.object({ callId }) },
  'call.answer': { params: z.object({ callId: callId.optional() }), result: z.object({ callId }) },
  'call.reject': { params: z.object({ callId: callId.optional() }), result: z.object({ callId }) },
  'call.hangUp': {
    params: z.object({ callId: callId.optional() }),
    result: z.object({ callId, figures: sessionFigures.nullable() }),
  },
  /** In a call: digits of a telephone (RFC 4733), which the peer is told one by one. */
  'call.dtmf': { params: dtmfParams, result: z.object({ callId }) },
  /** In a call: the peer's door; without one: the station's own. */
  'door.open': { params: z.object({}), result: z.object({ opened: z.boolean(), reason: z.string() }) },
  /** Some ten seconds; not in a call (`line-busy`). Who asks while it runs gets the same result. */
  'selftest.run': { params: z.object({}), result: selfTestResult },
  'station.status': { params: z.object({}), result: stationStatusResult },
  /** `updates-off` where the station does not run from slots. */
  'update.status': { params: z.object({}), result: updateStatus },
  /**
   * Installs a release from a folder of this machine (a stick): that of its manifest, with a rescue signature beside it. It is taken
   * when this returns; how it goes `update.changed` tells.
   */
  'update.install': { params: z.object({ folder: z.string().min(1).max(1_024) }), result: updateView },
  'update.cancel': { params: z.object({ jobId: z.string().min(1).max(128) }), result: z.object({}) },
} as const;

export const stationNotifications = {
  'call.changed': callView.extend({ figures: sessionFigures.nullable() }),
  /** The peer pressed a digit. */
  'call.dtmf': callDtmf,
  'button.pressed': z.object({ button: z.string() }),
  'door.changed': z.object({ open: z.boolean(), by: z.string() }),
  'session.heard': z.object({ callId, afterMs: z.number() }),
  'update.changed': updateView,
  /** How a call is heard, once a second. */
  'quality.report': z.object({ callId, path: mediaPath, quality: qualityFigures }),
} as const;
