import { type AudioFrame, FRAME_MS, frameSamples, type RateHz } from '../audio/frame.js';
import type { AudioEncoder } from '../codec/codec.js';
import { writeRed } from '../rtp/red.js';
import { RedHistory } from '../rtp/red-history.js';
import { type RtpPacket, writeRtp } from '../rtp/rtp-packet.js';
import { EncodeTime } from './encode-time.js';

/** A pause of the microphone longer than this shows in the timestamps; a shorter one is the card's jitter. */
const GAP_MS = 60;
const NOTHING = new Uint8Array(0);

export interface SendFormat {
  /** Set to `packetTimeMs`; whoever made it frees it. */
  readonly encoder: AudioEncoder;
  readonly packetTimeMs: number;
  readonly payloadType: number;
  /** Of the codec in RTP, whatever the audio's rate. */
  readonly clockRateHz: number;
  /** Redundant audio (RFC 2198), where it was agreed on: its payload type, and which earlier packets each carries again. */
  readonly red?: { readonly payloadType: number; readonly distances: readonly number[] } | null;
}

export interface SendPipelineOptions {
  readonly rateHz: RateHz;
  readonly ssrc: number;
  /** The first packet's; random, as RFC 3550, 5.1 asks. */
  readonly sequence: number;
  readonly timestamp: number;
  /** Monotonic, for how long encoding takes. */
  nowMs(): number;
  /** Takes the datagram over. `timestamp` and `payloadBytes` are the packet's. */
  send(datagram: Uint8Array, timestamp: number, payloadBytes: number): void;
  /** The encoder threw; the packet's time passes unsent. */
  encoderFailed(error: unknown): void;
}

/**
 * From microphone frames to RTP datagrams.
 *
 * ```
 *   push(frame) ──▶ [ gather packetTimeMs ] ──▶ AudioEncoder ──▶ [ RED ] ──▶ [ RTP header ] ──▶ send(datagram)
 *     10 ms            Int16Array, reused        payload         copies of    codec's clock,
 *                                                                earlier ones  marker after a pause
 * ```
 * Where the encoder gives nothing the timestamps go on and the sequence does not (DTX; RFC 7587, 3.1.3): the next packet begins a
 * talk spurt. With a codec of another clock the timestamps go on from where they are, at its pace (RFC 7160, 4.1).
 */
export class SendPipeline {
  readonly #options: SendPipelineOptions;
  #format: SendFormat | null = null;
  #gathered: Int16Array = new Int16Array(0);
  #fill = 0;
  #sequence: number;
  #timestamp: number;
  #marker = true;
  #lastFrameMs = Number.NaN;
  #isInterrupted = false;
  readonly #encodeTime = new EncodeTime();
  readonly #history = new RedHistory();

  constructor(options: SendPipelineOptions) {
    this.#options = options;
    this.#sequence = options.sequence;
    this.#timestamp = options.timestamp;
  }

  get packetTimeMs(): number | null {
    return this.#format?.packetTimeMs ?? null;
  }

  /** How long the encoder took for a packet: running mean, and worst of the last second or two, ms. */
  get encodeMs(): { readonly mean: number; readonly worst: number } {
    return this.#encodeTime.figures;
  }

