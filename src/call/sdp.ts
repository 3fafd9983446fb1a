import { isIP } from 'node:net';
import { parse, parseParams, write } from 'sdp-transform';

/** An address and UDP port; RTP and RTCP share it (RFC 5761). The address is IPv4 or IPv6, no name. */
export interface HostAddress {
  readonly address: string;
  readonly port: number;
}

/** How speech travels: RTP over UDP (RFC 3550), or the same packets inside MQTT. */
export type MediaPath = 'udp' | 'mqtt';

export type MediaDirection = 'sendrecv' | 'sendonly' | 'recvonly' | 'inactive';

/** What one end says of its Opus stream (RFC 7587, 6.1 and 7): what it would receive, and what it sends. */
export interface OpusDescription {
  readonly payloadType: number;
  readonly useInbandFec: boolean;
  readonly maxAverageBitrateBps?: number;
  readonly maxPlaybackRateHz?: number;
  readonly maxCaptureRateHz?: number;
}

/** One session description with one audio stream: an offer or an answer, in the terms of this house. */
export interface AudioDescription {
  /** `sess-id` and `sess-version` of the o= line (RFC 8866, 5.2); the version counts up with each change. */
  readonly sessionId: number;
  readonly version: number;
  /** Where this end receives; the first is what c= and m= say, the rest come from a=candidate (RFC 8839), best first. */
  readonly hosts: readonly [HostAddress, ...HostAddress[]];
  readonly direction: MediaDirection;
  /** What this end can use, the one that it wants first; UDP alone where nothing is said. */
  readonly paths?: readonly MediaPath[];
  readonly opus: OpusDescription;
  readonly packetTimeMs?: number;
  readonly maxPacketTimeMs?: number;
  readonly ssrc?: number;
  readonly cname?: string;
  /** Other m= lines of an offer, in their order; an answer refuses each (RFC 3264, 6). `audioAt` is the audio line's place. */
  readonly others: readonly OtherMedia[];
  readonly audioAt: number;
}

export interface OtherMedia {
  readonly type: string;
  readonly protocol: string;
  readonly payloads: string;
}

export type SdpFault =
  | 'too-large'
  | 'not-sdp'
  | 'no-audio'
  | 'audio-refused'
  | 'no-common-codec'
  | 'bad-address'
  | 'no-rtcp-mux';
export type SdpResult =
  | { readonly ok: true; readonly value: AudioDescription }
  | { readonly ok: false; readonly fault: SdpFault; readonly text: string };

export const OPUS_PAYLOAD_TYPE = 96;
const MOST_CHARACTERS = 16_384;
const MOST_MEDIA_LINES = 8;
const MOST_CANDIDATES = 16;
const MOST_UINT32 = 0xffff_ffff;
/** Ours: `a=x-entryphone-path:udp mqtt` at the audio line. */
const PATH_ATTRIBUTE = 'x-entryphone-path:';

/** The SDP of an offer, an answer or an update (RFC 8866), lines ended by CR LF. */
export function writeSdp(description: AudioDescription): string {
  const { hosts, opus, others, audioAt } = description;
  const [first] = hosts;
  const origin = { address: first.address, ipVer: isIP(first.address) };
  const audio = {
    type: 'audio',
    port: first.port,
    protocol: 'RTP/AVP',
    payloads: String(opus.payloadType),
    connection: { version: origin.ipVer, ip: first.address },
    rtp: [{ payload: opus.payloadType, codec: 'opus', rate: 48_000, encoding: 2 }],
    fmtp: [{ payload: opus.payloadType, config: formatParameters(opus) }],
    ptime: description.packetTimeMs,
    maxptime: description.maxPacketTimeMs,
    rtcpMux: 'rtcp-mux',
    direction: description.direction,
    invalid: description.paths === undefined ? [] : [{ value: PATH_ATTRIBUTE + description.paths.join(' ') }],
    ssrcs:
      description.ssrc === undefined
        ? undefined
        : [{ id: description.ssrc, attribute: 'cname', value: description.cname ?? 'entryphone' }],
    candidates: hosts.map((host, index) => ({
      foundation: String(index + 1),
      component: 1,
      transport: 'UDP',
      // RFC 8445, 5.1.2.1: type preference of a host 126, then the order of our own, then component 1.
      priority: 126 * 2 ** 24 + (65_535 - index) * 2 ** 8 + 255,
      ip: host.address,
      port: host.port,
      type: 'host',
    })),
  };
  const refused = others.map((other) => ({ ...other, port: 0, rtp: [], fmtp: [] }));
  return write({
    version: 0,
    origin: {
      username: '-',
      sessionId: description.sessionId,
      sessionVersion: description.version,
      netType: 'IN',
      ...origin,
    },
    name: '-',
    timing: { start: 0, stop: 0 },
    media: [...refused.slice(0, audioAt), audio, ...refused.slice(audioAt)],
  });
}

