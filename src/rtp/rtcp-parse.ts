import {
  type Goodbye,
  type ReportBlock,
  RTCP_GOODBYE,
  RTCP_RECEIVER_REPORT,
  RTCP_SENDER_REPORT,
  RTCP_SOURCE_DESCRIPTION,
  type RtcpFault,
  type RtcpPacket,
  type RtcpParsed,
  SDES_CNAME,
  type SourceDescription,
} from './rtcp.js';
import { RTCP_EXTENDED_REPORT, readExtendedReport } from './rtcp-xr.js';

/** A datagram of 1,500 bytes could hold 375 empty packets; two parties need three. */
const MOST_PACKETS = 16;
const REPORT_BLOCK_BYTES = 24;

/**
 * Reads a compound RTCP datagram (RFC 3550, 6.1), checked as A.2 says: version 2 throughout, a report first, padding in the
 * last packet alone, lengths that add up to the datagram. One fault refuses the whole datagram.
 */
export function parseRtcp(datagram: Uint8Array): RtcpParsed {
  const view = new DataView(datagram.buffer, datagram.byteOffset, datagram.byteLength);
  if (datagram.length < 8) return { ok: false, fault: 'rtcp-too-short' };
  const packets: RtcpPacket[] = [];
  let seen = 0;
  for (let at = 0; at < datagram.length; ) {
    const body = packetAt(view, at, seen === 0);
    if (typeof body === 'string') return { ok: false, fault: body };
    seen += 1;
    if (seen > MOST_PACKETS) return { ok: false, fault: 'rtcp-too-many-packets' };
    const packet = read(body);
    if (typeof packet === 'string') return { ok: false, fault: packet };
    if (packet !== null) packets.push(packet);
    at = body.next;
  }
  return { ok: true, packets };
}

/** One packet of the compound: `view` begins after its 4-byte header and ends before its padding. */
interface Body {
  readonly view: DataView;
  readonly packetType: number;
  /** The header's 5-bit count of blocks, chunks or sources. */
  readonly count: number;
  readonly next: number;
}

function packetAt(view: DataView, at: number, isFirst: boolean): Body | RtcpFault {
  if (at + 4 > view.byteLength) return 'rtcp-too-short';
  const head = view.getUint8(at);
  const packetType = view.getUint8(at + 1);
  if (head >> 6 !== 2) return 'rtcp-wrong-version';
  if (isFirst && packetType !== RTCP_SENDER_REPORT && packetType !== RTCP_RECEIVER_REPORT) {
    return 'rtcp-first-no-report';
  }
  const next = at + 4 + 4 * view.getUint16(at + 2);
  if (next > view.byteLength) return 'rtcp-length-past-end';
  let end = next;
  if ((head & 0x20) !== 0) {
    const padding = next - at > 4 ? view.getUint8(next - 1) : 0;
    if (next !== view.byteLength || padding === 0 || padding % 4 !== 0 || padding > next - at - 4) {
      return 'rtcp-invalid-padding';
    }
    end -= padding;
  }
  const body = new DataView(view.buffer, view.byteOffset + at + 4, end - at - 4);
  return { view: body, packetType, count: head & 0x1f, next };
}

function read(body: Body): RtcpPacket | null | RtcpFault {
  switch (body.packetType) {
    case RTCP_SENDER_REPORT:
      return readSenderReport(body);
    case RTCP_RECEIVER_REPORT:
      return readReceiverReport(body);
    case RTCP_SOURCE_DESCRIPTION:
      return readSourceDescription(body);
    case RTCP_GOODBYE:
      return readGoodbye(body);
    case RTCP_EXTENDED_REPORT:
      return readExtendedReport(body.view) ?? 'rtcp-truncated-xr';
    default:
      return null;
  }
}

function readSenderReport({ view, count }: Body): RtcpPacket | RtcpFault {
  const blocksAt = 24;
  if (view.byteLength < blocksAt + count * REPORT_BLOCK_BYTES) return 'rtcp-truncated-report';
  return {
    type: 'sender-report',
    ssrc: view.getUint32(0),
    ntp: { seconds: view.getUint32(4), fraction: view.getUint32(8) },
    rtpTimestamp: view.getUint32(12),
    packetCount: view.getUint32(16),
    octetCount: view.getUint32(20),
    reports: readReportBlocks(view, blocksAt, count),
  };
}

function readReceiverReport({ view, count }: Body): RtcpPacket | RtcpFault {
  const blocksAt = 4;
  if (view.byteLength < blocksAt + count * REPORT_BLOCK_BYTES) return 'rtcp-truncated-report';
  return { type: 'receiver-report', ssrc: view.getUint32(0), reports: readReportBlocks(view, blocksAt, count) };
}

function readReportBlocks(view: DataView, from: number, count: number): ReportBlock[] {
  return Array.from({ length: count }, (_, i) => {
    const at = from + i * REPORT_BLOCK_BYTES;
    return {
      ssrc: view.getUint32(at),
      fractionLost: view.getUint8(at + 4),
      cumulativeLost: (view.getInt32(at + 4) << 8) >> 8,
      highestSequence: view.getUint32(at + 8),
      jitter: view.getUint32(at + 12),
      lastSenderReport: view.getUint32(at + 16),
      delaySinceLastSenderReport: view.getUint32(at + 20),
    };
  });
}

function readSourceDescription({ view, count }: Body): SourceDescription | RtcpFault {
  const chunks: { ssrc: number; cname: string }[] = [];
  let at = 0;
  for (let chunk = 0; chunk < count; chunk++) {
    if (at + 5 > view.byteLength) return 'rtcp-truncated-sdes';
    const ssrc = view.getUint32(at);
    at += 4;
    // Items end with a null octet; the next chunk begins at a 32-bit boundary.
    for (;;) {
      if (at >= view.byteLength) return 'rtcp-truncated-sdes';
      const item = view.getUint8(at);
      if (item === 0) break;
      if (at + 2 > view.byteLength) return 'rtcp-truncated-sdes';
      const length = view.getUint8(at + 1);
      if (at + 2 + length > view.byteLength) return 'rtcp-truncated-sdes';
      if (item === SDES_CNAME) chunks.push({ ssrc, cname: textOf(view, at + 2, length) });
      at += 2 + length;
    }
    at = (at + 4) & ~3;
  }
  return { type: 'source-description', chunks };
}

function readGoodbye({ view, count }: Body): Goodbye | RtcpFault {
  const reasonAt = 4 * count;
  if (view.byteLength < reasonAt) return 'rtcp-truncated-bye';
  const ssrcs = Array.from({ length: count }, (_, i) => view.getUint32(4 * i));
  if (view.byteLength === reasonAt) return { type: 'goodbye', ssrcs, reason: '' };
  const length = view.getUint8(reasonAt);
  if (reasonAt + 1 + length > view.byteLength) return 'rtcp-truncated-bye';
  return { type: 'goodbye', ssrcs, reason: textOf(view, reasonAt + 1, length) };
}

function textOf(view: DataView, at: number, length: number): string {
  return Buffer.from(view.buffer, view.byteOffset + at, length).toString('utf8');
}