  /** Sends in this format from the next packet on; the sequence goes on. */
  use(format: SendFormat): void {
    if (format.payloadType !== this.#format?.payloadType) this.#history.forget();
    const { rateHz } = this.#options;
    const kept = this.#gathered.subarray(0, this.#fill);
    this.#gathered = new Int16Array((frameSamples(rateHz) * format.packetTimeMs) / FRAME_MS);
    if (kept.length < this.#gathered.length) {
      this.#gathered.set(kept);
    } else {
      this.#skip((kept.length * 1000) / rateHz);
      this.#fill = 0;
    }
    this.#format = format;
  }

  /** Frames of another rate are ignored. */
  push(frame: AudioFrame): void {
    if (this.#format === null || frame.rateHz !== this.#options.rateHz) return;
    this.#accountForGap(frame.capturedAtMs);
    this.#gathered.set(frame.samples, this.#fill);
    this.#fill += frame.samples.length;
    if (this.#fill < this.#gathered.length) return;
    this.#fill = 0;
    this.#sendPacket(this.#format);
  }

  /** From now on audio is not sent: its time passes, until `resume`. @returns the timestamp of this moment */
  interrupt(nowMs: number): number {
    this.#isInterrupted = true;
    // Without frames (muted) time has to be told of.
    if (Number.isNaN(this.#lastFrameMs)) this.#lastFrameMs = nowMs - FRAME_MS;
    this.#accountForGap(nowMs);
    return this.#timestamp;
  }

  resume(): void {
    this.#isInterrupted = false;
    this.#marker = true;
  }

  /** A packet that takes the place of audio, of the same sequence. `endsAt` is where it reaches to on the timestamps. */
  sendOther(packet: Pick<RtpPacket, 'payloadType' | 'marker' | 'timestamp' | 'payload'>, endsAt: number): void {
    this.#write(packet, endsAt);
  }

  #sendPacket(format: SendFormat): void {
    const timestamp = this.#timestamp;
    const packetTicks = (format.clockRateHz / 1000) * format.packetTimeMs;
    this.#timestamp = (timestamp + packetTicks) >>> 0;
    if (this.#isInterrupted) return;
    const encoded = this.#encode(format.encoder);
    if (encoded.length === 0) {
      this.#marker = true;
      return;
    }
    const packet = this.#withCopies(format, encoded, timestamp, packetTicks);
    this.#write({ ...packet, marker: this.#marker, timestamp }, timestamp);
    this.#marker = false;
  }

  #write(packet: Pick<RtpPacket, 'payloadType' | 'marker' | 'timestamp' | 'payload'>, reportedAt: number): void {
    const { ssrc, send } = this.#options;
    const datagram = writeRtp({ ...packet, sequence: this.#sequence, ssrc, csrcs: [], extension: null });
    this.#sequence = (this.#sequence + 1) & 0xffff;
    send(datagram, reportedAt, packet.payload.length);
  }

  /** @returns nothing where there is nothing to send */
  #encode(encoder: AudioEncoder): Uint8Array {
    const { nowMs, encoderFailed } = this.#options;
    const startedMs = nowMs();
    try {
      return encoder.encode(this.#gathered);
    } catch (error) {
      encoderFailed(error);
      return NOTHING;
    } finally {
      this.#encodeTime.took(nowMs() - startedMs);
    }
  }

  /** A packet without copies goes as it is: a line that needs none pays nothing for RED. */
  #withCopies(format: SendFormat, payload: Uint8Array, timestamp: number, packetTicks: number) {
    const { payloadType, red } = format;
    if (red === null || red === undefined) return { payloadType, payload };
    const redundant = this.#history.copies(red.distances, timestamp, packetTicks, payloadType);
    this.#history.sent(payload, timestamp, packetTicks);
    if (redundant.length === 0) return { payloadType, payload };
    return { payloadType: red.payloadType, payload: writeRed({ payloadType, payload, redundant }) };
  }

  /** After a pause (muted, the card gone) the timestamp says how long it was, and the marker that speech begins (RFC 3551, 4.1). */
  #accountForGap(capturedAtMs: number): void {
    const gapMs = capturedAtMs - this.#lastFrameMs - FRAME_MS;
    this.#lastFrameMs = capturedAtMs;
    if (!(gapMs > GAP_MS)) return;
    this.#fill = 0;
    this.#skip(gapMs);
    this.#marker = true;
  }

  /** Time that is not sent shows in the timestamps. */
  #skip(ms: number): void {
    this.#timestamp = (this.#timestamp + Math.round((ms * (this.#format?.clockRateHz ?? 0)) / 1000)) >>> 0;
  }
}
