import { parseRtp, RTP_HEADER_BYTES } from './rtp-packet.js';

/**
 * Linear audio of 16 bits in RTP (L16, RFC 3551, 4.5.11: signed, network byte order), mono, as taps carry it over loopback: 16 kHz,
 * payload type 96, 20 ms to a packet.
 */
export const L16_RATE_HZ = 16_000 as const;
export const L16_PAYLOAD_TYPE = 96;
/** Samples of 20 ms. */
export const L16_PACKET_SAMPLES = 320;

/** What a stream is cut into, inside: 10 ms. */
const FRAME_SAMPLES = 160;
const MOST_FRAMES = 6;
const SAMPLES_PER_MS = L16_RATE_HZ / 1000;
/** A pause longer than this shows in the timestamps; a shorter one is the card's jitter. */
const GAP_MS = 60;
/** Datagrams that may be on their way out of this process while the next is written. */
const BUFFERS = 4;

/** From frames of 10 ms to datagrams of 20. Nothing is allocated after construction. */
export class L16Writer {
  readonly ssrc: number;
  readonly #datagrams: readonly Buffer[];
  readonly #payloads: readonly Int16Array[];
  readonly #bodies: readonly Buffer[];
  #at = 0;
  #fill = 0;
  #sequence: number;
  #timestamp: number;
  #marker = true;
  #lastMs = Number.NaN;

  /** @param options.sequence, options.timestamp of the first packet; random, as RFC 3550, 5.1 asks */
  constructor(options: { ssrc: number; sequence: number; timestamp: number }) {
    this.ssrc = options.ssrc;
    this.#sequence = options.sequence;
    this.#timestamp = options.timestamp;
    const bodyBytes = 2 * L16_PACKET_SAMPLES;
    const memory = Array.from({ length: BUFFERS }, () => new ArrayBuffer(RTP_HEADER_BYTES + bodyBytes));
    this.#datagrams = memory.map((one) => Buffer.from(one));
    this.#bodies = memory.map((one) => Buffer.from(one, RTP_HEADER_BYTES, bodyBytes));
    this.#payloads = memory.map((one) => new Int16Array(one, RTP_HEADER_BYTES, L16_PACKET_SAMPLES));
    for (const datagram of this.#datagrams) {
      datagram[0] = 0x80;
      datagram.writeUInt32BE(this.ssrc, 8);
    }
  }

  /**
   * The next 10 ms. After a pause the timestamp says how long it was, and the marker that sound begins (RFC 3551, 4.1).
   * @param samples 160 of them
   * @param atMs when the last of them was handed over, monotonic
   * @returns a datagram, valid until the fourth after it is written; null until 20 ms are together
   */
  push(samples: Int16Array, atMs: number): Buffer | null {
    const gapMs = atMs - this.#lastMs - FRAME_SAMPLES / SAMPLES_PER_MS;
    this.#lastMs = atMs;
    if (gapMs > GAP_MS) this.#skip(gapMs);
    this.#payloads[this.#at]?.set(samples, this.#fill);
    this.#fill += FRAME_SAMPLES;
    if (this.#fill < L16_PACKET_SAMPLES) return null;
    const datagram = this.#datagrams[this.#at] as Buffer;
    this.#bodies[this.#at]?.swap16();
    datagram[1] = (this.#marker ? 0x80 : 0) | L16_PAYLOAD_TYPE;
    datagram.writeUInt16BE(this.#sequence, 2);
    datagram.writeUInt32BE(this.#timestamp, 4);
    this.#at = (this.#at + 1) % BUFFERS;
    this.#fill = 0;
    this.#marker = false;
    this.#sequence = (this.#sequence + 1) & 0xffff;
    this.#timestamp = (this.#timestamp + L16_PACKET_SAMPLES) >>> 0;
    return datagram;
  }

  #skip(gapMs: number): void {
    this.#timestamp = (this.#timestamp + this.#fill + Math.round(gapMs * SAMPLES_PER_MS)) >>> 0;
    this.#fill = 0;
    this.#marker = true;
  }
}

/** What is wrong with a datagram of such a stream, besides RTP's own faults. */
export type L16Fault = 'l16-payload-type' | 'l16-length' | 'l16-late';

/** A packet's sound. */
export interface L16Sound {
  /** A whole number of 10 ms frames of 160 samples; valid until the next packet is read. */
  readonly samples: Int16Array;
  /** Of the last sample, in ms from the first packet of all; goes on over gaps as the stream's clock does. */
  readonly endsAtMs: number;
  /** Packets that did not arrive since the one before. */
  readonly lostPackets: number;
  /** What was heard before does not reach to here: packets are missing, the sender paused, or is another one. */
  readonly isAfterGap: boolean;
}

export type L16Read = { readonly ok: true; readonly sound: L16Sound } | { readonly ok: false; readonly fault: string };

/** From datagrams to samples. Another source (the media process started again) begins anew. */
export class L16Reader {
  readonly #memory = new Int16Array(MOST_FRAMES * FRAME_SAMPLES);
  readonly #bytes = Buffer.from(this.#memory.buffer);
  readonly #views = Array.from({ length: MOST_FRAMES + 1 }, (_, n) => this.#memory.subarray(0, n * FRAME_SAMPLES));
  #ssrc: number | null = null;
  #expectedSequence = 0;
  #expectedTimestamp = 0;
  #endsAtSamples = 0;

  read(datagram: Uint8Array): L16Read {
    const parsed = parseRtp(datagram);
    if (!parsed.ok) return parsed;
    const { payloadType, payload, ssrc, sequence, timestamp, marker } = parsed.packet;
    if (payloadType !== L16_PAYLOAD_TYPE) return { ok: false, fault: 'l16-payload-type' };
    const samples = payload.length / 2;
    const frames = samples / FRAME_SAMPLES;
    if (!Number.isInteger(frames) || frames < 1 || frames > MOST_FRAMES) return { ok: false, fault: 'l16-length' };
    const isFirst = ssrc !== this.#ssrc;
    const missing = isFirst ? 0 : (sequence - this.#expectedSequence) & 0xffff;
    if (missing >= 0x8000) return { ok: false, fault: 'l16-late' };
    const skipped = isFirst ? 0 : (timestamp - this.#expectedTimestamp) | 0;
    const isAfterGap = isFirst || missing > 0 || (marker && skipped !== 0);
    this.#ssrc = ssrc;
    this.#expectedSequence = (sequence + 1) & 0xffff;
    this.#expectedTimestamp = (timestamp + samples) >>> 0;
    this.#endsAtSamples += Math.max(0, skipped) + samples;
    this.#bytes.set(payload);
    this.#bytes.subarray(0, payload.length).swap16();
    return {
      ok: true,
      sound: {
        samples: this.#views[frames] as Int16Array,
        endsAtMs: this.#endsAtSamples / SAMPLES_PER_MS,
        lostPackets: missing,
        isAfterGap,
      },
    };
  }
}
