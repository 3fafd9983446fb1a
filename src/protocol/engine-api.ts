import * as z from 'zod';
import { KEY_AND_SALT_BYTES, SDES_SUITES } from '../call/sdes.js';
import { clipEnd, clipPiece, clipPlace } from './clip-api.js';
import { logFollow, logLines } from './log-lines.js';
import { qualityFigures } from './quality.js';
import { loopMeasurement, probeResult } from './selftest.js';

/**
 * The media process's control socket: JSON-RPC 2.0 over a Unix socket, one client (the station). Requests and their
 * results, then notifications. Media knows sessions, nothing of calls. Nobody may talk on unseen: when the client leaves, or
 * another gives an order (anything but `engine.status`), a session or tap that is not opened or started again within 5 s is closed. A
 * client that connects is told `capture.changed` as it is.
 */
const sessionId = z.string().regex(/^[a-z0-9-]{8,64}$/);
const port = z.int().min(1).max(65_535);

export const transportSchema = z.object({
  /** An IPv4 or IPv6 address, no name. */
  address: z.union([z.ipv4(), z.ipv6()]),
  port,
});
export type Transport = z.infer<typeof transportSchema>;

/** How packets travel: UDP, or inside MQTT on the media process's own connection, which is there while a session needs it. */
export const mediaPath = z.enum(['udp', 'mqtt']);
export type MediaPath = z.infer<typeof mediaPath>;

/** A codec, by the name that SDP has for it (RFC 7587, RFC 3551). */
export const audioCodec = z.enum(['opus', 'pcmu', 'pcma']);
export type AudioCodec = z.infer<typeof audioCodec>;

/** The key of one direction (RFC 4568, 6.1): master key and salt, joined, in base64. Never to be logged or told on. */
export const srtpKey = z
  .object({ suite: z.enum(SDES_SUITES), keyAndSalt: z.string().regex(/^[A-Za-z0-9+/]{38,60}={0,2}$/) })
  .refine(({ suite, keyAndSalt }) => Buffer.from(keyAndSalt, 'base64').length === KEY_AND_SALT_BYTES[suite], {
    message: 'is not as long as the suite has it',
  });
export type SrtpKey = z.infer<typeof srtpKey>;

const payloadType = z.int().min(0).max(127);
/** What we send with, from the answer; what we receive with, from our offer. */
const payloadTypes = z.object({ send: payloadType, receive: payloadType });

