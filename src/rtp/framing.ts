/** Why the rest of a message was left aside; the packets before the fault are good. */
export type FramingFault = 'framing-truncated' | 'framing-packet-too-large' | 'framing-too-many-packets';

export interface Unframed {
  /** Views of the message. */
  readonly packets: readonly Uint8Array[];
  readonly fault: FramingFault | null;
}

const LENGTH_BYTES = 2;
/** As for UDP: a path of 1,500 bytes carries no more. */
export const MOST_FRAMED_PACKET_BYTES = 2_048;
/** 1.28 s of 20 ms packets; nobody holds that much back. */
export const MOST_FRAMED_PACKETS = 64;

/** Several RTP or RTCP packets in one message, each after its length (RFC 4571, 2): 16 bits, most significant byte first. */
export function framePackets(packets: readonly Uint8Array[]): Buffer {
  const message = Buffer.allocUnsafe(packets.reduce((sum, packet) => sum + LENGTH_BYTES + packet.length, 0));
  let at = 0;
  for (const packet of packets) {
    at = message.writeUInt16BE(packet.length, at);
    message.set(packet, at);
    at += packet.length;
  }
  return message;
}

/** The packets of a message. Nothing is copied, nothing throws. A length of 0 is the null packet, and skipped (RFC 4571, 2). */
export function unframePackets(message: Uint8Array): Unframed {
  const packets: Uint8Array[] = [];
  for (let at = 0; at < message.length; ) {
    const length = ((message[at] ?? 0) << 8) | (message[at + 1] ?? 0);
    at += LENGTH_BYTES;
    if (at > message.length || at + length > message.length) return { packets, fault: 'framing-truncated' };
    if (length > MOST_FRAMED_PACKET_BYTES) return { packets, fault: 'framing-packet-too-large' };
    if (length === 0) continue;
    if (packets.length === MOST_FRAMED_PACKETS) return { packets, fault: 'framing-too-many-packets' };
    packets.push(message.subarray(at, at + length));
    at += length;
  }
  return { packets, fault: null };
}
