/** One earlier payload that a packet carries again; `payload` is a view of what was parsed. */
export interface RedundantBlock {
  readonly payloadType: number;
  /** How many ticks of the RTP clock it is older than the packet, 1 … 16,383. */
  readonly timestampOffset: number;
  readonly payload: Uint8Array;
}

export interface RedPayload {
  readonly payloadType: number;
  readonly payload: Uint8Array;
  /** Oldest first. */
  readonly redundant: readonly RedundantBlock[];
}

export type RedFault = 'red-truncated-header' | 'red-truncated-block' | 'red-too-many-blocks' | 'red-zero-offset';

export type RedParsed =
  | { readonly ok: true; readonly red: RedPayload }
  | { readonly ok: false; readonly fault: RedFault };

/** 14 bits: 341 ms at 48 kHz. */
export const MOST_RED_OFFSET = 16_383;
/** 10 bits. */
export const MOST_RED_BLOCK_BYTES = 1_023;
/** More copies than any loss is worth. */
export const MOST_RED_BLOCKS = 8;

const BLOCK_HEADER_BYTES = 4;
const refused = (fault: RedFault): RedParsed => ({ ok: false, fault });

/** Reads the payload of a packet of redundant audio (RFC 2198, 3). Nothing is copied, nothing throws. An empty copy is left out. */
export function parseRed(payload: Uint8Array): RedParsed {
  const heads: { payloadType: number; timestampOffset: number; length: number }[] = [];
  let at = 0;
  for (;;) {
    const first = payload[at];
    if (first === undefined) return refused('red-truncated-header');
    if ((first & 0x80) === 0) break;
    if (at + BLOCK_HEADER_BYTES > payload.length) return refused('red-truncated-header');
    if (heads.length === MOST_RED_BLOCKS) return refused('red-too-many-blocks');
    const [second = 0, third = 0, fourth = 0] = payload.subarray(at + 1, at + BLOCK_HEADER_BYTES);
    heads.push({
      payloadType: first & 0x7f,
      timestampOffset: (second << 6) | (third >> 2),
      length: ((third & 0x03) << 8) | fourth,
    });
    at += BLOCK_HEADER_BYTES;
  }
  const payloadType = (payload[at] ?? 0) & 0x7f;
  at += 1;
  const redundant: RedundantBlock[] = [];
  for (const { length, ...head } of heads) {
    if (at + length > payload.length) return refused('red-truncated-block');
    if (head.timestampOffset === 0) return refused('red-zero-offset');
    if (length > 0) redundant.push({ ...head, payload: payload.subarray(at, at + length) });
    at += length;
  }
  return { ok: true, red: { payloadType, payload: payload.subarray(at), redundant } };
}

/**
 * The payload of a packet of redundant audio, in memory of its own.
 * @throws RangeError for more than 8 copies, or one that is older or longer than its header can say
 */
export function writeRed({ payloadType, payload, redundant }: RedPayload): Buffer {
  if (redundant.length > MOST_RED_BLOCKS)
    throw new RangeError(`${redundant.length} copies; at most ${MOST_RED_BLOCKS}`);
  const copiedBytes = redundant.reduce((sum, block) => sum + block.payload.length, 0);
  const bytes = Buffer.allocUnsafe(BLOCK_HEADER_BYTES * redundant.length + 1 + copiedBytes + payload.length);
  let at = 0;
  for (const block of redundant) {
    if (!(block.timestampOffset > 0 && block.timestampOffset <= MOST_RED_OFFSET)) {
      throw new RangeError(`a copy is ${block.timestampOffset} ticks old; 1 … ${MOST_RED_OFFSET}`);
    }
    if (block.payload.length > MOST_RED_BLOCK_BYTES) throw new RangeError(`a copy has ${block.payload.length} bytes`);
    at = bytes.writeUInt8(0x80 | block.payloadType, at);
    bytes.writeUIntBE((block.timestampOffset << 10) | block.payload.length, at, 3);
    at += 3;
  }
  at = bytes.writeUInt8(payloadType, at);
  for (const block of redundant) {
    bytes.set(block.payload, at);
    at += block.payload.length;
  }
  bytes.set(payload, at);
  return bytes;
}