/** Takes a UDP port (RTP and RTCP on one, RFC 5761) and an SSRC, so that an offer can name them. */
export const sessionOpen = {
  params: z.object({
    sessionId,
    /**
     * What is at our end. `cards`: microphone and speaker; `echo`: it sends back what it hears; `probe`: it sends a test signal, and
     * listens for it (`session.probe`). Without cards nothing is told of the session: no `session.heard`, no quality.
     */
    end: z.enum(['cards', 'echo', 'probe']).default('cards'),
  }),
  result: z.object({ local: transportSchema, ssrc: z.int().min(0).max(0xffff_ffff), cname: z.string().max(64) }),
};
/** Starts, or changes, the flow of media. Idempotent. */
export const sessionStart = {
  params: z.object({
    sessionId,
    /** A running session moves between the paths: SSRC, sequence and figures go on. Packets are taken from both. */
    path: mediaPath.default('udp'),
    /** Where the far end is by UDP; of no meaning on the other path. */
    remote: transportSchema,
    /**
     * Either path will do: the session finds out whether UDP goes both ways, leaves it for MQTT where it does not or no longer,
     * returns when it does, and says each time `session.path`. For a session that runs, `path: mqtt` says that the far end
     * no longer hears it by UDP; `path: udp` says nothing.
     */
    provePath: z.boolean().default(false),
    /** What we send with, from the answer; what we receive with, from our offer. */
    sendPayloadType: payloadType,
    receivePayloadType: payloadType,
    codec: audioCodec.default('opus'),
    /** Where both ends take redundant audio (RFC 2198). */
    red: payloadTypes
      .extend({ copies: z.int().min(1).max(8).optional() })
      .nullable()
      .default(null),
    /** Where both ends take telephone events (RFC 4733). */
    telephoneEvent: payloadTypes.nullable().default(null),
    /** SRTP; null is plain RTP. */
    srtp: z.object({ send: srtpKey, receive: srtpKey }).nullable().default(null),
    /** From the peer's SDP: useinbandfec (RFC 7587). */
    peerWantsFec: z.boolean(),
    /** `maxptime` or `ptime` of the peer, in ms. */
    packetTimeMs: z.union([z.literal(10), z.literal(20), z.literal(40), z.literal(60)]),
    /** `maxptime` of the peer, for a line that is too narrow. */
    maxPacketTimeMs: z.union([z.literal(10), z.literal(20), z.literal(40), z.literal(60)]).optional(),
    muted: z.boolean(),
  }),
  result: z.object({}),
};
/** Digits of a telephone, one after the other; a result says that they wait to be sent. */
export const dtmfParams = z.object({
  digits: z.string().regex(/^[0-9*#A-D]{1,32}$/, 'must be 1 to 32 of 0 to 9, *, # and A to D'),
  /** Of each. */
  durationMs: z.int().min(40).max(1_300).default(100),
});
/** A digit that the far end pressed. */
export const dtmfTold = z.object({ digit: z.string().length(1), durationMs: z.int().min(0) });
/** As telephone events (RFC 4733), in the place of audio; also while muted. */
export const sessionDtmf = { params: dtmfParams.extend({ sessionId }), result: z.object({}) };
/** In bit/s on the wire, headers and copies included. */
export const mostBitrate = z.int().min(12_000).max(512_000).nullable();
/** The most that the session sends from now on; null: as much as it finds good. Packets of G.711 are what they are. */
export const sessionLimit = { params: z.object({ sessionId, bitrateBps: mostBitrate }), result: z.object({}) };
export const sessionClose = {
  params: z.object({ sessionId }),
  result: z.object({ figures: z.lazy(() => sessionFigures) }),
};
/** What a session that probes has heard of its signal in the last second. */
export const sessionProbe = { params: z.object({ sessionId }), result: probeResult };
/**
 * Plays the test signal on the speaker and hears it by the microphone, which is open for it (`capture.changed`), within 3 s. Refused
 * (`busy`) while a session with cards is open or a tone sounds; ends (`interrupted`) as soon as one is asked for.
 */
export const loopMeasure = {
  params: z.object({
    /** Level of the signal, RMS. */
    signalDbfs: z.number().min(-60).max(-6),
    /** What comes back less loud, against what was played, is `too-quiet`. */
    leastLevelDb: z.number().min(-100).max(20),
  }),
  result: loopMeasurement,
};
/** Plays a tone on the speaker until `tone.stop` or another: a bell, ringback (ITU-T E.182), busy. */
export const tonePlay = { params: z.object({ tone: z.enum(['bell', 'ringback', 'busy']) }), result: z.object({}) };
/** How loud far ends are played from now on: 100 as they come, 0 silence. Tones are not changed. */
export const playbackVolume = { params: z.object({ percent: z.int().min(0).max(100) }), result: z.object({}) };
export const toneStop = { params: z.object({}), result: z.object({}) };

/** Of what taps carry. */
export const TAP_RATE_HZ = 16_000 as const;
const tapId = z.string().regex(/^[a-z0-9-]{1,64}$/);
export const tapSource = z.enum(['microphone', 'speaker']);
export type TapSource = z.infer<typeof tapSource>;
/**
 * Sends what the microphone hears, or the speaker plays, to a port of this machine, as RTP (rtp/l16.ts). It opens the microphone as a
 * session does. At most 4; what does not leave at once is dropped and counted. Idempotent; another media process has another SSRC.
 */
export const tapOpen = {
  params: z.object({ tapId, source: tapSource, remote: z.object({ address: z.enum(['127.0.0.1', '::1']), port }) }),
  result: z.object({ ssrc: z.int().min(0).max(0xffff_ffff), rateHz: z.literal(TAP_RATE_HZ) }),
};
export const tapClose = { params: z.object({ tapId }), result: z.lazy(() => tapFigures) };

/** A sound to be played once: a piece of it after another, then `clip.play`. Of one place only the last sounds. */
const clipId = sessionId;
const clipLength = z.object({ durationMs: z.number() });
export const clipLoad = { params: z.object({ clipId, pcm: clipPiece }), result: clipLength };
export const clipPlay = { params: z.object({ clipId, to: clipPlace }), result: clipLength };
/** Also what is loaded only; of one that is not there, nothing. */
export const clipStop = { params: z.object({ clipId }), result: z.object({}) };
const pem = z.string().min(1).max(65_536);
/**
 * Who the media process is to the broker: PEM texts of the site's authority, of the certificate `{station}--media` and of its key. From
 * the station, which alone may read the files; kept in memory, for the connections that are made from then on.
 */
export const mqttIdentity = { params: z.object({ ca: pem, cert: pem, key: pem }), result: z.object({}) };
export type MqttIdentity = z.infer<typeof mqttIdentity.params>;
export const engineStatus = { params: z.object({}), result: z.lazy(() => engineStatusResult) };

const count = z.int().min(0);
export const sessionFigures = z.object({
  sessionId,
  path: mediaPath,
  /** The suite that both directions are protected with; null for plain RTP. */
  srtp: z.enum(SDES_SUITES).nullable(),
  ssrc: count,
  remoteSsrc: count.nullable(),
  /** Where packets go by UDP; differs from what the SDP said once a symmetric peer was heard (RFC 4961). */
  remote: transportSchema.nullable(),
  /** How often a running session changed its path. */
  migrations: count,
  /** Of the last question (STUN) that was answered on each path, ms; null until one was. */
  probeRoundTripMs: z.object({ udp: z.number().nullable(), mqtt: z.number().nullable() }),
  sent: count,
  /** Of their payloads. */
  sentBytes: count,
  received: count,
  /** Expected less received (RFC 3550, A.3), at least 0. */
  lost: count,
  late: count,
  duplicate: count,
  reordered: count,
  /** Packet times that were made good from FEC, and concealed. */
  fecDecoded: count,
  concealed: count,
  /** The same time in ms; what the far end itself left out is not in it. */
  concealedMs: z.number(),
  /** Interarrival jitter (RFC 3550, A.8), ms. */
  jitterMs: z.number(),
  /** From RTCP (RFC 3550, 6.4.1): round trip, and what the far end says of our stream; null until a report came. */
  roundTripMs: z.number().nullable(),
  remoteLost: z.int().nullable(),
  remoteJitterMs: z.number().nullable(),
  /** From arrival to playout, ms: a running mean, and what the arrivals ask for. */
  playoutDelayMs: z.number(),
  targetDelayMs: z.number(),
  /** Milliseconds from open until the first decoded packet was handed to the speaker; null before. */
  firstAudioAfterMs: z.number().nullable(),
  quality: qualityFigures,
  /** What was refused at the edge, by class of fault. */
  refused: z.record(z.string(), count),
});
export type SessionFigures = z.infer<typeof sessionFigures>;

export const tapFigures = z.object({
  tapId,
  source: tapSource,
  remote: transportSchema,
  ssrc: count,
  /** Frames of 10 ms, and their samples' bytes. */
  sentFrames: count,
  sentBytes: count,
  /** Frames that did not leave, by cause: `nobody-there`, `queue-full`, `send-…`. */
  dropped: z.record(z.string(), count),
});
export type TapFigures = z.infer<typeof tapFigures>;

export const cardStatus = z.object({
  device: z.string(),
  state: z.enum(['closed', 'up', 'down']),
  /** While down: code and text. */
  fault: z.object({ code: z.string(), text: z.string() }).nullable(),
  /** RMS of the last 100 ms, dB below full scale; null while not up. */
  levelDbfs: z.number().nullable(),
});
export type CardStatus = z.infer<typeof cardStatus>;
export const engineStatusResult = z.object({
  pid: z.int(),
  /** `xruns` and `droppedFrames` since it was opened; `periodMs`: how much is handed over at once; `delayMs`: as its driver says. */
  capture: cardStatus.extend({ xruns: count, droppedFrames: count, periodMs: count, delayMs: z.number() }),
  playback: cardStatus.extend({ delayMs: z.number(), xruns: count, starvedFrames: count }),
  codec: z.object({ encoder: z.string(), decoder: z.string(), rateHz: z.int() }),
  sessions: z.array(sessionFigures),
  taps: z.array(tapFigures),
  /** Of this socket's messages, by class of fault. */
  refused: z.record(z.string(), count),
  memoryRssBytes: count,
});
export type EngineStatus = z.infer<typeof engineStatusResult>;

export const engineRequests = {
  'session.open': sessionOpen,
  'session.start': sessionStart,
  'session.dtmf': sessionDtmf,
  'session.limit': sessionLimit,
  'session.close': sessionClose,
  'session.probe': sessionProbe,
  'loop.measure': loopMeasure,
  'tone.play': tonePlay,
  'tone.stop': toneStop,
  'playback.volume': playbackVolume,
  'tap.open': tapOpen,
  'tap.close': tapClose,
  'clip.load': clipLoad,
  'clip.play': clipPlay,
  'clip.stop': clipStop,
  'mqtt.identity': mqttIdentity,
  /** This process ends, for its supervisor to start another: the station opens its sessions anew, within the same call. */
  'engine.restart': { params: z.object({}), result: z.object({}) },
  'engine.status': engineStatus,
  'log.follow': { params: logFollow, result: z.object({}) },
} as const;

/** Notifications, engine to station. */
export const engineNotifications = {
  /** The microphone was opened or closed: the LED's only source. */
  'capture.changed': z.object({ open: z.boolean() }),
  'card.changed': z.object({
    card: z.enum(['capture', 'playback']),
    state: z.enum(['closed', 'up', 'down']),
    fault: z.object({ code: z.string(), text: z.string() }).nullable(),
  }),
  /** The first packet of the far end was played. */
  'session.heard': z.object({ sessionId, afterMs: z.number() }),
  /** The far end pressed a digit, which is over. */
  'session.dtmf': z.object({ sessionId, ...dtmfTold.shape }),
  'clip.ended': z.object({ clipId, reason: clipEnd }),
  /** No packet for 5 s (or again after it). */
  'session.silent': z.object({ sessionId, silent: z.boolean() }),
  /** Once a second of a session that is started; with the path that its packets take now. */
  'session.quality': z.object({ sessionId, path: mediaPath, quality: qualityFigures }),
  /** Whether this machine is too slow for Opus, even for the simplest: G.711 is wished for then. Told to who connects, too. */
  'machine.slow': z.object({ wantsG711: z.boolean() }),
  /**
   * The session's packets take another path from now on, since UDP was `unproved` within a second of the start, `silent` (nothing
   * came), `unanswered` (what we send does not arrive), `lossy` (so much is lost that nothing helps), left by the `far-end`; or since it has `returned`.
   */
  'session.path': z.object({
    sessionId,
    path: mediaPath,
    reason: z.enum(['unproved', 'silent', 'unanswered', 'lossy', 'far-end', 'returned']),
  }),
  /** To who follows the log. */
  'log.lines': logLines,
} as const;
