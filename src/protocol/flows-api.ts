import * as z from 'zod';
import { alertBody } from './alert.js';
import { clipEnd, clipPiece, clipPlace } from './clip-api.js';
import { dtmfParams, mediaPath, mostBitrate, TAP_RATE_HZ, tapSource } from './engine-api.js';
import { heardDecision, hearingView } from './hearing.js';
import { logFollow, logLines } from './log-lines.js';
import { qualityFigures } from './quality.js';
import { selfTestResult } from './selftest.js';
import { callDtmf, callView } from './station-api.js';

/**
 * In the `run` folder: where the station serves flows, and where the flows process serves its own metrics to the station. Each is
 * in a folder of its own, since on a board the flows' user may come to these two and to no other socket.
 */
export const FLOWS_SOCKET = 'flows/flows.sock';
export const FLOWS_METRICS_SOCKET = 'flows-own/flows-metrics.sock';

/**
 * What flows may do: `flows.sock`, JSON-RPC 2.0 over a Unix socket of the station's. No verb here configures or updates anything, none
 * touches the light of the microphone, and `audio.tap` alone hears it, where the station's configuration grants that. What may be restarted
 * (`service.restart`, `flows.fallBack`) loses nothing by it that does not come back by itself; each such verb rests between two uses
 * (`too-soon`). Requests and results, then notifications.
 *
 * A press is offered (`button.pressed`, kind `press`) to flows that watch its button. Who takes it acknowledges it before
 * it acts, and acts only if the acknowledgement is accepted; what nobody has acknowledged within 500 ms the station does
 * itself, as configured, and an acknowledgement that comes later is refused (`press-late`). `long` and `double` tell more
 * about a press that was offered already, under the same `pressId`; they need no acknowledgement.
 */
export const PRESS_OFFER_MS = 500;
/** Flows are taken for hung when their config node says nothing for three of its heartbeats. */
export const HEARTBEAT_MS = 1_000;

/** In the `run` folder, below what the station alone may write to. There: the flows' next start is one in safe mode. */
export const SAFE_MODE_FILE = 'ask/flows-safe';
/** Beside it. Written by the station, with the reason: the flows process is to be restarted. */
export const FLOWS_RESTART_FILE = 'ask/flows-restart';

/** Who signs in to the editor. */
export const EDITOR_USER = 'installer';

const isUp = z.enum(['up', 'down']);
const card = z.enum(['closed', 'up', 'down']).nullable();
const xruns = z.int().min(0).nullable();
/** Whether what a station is made of works. */
export const stationHealth = z.object({
  /** The media process. */
  media: isUp,
  /** The cards as the media process has them: closed where nobody needs them; null while it is down. */
  capture: card,
  playback: card,
  /** Since the card was opened; null while the media process is down. */
  captureXruns: xruns,
  playbackXruns: xruns,
  /** The way to the site's broker. */
  broker: isUp,
  /** The broker itself, where this station runs it; null elsewhere. */
  siteBroker: isUp.nullable(),
  /** The way to other sites, on the station that runs the broker; null where none is configured. */
  otherSites: isUp.nullable(),
  /** The inference process; null where the configuration has it off. */
  inference: isUp.nullable(),
});
export type StationHealth = z.infer<typeof stationHealth>;

/** Processes that flows may have restarted: their supervisor starts them again, and a call goes on. */
export const flowsService = z.enum(['media', 'inference']);
export type FlowsService = z.infer<typeof flowsService>;

/** The path that a call keeps to, at both ends; `auto`: it finds out by itself, as at its start. */
export const pathChoice = z.enum(['auto', 'udp', 'mqtt']);
export type PathChoice = z.infer<typeof pathChoice>;

/** A sound that flows can have played: a tone, a text (spoken by espeak-ng), or what was loaded before (`sound.load`). */
export const flowsSound = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('tone'),
    hz: z.number().min(50).max(7_000),
    durationMs: z.int().min(10).max(30_000),
  }),
  z.object({
    kind: z.literal('text'),
    text: z.string().trim().min(1).max(500),
    voice: z.string().regex(/^[a-z0-9][a-z0-9+-]{0,31}$/, 'is no voice: a to z, 0 to 9, + and -'),
  }),
  z.object({ kind: z.literal('pcm'), soundId: z.uuid() }),
]);
export type FlowsSound = z.infer<typeof flowsSound>;

const callId = z.string().regex(/^[a-z0-9-]{8,64}$/);
const name = z.string().min(1).max(64);
const percent = z.int().min(0).max(100);
const ofCall = z.object({ callId });
const tapPort = z.int().min(1_024).max(65_535);

/** What the process that runs the flows says of itself, when it connects and whenever that changes. */
export const flowsReport = z.object({
  pid: z.int().min(1),
  state: z.enum(['starting', 'running', 'stopped', 'ending']),
  isSafeMode: z.boolean(),
  /** Why it is stopped: `missing-types`, `damaged-file`, `safe-mode`, …, and for people. */
  fault: z.object({ code: z.string().max(64), text: z.string().max(500) }).nullable(),
  /** Revision of the flows that it holds. */
  rev: z.string().max(128).nullable(),
  /** Where its editor and its Admin API are. */
  url: z.url({ protocol: /^http$/ }),
});
export type FlowsReport = z.infer<typeof flowsReport>;

