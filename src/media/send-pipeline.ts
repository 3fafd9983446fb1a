import { type AudioFrame, FRAME_MS, frameSamples, type RateHz } from '../audio/frame.js';
import type { AudioEncoder } from '../codec/codec.js';
import { writeRtp } from '../rtp/rtp-packet.js';

/** The RTP clock of Opus, whatever the audio's rate (RFC 7587, 4.1). */
export const OPUS_CLOCK_HZ = 48_000;
/** A pause of the microphone longer than this shows in the timestamps; a shorter one is the card's jitter. */
const GAP_MS = 60;

export interface SendFormat {
  /** Set to `packetTimeMs`; whoever made it frees it. */
  readonly encoder: AudioEncoder;
  readonly packetTimeMs: number;
  readonly payloadType: number;
}

export interface SendPipelineOptions {
  readonly rateHz: RateHz;
  readonly ssrc: number;
  /** The first packet's; random, as RFC 3550, 5.1 asks. */
  readonly sequence: number;
  readonly timestamp: number;
  /** Takes the datagram over. `timestamp` and `payloadBytes` are the packet's. */
  send(datagram: Uint8Array, timestamp: number, payloadBytes: number): void;
  /** The encoder threw; the packet's time passes unsent. */
  encoderFailed(error: unknown): void;
}

/**
 * From microphone frames to RTP datagrams.
 *
 * ```
 *   push(frame) ──▶ [ gather packetTimeMs ] ──▶ AudioEncoder ──▶ [ RTP header ] ──▶ send(datagram)
 *     10 ms            Int16Array, reused        payload           48 kHz clock,
 *                                                                  marker after a pause
 * ```
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

  constructor(options: SendPipelineOptions) {
    this.#options = options;
    this.#sequence = options.sequence;
    this.#timestamp = options.timestamp;
  }

  get packetTimeMs(): number | null {
    return this.#format?.packetTimeMs ?? null;
  }

  /** Sends in this format from the next frame on; the sequence goes on. What was gathered is not sent. */
  use(format: SendFormat): void {
    this.#fill = 0;
    this.#format = format;
    this.#gathered = new Int16Array((frameSamples(this.#options.rateHz) * format.packetTimeMs) / FRAME_MS);
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

  #sendPacket(format: SendFormat): void {
    const timestamp = this.#timestamp;
    this.#timestamp = (timestamp + (OPUS_CLOCK_HZ / 1000) * format.packetTimeMs) >>> 0;
    let payload: Uint8Array;
    try {
      payload = format.encoder.encode(this.#gathered);
    } catch (error) {
      this.#options.encoderFailed(error);
      return;
    }
    const { payloadType } = format;
    const { ssrc } = this.#options;
    const datagram = writeRtp({
      payloadType,
      marker: this.#marker,
      sequence: this.#sequence,
      timestamp,
      ssrc,
      csrcs: [],
      extension: null,
      payload,
    });
    this.#sequence = (this.#sequence + 1) & 0xffff;
    this.#marker = false;
    this.#options.send(datagram, timestamp, payload.length);
  }

  /** After a pause (muted, the card gone) the timestamp says how long it was, and the marker that speech begins (RFC 3551, 4.1). */
  #accountForGap(capturedAtMs: number): void {
    const gapMs = capturedAtMs - this.#lastFrameMs - FRAME_MS;
    this.#lastFrameMs = capturedAtMs;
    if (!(gapMs > GAP_MS)) return;
    this.#fill = 0;
    this.#timestamp = (this.#timestamp + Math.round(gapMs * (OPUS_CLOCK_HZ / 1000))) >>> 0;
    this.#marker = true;
  }
}
