import { isIP } from 'node:net';
import { parse, write } from 'sdp-transform';
import { type AudioFormat, formatLines, isSpeech, readFormats } from './audio-formats.js';
import { readCrypto, type SdesSecurity, writeCrypto } from './sdes.js';
import { type Fields, fields, list, optional, whole } from './sdp-fields.js';

/** An address and UDP port; RTP and RTCP share it (RFC 5761). The address is IPv4 or IPv6, no name. */
export interface HostAddress {
  readonly address: string;
  readonly port: number;
}

/** How speech travels: RTP over UDP (RFC 3550), or the same packets inside MQTT. */
export type MediaPath = 'udp' | 'mqtt';

export type MediaDirection = 'sendrecv' | 'sendonly' | 'recvonly' | 'inactive';

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
  /** What this end takes, the one that it wants first; at least one speech codec. */
  readonly formats: readonly AudioFormat[];
  /** Its keys for SRTP; left out for plain RTP. */
  readonly security?: SdesSecurity;
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
  | 'no-common-crypto'
  | 'not-encrypted'
  | 'only-encrypted'
  | 'bad-address'
  | 'no-rtcp-mux';
export type SdpResult =
  | { readonly ok: true; readonly value: AudioDescription }
  | { readonly ok: false; readonly fault: SdpFault; readonly text: string };

const MOST_CHARACTERS = 16_384;
const MOST_MEDIA_LINES = 8;
const MOST_CANDIDATES = 16;
const MOST_UINT32 = 0xffff_ffff;
/** Ours: `a=x-entryphone-path:udp mqtt` at the audio line. */
const PATH_ATTRIBUTE = 'x-entryphone-path:';

/** The SDP of an offer, an answer or an update (RFC 8866), lines ended by CR LF. */
export function writeSdp(description: AudioDescription): string {
  const { hosts, others, audioAt } = description;
  const [first] = hosts;
  const origin = { address: first.address, ipVer: isIP(first.address) };
  const audio = {
    type: 'audio',
    port: first.port,
    protocol: description.security?.isRequired === true ? 'RTP/SAVP' : 'RTP/AVP',
    connection: { version: origin.ipVer, ip: first.address },
    ...formatLines(description.formats),
    crypto: writeCrypto(description.security),
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
  const profile = /^RTP\/(S?)AVPF?$/.exec(String(audio.protocol));
  if (profile === null) {
    return fault('no-common-codec', `the audio line is ${short(audio.protocol)}; RTP/SAVP or RTP/AVP is needed`);
  }
  const isSecure = profile[1] === 'S';
  const security = readCrypto(list(audio.crypto), isSecure);
  if (isSecure && security === undefined) return fault('no-common-crypto', 'no line a=crypto can be followed');
  if (audio.rtcpMux !== 'rtcp-mux') return fault('no-rtcp-mux', 'RTP and RTCP must share a port (a=rtcp-mux)');
  const formats = readFormats(audio);
  if (!formats.some(isSpeech)) return fault('no-common-codec', 'the audio line has no Opus, PCMU or PCMA');
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
      formats,
      ...optional('paths', pathsOf(audio)),
      ...optional('security', security),
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

function short(value: unknown): string {
  return String(value).slice(0, 64);
}

function fault(name: SdpFault, text: string): SdpResult {
  return { ok: false, fault: name, text };
}
