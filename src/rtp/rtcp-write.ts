import {
  type ReportBlock,
  RTCP_GOODBYE,
  RTCP_RECEIVER_REPORT,
  RTCP_SENDER_REPORT,
  RTCP_SOURCE_DESCRIPTION,
  type RtcpPacket,
  SDES_CNAME,
} from './rtcp.js';
import { extendedReportBody, RTCP_EXTENDED_REPORT } from './rtcp-xr.js';

/**
 * A compound RTCP datagram (RFC 3550, 6.1), in memory of its own. The caller puts a report first. At most 31 blocks, chunks
 * or sources a packet; texts are cut at 255 bytes.
 */
export function writeRtcp(packets: readonly RtcpPacket[]): Buffer {
  return Buffer.concat(packets.map(writeOne));
}

function writeOne(packet: RtcpPacket): Buffer {
  switch (packet.type) {
    case 'sender-report': {
      const body = Buffer.alloc(24);
      body.writeUInt32BE(packet.ssrc, 0);
      body.writeUInt32BE(packet.ntp.seconds, 4);
      body.writeUInt32BE(packet.ntp.fraction, 8);
      body.writeUInt32BE(packet.rtpTimestamp, 12);
      body.writeUInt32BE(packet.packetCount >>> 0, 16);
      body.writeUInt32BE(packet.octetCount >>> 0, 20);
      return withHeader(RTCP_SENDER_REPORT, packet.reports.length, [body, ...packet.reports.map(reportBlock)]);
    }
    case 'receiver-report':
      return withHeader(RTCP_RECEIVER_REPORT, packet.reports.length, [
        uint32s(packet.ssrc),
        ...packet.reports.map(reportBlock),
      ]);
    case 'source-description':
      return withHeader(
        RTCP_SOURCE_DESCRIPTION,
        packet.chunks.length,
        packet.chunks.map((chunk) => {
          const name = shortText(chunk.cname);
          const items = Buffer.concat([uint32s(chunk.ssrc), Buffer.from([SDES_CNAME, name.length]), name]);
          // At least one null octet ends the list of items, then more up to the next word.
          return Buffer.concat([items, Buffer.alloc(4 - (items.length % 4))]);
        }),
      );
    case 'extended-report':
      return withHeader(RTCP_EXTENDED_REPORT, 0, [extendedReportBody(packet)]);
    case 'goodbye': {
      const reason = shortText(packet.reason);
      const text = reason.length === 0 ? reason : Buffer.concat([Buffer.from([reason.length]), reason]);
      return withHeader(RTCP_GOODBYE, packet.ssrcs.length, [
        uint32s(...packet.ssrcs),
        text,
        Buffer.alloc((4 - (text.length % 4)) % 4),
      ]);
    }
  }
}

function withHeader(packetType: number, count: number, parts: readonly Buffer[]): Buffer {
  if (count > 31) throw new RangeError(`${count} entries in one RTCP packet; at most 31`);
  const body = Buffer.concat(parts);
  const header = Buffer.from([0x80 | count, packetType, 0, 0]);
  header.writeUInt16BE(body.length / 4, 2);
  return Buffer.concat([header, body]);
}

function reportBlock(block: ReportBlock): Buffer {
  const bytes = Buffer.alloc(24);
  bytes.writeUInt32BE(block.ssrc, 0);
  const lost = Math.max(-0x80_0000, Math.min(0x7f_ffff, block.cumulativeLost));
  bytes.writeInt32BE((block.fractionLost << 24) | (lost & 0xff_ffff), 4);
  bytes.writeUInt32BE(block.highestSequence >>> 0, 8);
  bytes.writeUInt32BE(block.jitter >>> 0, 12);
  bytes.writeUInt32BE(block.lastSenderReport, 16);
  bytes.writeUInt32BE(block.delaySinceLastSenderReport >>> 0, 20);
  return bytes;
}

function uint32s(...values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length);
  values.forEach((value, i) => {
    bytes.writeUInt32BE(value, 4 * i);
  });
  return bytes;
}

function shortText(text: string): Buffer {
  return Buffer.from(text, 'utf8').subarray(0, 255);
}
