import { type AudioFormat, clockRateOf, isAlike, isSpeech, type SpeechCodec } from './audio-formats.js';
import { agreedKeys, type EncryptionPolicy, securityFault } from './sdes.js';
import {
  type AudioDescription,
  type HostAddress,
  type MediaDirection,
  type MediaPath,
  parseSdp,
  type SdpResult,
} from './sdp.js';

/** As the peer numbers a format, in what we send; as we do, in what we receive. */
export interface PayloadTypes {
  readonly send: number;
  readonly receive: number;
}

/** How media flows once both ends have described themselves. */
export interface NegotiatedMedia {
  readonly path: MediaPath;
  /** Either path will do: the media finds out which carries, and the call moves between them as that changes. */
  readonly provePath: boolean;
  readonly remote: HostAddress;
  readonly codec: SpeechCodec;
  readonly sendPayloadType: number;
  readonly receivePayloadType: number;
  /** Redundant audio (RFC 2198) and telephone events (RFC 4733), where both ends take them beside the codec. */
  readonly red: (PayloadTypes & { readonly copies: number }) | null;
  readonly telephoneEvent: PayloadTypes | null;
  /** SRTP, each end with a key of its own; null is plain RTP. */
  readonly srtp: ReturnType<typeof agreedKeys>;
  readonly peerWantsFec: boolean;
  readonly packetTimeMs: PacketTimeMs;
  /** What the peer takes at most. */
  readonly maxPacketTimeMs: PacketTimeMs;
  readonly mayWeSend: boolean;
}

/**
 * What follows from the two descriptions (RFC 3264, 6.1 and 7; RFC 7587, 7.1): the codec is the first of the peer's that this
 * end has too. Since an answer keeps the offer's order, both ends find the same; who wants another codec in mid-call names it
 * alone. `packetTimeMs` is what we would choose.
 * @returns null where no speech codec is common
 */
export function negotiate(
  local: AudioDescription,
  remote: AudioDescription,
  packetTimeMs: number,
): NegotiatedMedia | null {
  const theirs = remote.formats.filter(isSpeech).find((one) => local.formats.some((own) => isAlike(own, one)));
  const ours = theirs === undefined ? undefined : local.formats.find((own) => isAlike(own, theirs));
  if (theirs === undefined || ours === undefined) return null;
  const clockRateHz = clockRateOf(theirs.codec);
  const wanted = Math.min(remote.packetTimeMs ?? packetTimeMs, remote.maxPacketTimeMs ?? 60);
  const sends = (direction: MediaDirection) => direction === 'sendrecv' || direction === 'sendonly';
  const receives = (direction: MediaDirection) => direction === 'sendrecv' || direction === 'recvonly';
  const [ourPaths, theirPaths]: (readonly MediaPath[])[] = [local.paths ?? ['udp'], remote.paths ?? ['udp']];
  const mayUseMqtt = ourPaths?.includes('mqtt') === true && theirPaths?.includes('mqtt') === true;
  const path = mayUseMqtt && (ourPaths[0] === 'mqtt' || theirPaths[0] === 'mqtt') ? 'mqtt' : 'udp';
  return {
    path,
    provePath: mayUseMqtt && ourPaths.includes('udp') && theirPaths?.includes('udp') === true,
    remote: remote.hosts[0],
    codec: theirs.codec,
    sendPayloadType: theirs.payloadType,
    receivePayloadType: ours.payloadType,
    red: theirs.codec === 'opus' ? redOf(local, remote) : null,
    telephoneEvent: both(local, remote, (one) => one.codec === 'telephone-event' && one.clockRateHz === clockRateHz),
    srtp: agreedKeys(local.security, remote.security),
    peerWantsFec: theirs.codec === 'opus' && theirs.useInbandFec,
    packetTimeMs: packetTimeOf(wanted),
    maxPacketTimeMs: packetTimeOf(remote.maxPacketTimeMs ?? wanted),
    mayWeSend: sends(local.direction) && receives(remote.direction),
  };
}

type PacketTimeMs = 10 | 20 | 40 | 60;

function packetTimeOf(ms: number): PacketTimeMs {
  if (ms >= 60) return 60;
  if (ms >= 40) return 40;
  return ms >= 20 ? 20 : 10;
}

function redOf(local: AudioDescription, remote: AudioDescription): NegotiatedMedia['red'] {
  const types = both(local, remote, ({ codec }) => codec === 'red');
  const theirs = remote.formats.find((one) => one.codec === 'red');
  return types === null || theirs?.codec !== 'red' ? null : { ...types, copies: Math.min(8, theirs.blocks - 1) };
}

function both(
  local: AudioDescription,
  remote: AudioDescription,
  isIt: (format: AudioFormat) => boolean,
): PayloadTypes | null {
  const [send, receive] = [remote.formats.find(isIt), local.formats.find(isIt)];
  return send === undefined || receive === undefined ? null : { send: send.payloadType, receive: receive.payloadType };
}

/** Reads what the peer says, and whether it goes with this end's rule for encryption. Never throws. */
export function readPeer(text: string, policy: EncryptionPolicy): SdpResult {
  const parsed = parseSdp(text);
  const fault = parsed.ok ? securityFault(policy, parsed.value.security) : null;
  if (fault === null) return parsed;
  return { ok: false, fault, text: fault === 'not-encrypted' ? 'SRTP is required here' : 'SRTP is off here' };
}

/** The direction of an answer to an offer, for an end that sends and receives (RFC 3264, 6.1). */
export function answerDirection(offered: MediaDirection): MediaDirection {
  if (offered === 'sendonly') return 'recvonly';
  return offered === 'recvonly' ? 'sendonly' : offered;
}
