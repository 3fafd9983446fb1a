import { opusDurationMs } from './opus-packet.js';

/** RFC 7845, 4: granule positions count samples at 48 kHz, whatever went into the encoder. */
const GRANULES_PER_MS = 48;
/**
 * What a decoder is to leave out at the start: libopus' lookahead (opus_encoder.c, OPUS_GET_LOOKAHEAD: 2.5 ms and a
 * compensation of 4 ms), at 48 kHz. The same in all versions since 1.0 for the application that we use.
 */
export const OPUS_LOOKAHEAD_MS = 6.5;
const PRE_SKIP = OPUS_LOOKAHEAD_MS * GRANULES_PER_MS;

/** RFC 3533, 6. */
const PAGE_HEADER_BYTES = 27;
const MOST_SEGMENTS = 255;
const FULL_SEGMENT_BYTES = 255;
const [FIRST_PAGE, LAST_PAGE] = [0x02, 0x04];
/** RFC 7845, 3: no more than a second a page, so that a stream can be cut and heard as it comes. */
const PAGE_MS = 1_000;

/**
 * Opus packets in an Ogg file (RFC 7845 in RFC 3533), mono: pages one after the other, as bytes to be appended. A page holds
 * packets of a second at most; the last one says where the sound ends, so that what the encoder was given beyond it is cut off.
 */
export class OggOpusWriter {
  readonly #serial: number;
  readonly #inputRateHz: number;
  readonly #vendor: string;
  #sequence = 0;
  /** Packets of the page to come, and how long all before it and these last. */
  #packets: Uint8Array[] = [];
  #segments = 0;
  #pageMs = 0;
  #writtenMs = 0;

  /** @param options.serial of the stream, 32 bits, by chance @param options.vendor who encodes, for people */
  constructor(options: { serial: number; inputRateHz: number; vendor: string }) {
    this.#serial = options.serial >>> 0;
    this.#inputRateHz = options.inputRateHz;
    this.#vendor = options.vendor;
  }

  /** How long the packets are, all together. */
  get lengthMs(): number {
    return this.#writtenMs;
  }

  /** What the pages to come would add, at most, if the next packet were of this size and the last one. */
  pendingBytes(packetBytes: number): number {
    const packets = [...this.#packets.map(({ length }) => length), packetBytes];
    return packets.reduce((sum, length) => sum + length + segmentsOf(length), 2 * PAGE_HEADER_BYTES);
  }

  /** The pages that a file begins with: identification and comment (RFC 7845, 5). */
  head(): Buffer {
    const identification = Buffer.alloc(19);
    identification.write('OpusHead', 'latin1');
    identification[8] = 1; // version
    identification[9] = 1; // channels
    identification.writeUInt16LE(PRE_SKIP, 10);
    identification.writeUInt32LE(this.#inputRateHz, 12); // gain and mapping family stay 0
    const vendor = Buffer.from(this.#vendor);
    const comment = Buffer.alloc(8 + 4 + vendor.length + 4);
    comment.write('OpusTags', 'latin1');
    comment.writeUInt32LE(vendor.length, 8);
    vendor.copy(comment, 12);
    return Buffer.concat([this.#page([identification], FIRST_PAGE, 0), this.#page([comment], 0, 0)]);
  }

  /**
   * The next packet; it is copied.
   * @returns the page before it, if that is full now
   * @throws RangeError for what is no Opus packet, or longer than a page holds
   */
  packet(payload: Uint8Array): Buffer | null {
    const durationMs = opusDurationMs(payload);
    const segments = segmentsOf(payload.length);
    if (durationMs === null || segments > MOST_SEGMENTS)
      throw new RangeError(`no Opus packet of ${payload.length} bytes`);
    const isFull = this.#pageMs + durationMs > PAGE_MS || this.#segments + segments > MOST_SEGMENTS;
    const page = isFull ? this.#flush(0, this.#writtenMs * GRANULES_PER_MS) : null;
    this.#packets.push(payload.slice());
    this.#segments += segments;
    this.#pageMs += durationMs;
    this.#writtenMs += durationMs;
    return page;
  }

  /**
   * The last page, which ends the stream.
   * @param soundMs how long the sound is; of the packets' length beyond it and the lookahead nothing is heard
   */
  end(soundMs: number): Buffer {
    const endMs = Math.min(this.#writtenMs, soundMs + OPUS_LOOKAHEAD_MS);
    return this.#flush(LAST_PAGE, Math.round(endMs * GRANULES_PER_MS));
  }

  #flush(flags: number, granules: number): Buffer {
    const page = this.#page(this.#packets, flags, granules);
    this.#packets = [];
    this.#segments = 0;
    this.#pageMs = 0;
    return page;
  }

  /** RFC 3533, 6: capture pattern, version, flags, granule position, serial, sequence, checksum, segment table, body. */
  #page(packets: readonly Uint8Array[], flags: number, granules: number): Buffer {
    const lacing = packets.flatMap(({ length }) => [
      ...Array<number>(segmentsOf(length) - 1).fill(FULL_SEGMENT_BYTES),
      length % FULL_SEGMENT_BYTES,
    ]);
    const head = Buffer.alloc(PAGE_HEADER_BYTES);
    head.write('OggS', 'latin1');
    head[5] = flags;
    head.writeBigUInt64LE(BigInt(granules), 6);
    head.writeUInt32LE(this.#serial, 14);
    head.writeUInt32LE(this.#sequence, 18);
    head[26] = lacing.length;
    const page = Buffer.concat([head, Uint8Array.from(lacing), ...packets]);
    page.writeUInt32LE(oggChecksum(page), 22);
    this.#sequence += 1;
    return page;
  }
}

/** A packet ends with a segment of less than 255 bytes, an empty one where need be. */
function segmentsOf(packetBytes: number): number {
  return Math.floor(packetBytes / FULL_SEGMENT_BYTES) + 1;
}

/** RFC 3533, 6, field 7: CRC-32 with the polynomial 0x04c11db7, not reflected, from 0, over a page whose checksum is 0. */
export function oggChecksum(page: Uint8Array): number {
  let crc = 0;
  for (const byte of page) crc = ((crc << 8) ^ (CRC_TABLE[(crc >>> 24) ^ byte] ?? 0)) >>> 0;
  return crc;
}

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let crc = index << 24;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 0x80000000) === 0 ? crc << 1 : (crc << 1) ^ 0x04c11db7;
  return crc;
});
