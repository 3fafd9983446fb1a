import { frameSamples, type RateHz } from '../audio/frame.js';
import type { AudioDecoder } from '../codec/codec.js';
import type { JitterBuffer, PlayoutDecision } from '../playout/jitter-buffer.js';
import type { FrameSource } from './frame-source.js';

/** Packets that one 10 ms frame may be made of: four of Opus' shortest, 2.5 ms. */
const MOST_PACKETS_A_FRAME = 4;
const INITIAL_PACKET_TIME_MS = 20;

export interface ReceivePipelineOptions {
  readonly rateHz: RateHz;
  readonly jitterBuffer: JitterBuffer;
  /** Freed by the pipeline. */
  readonly decoder: AudioDecoder;
  /** Whether a payload says something of the packet before it. */
  readonly carriesFec: (payload: Uint8Array) => boolean;
  /** The first packet of the far end was decoded. */
  heard(): void;
  /** A payload that the decoder refused was concealed. */
  decoderFailed(error: unknown): void;
}

/**
 * From the jitter buffer to frames for the speaker.
 *
 * ```
 *   insert ──▶ JitterBuffer ──▶ play     decode    ┐
 *              (at the pace     fec      decodeFec ├──▶ [ block of a packet time ] ──▶ [ cut to 10 ms ] ──▶ pull()
 *               of `pull`)      conceal  conceal   ┘
 *                               wait ─────────────────────────────────────────────────────────────────▶ null
 * ```
 */
export class ReceivePipeline implements FrameSource {
  readonly #options: ReceivePipelineOptions;
  readonly #frame: Int16Array;
  #block: Int16Array = new Int16Array(0);
  #blockAt = 0;
  #packetSamples: number;
  #hasHeard = false;
  #fecDecoded = 0;
  #concealed = 0;

  constructor(options: ReceivePipelineOptions) {
    this.#options = options;
    this.#frame = new Int16Array(frameSamples(options.rateHz));
    this.#packetSamples = (options.rateHz * INITIAL_PACKET_TIME_MS) / 1000;
  }

  /** Packet times that were made good from FEC, and concealed. */
  get fecDecoded(): number {
    return this.#fecDecoded;
  }

  get concealed(): number {
    return this.#concealed;
  }

  pull(nowMs: number): Int16Array | null {
    const frame = this.#frame;
    let filled = 0;
    for (let packets = 0; filled < frame.length; ) {
      if (this.#blockAt === this.#block.length) {
        if (packets === MOST_PACKETS_A_FRAME) break;
        packets += 1;
        const block = this.#nextBlock(nowMs);
        if (block === null) break;
        this.#block = block;
        this.#blockAt = 0;
      }
      const count = Math.min(frame.length - filled, this.#block.length - this.#blockAt);
      // Sample by sample: for so few it is quicker than a view and a copy.
      for (let i = 0; i < count; i++) frame[filled + i] = this.#block[this.#blockAt + i] ?? 0;
      filled += count;
      this.#blockAt += count;
    }
    if (filled === 0) return null;
    frame.fill(0, filled);
    return frame;
  }

  free(): void {
    this.#options.decoder.free();
  }

  #nextBlock(nowMs: number): Int16Array | null {
    const decision = this.#options.jitterBuffer.pull(nowMs);
    if (decision.kind === 'wait') return null;
    try {
      return this.#decode(decision);
    } catch (error) {
      this.#options.decoderFailed(error);
      return this.#conceal();
    }
  }

  #decode(decision: Exclude<PlayoutDecision, { kind: 'wait' }>): Int16Array {
    const { decoder } = this.#options;
    switch (decision.kind) {
      case 'play': {
        const block = decoder.decode(decision.payload);
        if (block.length > 0) this.#packetSamples = block.length;
        if (!this.#hasHeard) {
          this.#hasHeard = true;
          this.#options.heard();
        }
        return block;
      }
      case 'fec': {
        if (!this.#options.carriesFec(decision.nextPayload)) return this.#conceal();
        const block = decoder.decodeFec(decision.nextPayload, this.#packetSamples);
        this.#fecDecoded += 1;
        return block;
      }
      case 'conceal':
        return this.#conceal();
    }
  }

  #conceal(): Int16Array {
    this.#concealed += 1;
    try {
      return this.#options.decoder.conceal(this.#packetSamples);
    } catch (error) {
      this.#options.decoderFailed(error);
      return new Int16Array(this.#packetSamples);
    }
  }
}