export const flowsRequests = {
  /** From the process as a whole. The token opens its Admin API to the station that gave it. */
  'flows.report': { params: flowsReport, result: z.object({ adminToken: z.string() }) },
  /** From the process as a whole, while it is told to (`log.follow`). */
  'log.lines': { params: logLines, result: z.object({}) },
  /** From a config node, each `HEARTBEAT_MS`: the flows' event loop turns. */
  'flows.heartbeat': { params: z.object({}), result: z.object({}) },
  /** The station, and its call as it is: from here on this client is told `call.changed`. */
  'station.describe': {
    params: z.object({}),
    result: z.object({
      station: z.string(),
      name: z.string(),
      buttons: z.array(z.string()),
      leds: z.array(z.string()),
      call: callView.nullable(),
    }),
  },
  /** Of which buttons this client wants to be offered presses, and to be told gestures; replaces what it said before. */
  'button.watch': {
    params: z.object({ presses: z.array(name).max(64), gestures: z.array(name).max(64) }),
    result: z.object({}),
  },
  'press.acknowledge': { params: z.object({ pressId: z.uuid() }), result: z.object({}) },
  'call.place': { params: z.object({ target: z.string().min(1).max(80) }), result: ofCall },
  'call.answer': { params: z.object({}), result: ofCall },
  'call.reject': { params: z.object({}), result: ofCall },
  'call.hangUp': { params: z.object({}), result: ofCall },
  /** Sends nothing more of this call's microphone, until told otherwise or the call ends. */
  'call.mute': { params: z.object({ muted: z.boolean() }), result: ofCall },
  /** Digits of a telephone (RFC 4733), which the peer of the call is told one by one. */
  'call.dtmf': { params: dtmfParams, result: ofCall },
  /** How loud far ends are: 100 as they are sent, 0 silence. Bell and other tones are not changed. */
  'call.volume': { params: z.object({ percent }), result: z.object({ percent }) },
  /** The most that this call sends, in bit/s on the wire, headers and copies included; null: as much as it finds good. */
  'call.limit': { params: z.object({ bitrateBps: mostBitrate }), result: ofCall },
  'call.path': { params: z.object({ path: pathChoice }), result: ofCall },
  'service.restart': { params: z.object({ service: flowsService }), result: z.object({}) },
  /** Deploys the last good flows in the place of these. */
  'flows.fallBack': { params: z.object({}), result: z.object({}) },
  /** A piece of a recorded sound (16 kHz, mono): half a second at most, a minute in all. The client chooses the id. */
  'sound.load': {
    params: z.object({ soundId: z.uuid(), pcm: clipPiece }),
    result: z.object({ durationMs: z.number() }),
  },
  /** Answers when it plays. In each place one sounds at a time: a new one ends the other (`replaced`). */
  'sound.play': {
    params: z.object({ to: clipPlace, sound: flowsSound }),
    result: z.object({ playId: z.uuid(), durationMs: z.number() }),
  },
  'sound.stop': { params: z.object({ playId: z.uuid() }), result: z.object({}) },
  'door.open': { params: z.object({}), result: z.object({ opened: z.boolean(), reason: z.string() }) },
  /** To the broker, from the outbox (`up/evt/alert`). At most 12 a minute: `too-many-alerts`. */
  'alert.raise': { params: alertBody, result: z.object({ id: z.uuid() }) },
  'led.set': { params: z.object({ led: name, lit: z.boolean() }), result: z.object({}) },
  /**
   * Sound for this client, at a UDP port of its own on 127.0.0.1 (adapters/udp/tap-receiver.ts), until `audio.untap` or until it leaves.
   * `ssrc` is null while the media process is away: the sound comes when it is there; after a restart it has another SSRC.
   */
  'audio.tap': {
    params: z.object({ source: tapSource, port: tapPort }),
    result: z.object({ ssrc: z.int().min(0).nullable(), rateHz: z.literal(TAP_RATE_HZ) }),
  },
  'audio.untap': { params: z.object({ source: tapSource, port: tapPort }), result: z.object({}) },
  /**
   * The station tries itself, some ten seconds, with a signal on its loudspeaker; not in a call (`line-busy`), and not twice a minute
   * (`too-soon`). Its microphone is open for two seconds of it: what that hears stays in the media process, which tells figures.
   */
  'selftest.run': { params: z.object({}), result: selfTestResult },
  /** `level` notifications for this client, at most five a second. */
  'level.subscribe': { params: z.object({ on: z.boolean() }), result: z.object({}) },
  /**
   * `hearing.changed` and `hearing.decided` for this client. Inference hears the microphone, and lights its LED, while any client
   * wants decisions.
   */
  'hearing.subscribe': { params: z.object({ on: z.boolean() }), result: hearingView },
  /** `health` notifications for this client, each 2 s. */
  'health.subscribe': { params: z.object({ on: z.boolean() }), result: z.object({}) },
} as const;

const level = z.number().nullable();
export const flowsNotifications = {
  'button.pressed': z.object({ button: z.string(), pressId: z.uuid(), kind: z.enum(['press', 'long', 'double']) }),
  'call.changed': callView,
  /** How the call is heard, and by which path, once a second, to who described the station. */
  'quality.report': z.object({ callId, path: mediaPath, quality: qualityFigures }),
  /** The peer pressed a digit; told to those that are told `call.changed`. */
  'call.dtmf': callDtmf,
  /** RMS of the last 100 ms, dB below full scale; null for a card that is closed or down. */
  level: z.object({ microphoneDbfs: level, speakerDbfs: level }),
  health: stationHealth,
  'hearing.changed': hearingView,
  'hearing.decided': heardDecision,
  /** A sound that this client had played is over. */
  'sound.ended': z.object({ playId: z.uuid(), reason: clipEnd }),
  /** To the process as a whole: its log is wanted, or no longer. */
  'log.follow': logFollow,
} as const;
export type ButtonPressed = z.infer<(typeof flowsNotifications)['button.pressed']>;
export type QualityReport = z.infer<(typeof flowsNotifications)['quality.report']>;