function formatParameters(opus: OpusDescription): string {
  return [
    `useinbandfec=${opus.useInbandFec ? 1 : 0}`,
    'stereo=0',
    ...(opus.maxAverageBitrateBps === undefined ? [] : [`maxaveragebitrate=${opus.maxAverageBitrateBps}`]),
    ...(opus.maxPlaybackRateHz === undefined ? [] : [`maxplaybackrate=${opus.maxPlaybackRateHz}`]),
    ...(opus.maxCaptureRateHz === undefined ? [] : [`sprop-maxcapturerate=${opus.maxCaptureRateHz}`]),
  ].join(';');
}

/** Reads an offer or an answer. Never throws, whatever the text is. */
export function parseSdp(text: string): SdpResult {
  if (text.length > MOST_CHARACTERS) return fault('too-large', `${text.length} characters; at most ${MOST_CHARACTERS}`);
  try {
    return describe(fields(parse(text)));
  } catch {
    return fault('not-sdp', 'the text is no session description');
  }
}

function describe(session: Fields): SdpResult {
  const origin = fields(session.origin);
  const sessionId = whole(origin.sessionId, Number.MAX_SAFE_INTEGER);
  const version = whole(origin.sessionVersion, Number.MAX_SAFE_INTEGER);
  if (session.version !== 0 || sessionId === undefined || version === undefined) {
    return fault('not-sdp', 'the v= or the o= line is missing or wrong');
  }
  const media = list(session.media);
  if (media.length > MOST_MEDIA_LINES)
    return fault('too-large', `${media.length} media lines; at most ${MOST_MEDIA_LINES}`);
  const audioAt = media.findIndex((one) => one.type === 'audio');
  const audio = media[audioAt];
  if (audio === undefined) return fault('no-audio', 'there is no audio line');
  if (audio.port === 0) return fault('audio-refused', 'the audio line has port 0');
  if (audio.protocol !== 'RTP/AVP' && audio.protocol !== 'RTP/AVPF') {
    return fault('no-common-codec', `the audio line is ${short(audio.protocol)}; RTP/AVP is needed`);
  }
  if (audio.rtcpMux !== 'rtcp-mux') return fault('no-rtcp-mux', 'RTP and RTCP must share a port (a=rtcp-mux)');
  const opus = opusOf(audio);
  if (opus === undefined) return fault('no-common-codec', 'the audio line has no opus/48000/2');
  const connection = fields(audio.connection ?? session.connection);
  const first = hostAddress(connection.ip, audio.port);
  if (first === undefined)
    return fault('bad-address', `${short(connection.ip)} port ${short(audio.port)} can't be sent to`);
  const source = list(audio.ssrcs).find((one) => one.attribute === 'cname');
  const ssrc = whole(source?.id, MOST_UINT32);
  return {
    ok: true,
    value: {
      sessionId,
      version,
      hosts: [first, ...candidatesOf(audio, first)],
      direction: directionOf(audio.direction ?? session.direction),
      opus,
      ...optional('paths', pathsOf(audio)),
      ...optional('packetTimeMs', whole(audio.ptime, 120, 3)),
      ...optional('maxPacketTimeMs', whole(audio.maxptime, 120, 3)),
      ...optional('ssrc', ssrc),
      ...optional('cname', ssrc === undefined ? undefined : String(source?.value).slice(0, 64)),
      others: media
        .filter((_, index) => index !== audioAt)
        .map((one) => ({ type: short(one.type), protocol: short(one.protocol), payloads: short(one.payloads) })),
      audioAt,
    },
  };
}

/** Words that are not known are passed over; undefined where none is left. */
function pathsOf(audio: Fields): readonly MediaPath[] | undefined {
  const line = list(audio.invalid)
    .map(({ value }) => String(value))
    .find((value) => value.startsWith(PATH_ATTRIBUTE));
  const words = (line ?? '').slice(PATH_ATTRIBUTE.length).split(' ', 8);
  const paths = [...new Set(words)].filter((word) => word === 'udp' || word === 'mqtt');
  return paths.length > 0 ? paths : undefined;
}

function opusOf(audio: Fields): OpusDescription | undefined {
  const offered = String(audio.payloads).split(' ');
  const map = list(audio.rtp).find(
    (one) =>
      String(one.codec).toLowerCase() === 'opus' &&
      one.rate === 48_000 &&
      one.encoding === 2 &&
      !isRtcpType(one.payload) &&
      offered.includes(String(one.payload)),
  );
  const payloadType = whole(map?.payload, 127);
  if (payloadType === undefined) return undefined;
  const config = list(audio.fmtp).find((one) => one.payload === payloadType)?.config;
  const parameters = typeof config === 'string' ? parseParams(config) : {};
  return {
    payloadType,
    useInbandFec: parameters.useinbandfec === 1,
    ...optional('maxAverageBitrateBps', whole(parameters.maxaveragebitrate, 510_000, 6_000)),
    ...optional('maxPlaybackRateHz', whole(parameters.maxplaybackrate, 48_000, 8_000)),
    ...optional('maxCaptureRateHz', whole(parameters['sprop-maxcapturerate'], 48_000, 8_000)),
  };
}

