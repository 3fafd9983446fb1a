import { randomBytes } from 'node:crypto';
import type { AudioEncoder } from '../../codec/codec.js';
import { OggOpusWriter, OPUS_LOOKAHEAD_MS } from '../../codec/ogg-opus.js';
import { L16_RATE_HZ } from '../../rtp/l16.js';

const SAMPLES_PER_MS = L16_RATE_HZ / 1_000;
const PACKET_MS = 20;
const PACKET_SAMPLES = PACKET_MS * SAMPLES_PER_MS;
const LOOKAHEAD_SAMPLES = Math.ceil(OPUS_LOOKAHEAD_MS * SAMPLES_PER_MS);
/** Half a second of sound: some 10 ms of work, then the flows' event loop turns. */
const PACKETS_A_TURN = 25;
/** Beyond what a recording begins with. */
const MOST_WAITING_SAMPLES = 5_000 * SAMPLES_PER_MS;

/** What the encoder leaves out by DTX is a packet of nothing but its first byte (RFC 6716, 3.1): 20 ms of wideband SILK. */
const NOTHING = Uint8Array.of(9 << 3);

const VENDOR = 'Entryphone';

/** Takes the file's bytes, one after the other. */
export interface ClipSink {
  write(bytes: Uint8Array): Promise<void>;
}

export interface ClipFigures {
  readonly sizeBytes: number;
  readonly durationMs: number;
  /** Of the sound that came faster than it could be encoded and written. */
  readonly droppedMs: number;
}

/** Encodes sound as it comes to an Ogg Opus file, a piece at a turn of the event loop, up to a size. */
export class OpusClip {
  #encoder: AudioEncoder | undefined;
  readonly #sink: ClipSink;
  readonly #mostBytes: number;
  readonly #ogg: OggOpusWriter;
  readonly #packet = new Int16Array(PACKET_SAMPLES);
  #waiting: Int16Array[] = [];
  #waitingSamples = 0;
  #fill = 0;
  #soundSamples = 0;
  #droppedSamples = 0;
  #sizeBytes = 0;
  #isFull = false;
  #isEnding = false;
  #pump: Promise<void>;

  /** @param options.encoder of 16 kHz and 20 ms, without DTX; until it is there sound waits; it is freed at the end */
  constructor(options: { encoder: Promise<AudioEncoder>; sink: ClipSink; mostBytes: number }) {
    this.#sink = options.sink;
    this.#mostBytes = options.mostBytes;
    const serial = randomBytes(4).readUInt32LE();
    this.#ogg = new OggOpusWriter({ serial, inputRateHz: L16_RATE_HZ, vendor: VENDOR });
    this.#pump = this.#begin(options.encoder);
    // Told by `end`.
    this.#pump.catch(() => {});
  }

  /** The next packet would have made the file too large; nothing more is taken. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Copies the samples. @param isPast of what a recording begins with: taken whole */
  push(samples: Int16Array, isPast = false): void {
    if (this.#isFull || this.#isEnding) return;
    if (!isPast && this.#waitingSamples > MOST_WAITING_SAMPLES) {
      this.#droppedSamples += samples.length;
      return;
    }
    this.#waiting.push(samples.slice());
    this.#waitingSamples += samples.length;
    if (this.#waiting.length > 1) return;
    this.#pump = this.#pump.then(() => this.#encodeWaiting());
    this.#pump.catch(() => {});
  }

  /** Encodes what waits and ends the file. @throws what the sink or the encoder throws */
  async end(): Promise<ClipFigures> {
    this.#isEnding = true;
    try {
      await this.#pump;
      // The sound's last samples leave the encoder with what follows them.
      const packets = Math.ceil((this.#soundSamples + LOOKAHEAD_SAMPLES) / PACKET_SAMPLES);
      await this.#encode(new Int16Array(packets * PACKET_SAMPLES - this.#soundSamples), true);
      const durationMs = Math.min(this.#soundSamples / SAMPLES_PER_MS, this.#ogg.lengthMs - OPUS_LOOKAHEAD_MS);
      await this.#write(this.#ogg.end(durationMs));
      return {
        sizeBytes: this.#sizeBytes,
        durationMs: Math.round(durationMs),
        droppedMs: Math.round(this.#droppedSamples / SAMPLES_PER_MS),
      };
    } finally {
      this.#encoder?.free();
    }
  }

  async #begin(encoder: Promise<AudioEncoder>): Promise<void> {
    this.#encoder = await encoder;
    await this.#write(this.#ogg.head());
  }

  async #encodeWaiting(): Promise<void> {
    while (this.#waiting.length > 0) {
      let packets = 0;
      for (let next = this.#waiting[0]; next !== undefined && packets < PACKETS_A_TURN; next = this.#waiting[0]) {
        const room = (PACKETS_A_TURN - packets) * PACKET_SAMPLES - this.#fill;
        const taken = next.subarray(0, room);
        if (taken.length === next.length) this.#waiting.shift();
        else this.#waiting[0] = next.subarray(room);
        this.#waitingSamples -= taken.length;
        packets += Math.ceil((this.#fill + taken.length) / PACKET_SAMPLES);
        await this.#encode(taken);
      }
      if (this.#waiting.length > 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async #encode(samples: Int16Array, isPadding = false): Promise<void> {
    for (let at = 0; at < samples.length && !this.#isFull; ) {
      const taken = samples.subarray(at, at + PACKET_SAMPLES - this.#fill);
      this.#packet.set(taken, this.#fill);
      this.#fill += taken.length;
      at += taken.length;
      if (!isPadding) this.#soundSamples += taken.length;
      if (this.#fill < PACKET_SAMPLES) return;
      this.#fill = 0;
      const encoded = this.#encoder?.encode(this.#packet);
      const packet = encoded === undefined || encoded.length === 0 ? NOTHING : encoded;
      if (this.#sizeBytes + this.#ogg.pendingBytes(packet.length) > this.#mostBytes) {
        this.#isFull = true;
        this.#waiting = [];
        return;
      }
      const page = this.#ogg.packet(packet);
      if (page !== null) await this.#write(page);
    }
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.#sizeBytes += bytes.length;
    await this.#sink.write(bytes);
  }
}
