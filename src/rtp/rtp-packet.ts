/** One RTP packet (RFC 3550, 5.1). `payload` and the extension's `data` are views of the datagram that was parsed. */
export interface RtpPacket {
  /** 0 … 127 */
  readonly payloadType: number;
  readonly marker: boolean;
  /** 0 … 65,535 */
  readonly sequence: number;
  /** 0 … 2^32 - 1, in ticks of the payload's clock (Opus: 48 kHz at any audio rate, RFC 7587, 4.1). */
  readonly timestamp: number;
  readonly ssrc: number;
  readonly csrcs: readonly number[];
  readonly extension: RtpExtension | null;
  readonly payload: Uint8Array;
}

/** The header extension (RFC 3550, 5.3.1); `data` is a whole number of 32-bit words. */
export interface RtpExtension {
  readonly profile: number;
  readonly data: Uint8Array;
}

export type RtpFault =
  | 'rtp-too-short'
  | 'rtp-wrong-version'
  | 'rtp-truncated-csrc'
  | 'rtp-truncated-extension'
  | 'rtp-invalid-padding';

export type RtpParsed =
  | { readonly ok: true; readonly packet: RtpPacket }
  | { readonly ok: false; readonly fault: RtpFault };

export const RTP_HEADER_BYTES = 12;
const VERSION = 2;
const NO_CSRCS: readonly number[] = [];

const refused = (fault: RtpFault): RtpParsed => ({ ok: false, fault });

/** Reads a datagram as RTP. Nothing is copied: the datagram must not be reused while the packet is. */
export function parseRtp(datagram: Uint8Array): RtpParsed {
  if (datagram.length < RTP_HEADER_BYTES) return refused('rtp-too-short');
  const first = byte(datagram, 0);
  const second = byte(datagram, 1);
  if (first >> 6 !== VERSION) return refused('rtp-wrong-version');

  const csrcCount = first & 0x0f;
  let at = RTP_HEADER_BYTES + 4 * csrcCount;
  if (at > datagram.length) return refused('rtp-truncated-csrc');
  const csrcs =
    csrcCount === 0
      ? NO_CSRCS
      : Array.from({ length: csrcCount }, (_, i) => uint32(datagram, RTP_HEADER_BYTES + 4 * i));

  let extension: RtpExtension | null = null;
  if ((first & 0x10) !== 0) {
    if (at + 4 > datagram.length) return refused('rtp-truncated-extension');
    const end = at + 4 + 4 * uint16(datagram, at + 2);
    if (end > datagram.length) return refused('rtp-truncated-extension');
    extension = { profile: uint16(datagram, at), data: datagram.subarray(at + 4, end) };
    at = end;
  }

  let end = datagram.length;
  if ((first & 0x20) !== 0) {
    // The last octet counts the padding, itself included.
    const padding = end > at ? byte(datagram, end - 1) : 0;
    if (padding === 0 || at + padding > end) return refused('rtp-invalid-padding');
    end -= padding;
  }

  const packet: RtpPacket = {
    payloadType: second & 0x7f,
    marker: (second & 0x80) !== 0,
    sequence: uint16(datagram, 2),
    timestamp: uint32(datagram, 4),
    ssrc: uint32(datagram, 8),
    csrcs,
    extension,
    payload: datagram.subarray(at, end),
  };
  return { ok: true, packet };
}

/**
 * Where the payload begins (or, within SRTP, what is enciphered): after the CSRCs and the extension. Null for what is no RTP
 * or ends before.
 */
export function rtpHeaderBytes(datagram: Uint8Array): number | null {
  if (datagram.length < RTP_HEADER_BYTES || byte(datagram, 0) >> 6 !== VERSION) return null;
  const first = byte(datagram, 0);
  const at = RTP_HEADER_BYTES + 4 * (first & 0x0f);
  const end = (first & 0x10) === 0 ? at : at + 4 + 4 * uint16(datagram, at + 2);
  return end > datagram.length ? null : end;
}

/**
 * The packet's datagram, in memory of its own.
 * @throws RangeError for more than 15 CSRCs, or an extension that is no whole number of 32-bit words
 */
export function writeRtp(packet: RtpPacket): Buffer {
  const { csrcs, extension, payload } = packet;
  if (csrcs.length > 15) throw new RangeError(`${csrcs.length} CSRCs; at most 15`);
  if (extension !== null && extension.data.length % 4 !== 0) throw new RangeError('extension is not in 32-bit words');
  const extensionBytes = extension === null ? 0 : 4 + extension.data.length;
  const bodyAt = RTP_HEADER_BYTES + 4 * csrcs.length;
  const datagram = Buffer.allocUnsafe(bodyAt + extensionBytes + payload.length);
  datagram[0] = (VERSION << 6) | (extension === null ? 0 : 0x10) | csrcs.length;
  datagram[1] = (packet.marker ? 0x80 : 0) | packet.payloadType;
  datagram.writeUInt16BE(packet.sequence, 2);
  datagram.writeUInt32BE(packet.timestamp, 4);
  datagram.writeUInt32BE(packet.ssrc, 8);
  csrcs.forEach((csrc, i) => {
    datagram.writeUInt32BE(csrc, RTP_HEADER_BYTES + 4 * i);
  });
  if (extension !== null) {
    datagram.writeUInt16BE(extension.profile, bodyAt);
    datagram.writeUInt16BE(extension.data.length / 4, bodyAt + 2);
    datagram.set(extension.data, bodyAt + 4);
  }
  datagram.set(payload, bodyAt + extensionBytes);
  return datagram;
}

/**
 * RTP and RTCP on one port (RFC 5761, 4): RTCP's packet types 192 … 223 stand where RTP has its marker and payload type,
 * which is why payload types 64 … 95 can't be used. What doesn't begin with version 2 is neither (RFC 7983).
 */
export function kindOfDatagram(datagram: Uint8Array): 'rtp' | 'rtcp' | 'neither' {
  if (datagram.length < 2 || byte(datagram, 0) >> 6 !== VERSION) return 'neither';
  const second = byte(datagram, 1);
  return second >= 192 && second <= 223 ? 'rtcp' : 'rtp';
}

function byte(from: Uint8Array, at: number): number {
  return from[at] ?? 0;
}

function uint16(from: Uint8Array, at: number): number {
  return (byte(from, at) << 8) | byte(from, at + 1);
}

function uint32(from: Uint8Array, at: number): number {
  return ((uint16(from, at) << 16) | uint16(from, at + 2)) >>> 0;
}