/** With its marker such a packet would be taken for RTCP, which shares the port (RFC 5761, 4). */
function isRtcpType(payloadType: unknown): boolean {
  return typeof payloadType === 'number' && payloadType >= 64 && payloadType <= 95;
}

/** Host candidates over UDP other than `first`, best first. What can't be sent to is left out. */
function candidatesOf(audio: Fields, first: HostAddress): HostAddress[] {
  return list(audio.candidates)
    .slice(0, MOST_CANDIDATES)
    .filter((one) => one.type === 'host' && one.component === 1 && String(one.transport).toLowerCase() === 'udp')
    .sort((a, b) => (whole(b.priority, MOST_UINT32) ?? 0) - (whole(a.priority, MOST_UINT32) ?? 0))
    .map((one) => hostAddress(one.ip, one.port))
    .filter((host) => host !== undefined)
    .filter((host) => host.address !== first.address || host.port !== first.port);
}

/** Undefined for a name, for port 0, and for addresses that stand for nobody or for many. */
function hostAddress(address: unknown, port: unknown): HostAddress | undefined {
  const portNumber = whole(port, 65_535, 1);
  if (typeof address !== 'string' || portNumber === undefined) return undefined;
  const family = isIP(address);
  const isOne =
    family === 4 ? /^(?!0\.|22[4-9]\.|2[3-5]\d\.)/.test(address) : family === 6 && !/^(?:ff|[0:]+$|.*%)/i.test(address);
  return isOne ? { address, port: portNumber } : undefined;
}

function directionOf(value: unknown): MediaDirection {
  return value === 'sendonly' || value === 'recvonly' || value === 'inactive' ? value : 'sendrecv';
}

/** How media flows once both ends have described themselves. */
export interface NegotiatedMedia {
  readonly path: MediaPath;
  /** UDP is to be tried, since there is another path to turn to. */
  readonly provePath: boolean;
  readonly remote: HostAddress;
  /** As the peer numbers Opus, in what we send; as we do, in what we receive. */
  readonly sendPayloadType: number;
  readonly receivePayloadType: number;
  readonly peerWantsFec: boolean;
  readonly packetTimeMs: 10 | 20 | 40 | 60;
  readonly mayWeSend: boolean;
}

/** What follows from the two descriptions (RFC 3264, 6.1 and 7; RFC 7587, 7.1). `packetTimeMs` is what we would choose. */
export function negotiate(local: AudioDescription, remote: AudioDescription, packetTimeMs: number): NegotiatedMedia {
  const wanted = Math.min(remote.packetTimeMs ?? packetTimeMs, remote.maxPacketTimeMs ?? 60);
  const sends = (direction: MediaDirection) => direction === 'sendrecv' || direction === 'sendonly';
  const receives = (direction: MediaDirection) => direction === 'sendrecv' || direction === 'recvonly';
  const [ours, theirs]: (readonly MediaPath[])[] = [local.paths ?? ['udp'], remote.paths ?? ['udp']];
  const mayUseMqtt = ours?.includes('mqtt') === true && theirs?.includes('mqtt') === true;
  const path = mayUseMqtt && (ours[0] === 'mqtt' || theirs[0] === 'mqtt') ? 'mqtt' : 'udp';
  return {
    path,
    provePath: mayUseMqtt && path === 'udp',
    remote: remote.hosts[0],
    sendPayloadType: remote.opus.payloadType,
    receivePayloadType: local.opus.payloadType,
    peerWantsFec: remote.opus.useInbandFec,
    packetTimeMs: wanted >= 60 ? 60 : wanted >= 40 ? 40 : wanted >= 20 ? 20 : 10,
    mayWeSend: sends(local.direction) && receives(remote.direction),
  };
}

/** The direction of an answer to an offer, for an end that sends and receives (RFC 3264, 6.1). */
export function answerDirection(offered: MediaDirection): MediaDirection {
  if (offered === 'sendonly') return 'recvonly';
  return offered === 'recvonly' ? 'sendonly' : offered;
}

type Fields = Record<string, unknown>;

function fields(value: unknown): Fields {
  return typeof value === 'object' && value !== null ? (value as Fields) : {};
}

function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(fields) : [];
}

function whole(value: unknown, most: number, least = 0): number | undefined {
  return typeof value === 'number' && Number.isInteger(value) && value >= least && value <= most ? value : undefined;
}

function optional<K extends string, V>(key: K, value: V | undefined): { [P in K]?: V } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]: V });
}

function short(value: unknown): string {
  return String(value).slice(0, 64);
}

function fault(name: SdpFault, text: string): SdpResult {
  return { ok: false, fault: name, text };
}
