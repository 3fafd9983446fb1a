import { createDecoder, isOpusError, type OpusDecoderHandle } from 'libopus-wasm';
import type { RateHz } from '../../audio/frame.js';
import type { AudioDecoder } from '../../codec/codec.js';
import { errorText } from '../../core/errors.js';
import { CONCEAL_STEPS_PER_S, decoderFreed, MOST_CONCEAL_STEPS, payloadInvalid } from './opus-controls.js';

/** Opus (RFC 6716) to mono, by the WASM build of libopus 1.6 in `libopus-wasm`. */
export class WasmOpusDecoder implements AudioDecoder {
  static readonly engine = 'libopus-wasm';
  readonly #opus: OpusDecoderHandle;
  readonly #stepSamples: number;
  #isFreed = false;

  private constructor(opus: OpusDecoderHandle, rateHz: RateHz) {
    this.#opus = opus;
    this.#stepSamples = rateHz / CONCEAL_STEPS_PER_S;
  }

  static async create(options: { rateHz: RateHz }): Promise<WasmOpusDecoder> {
    const opus = await createDecoder({ sampleRate: options.rateHz, channels: 1 });
    return new WasmOpusDecoder(opus, options.rateHz);
  }

  decode(payload: Uint8Array): Int16Array {
    // libopus would take an empty packet for a lost one.
    if (payload.length === 0) throw payloadInvalid('it is empty');
    return this.#refusing(() => this.#opus.decode(payload));
  }

  decodeFec(nextPayload: Uint8Array, sampleCount: number): Int16Array {
    if (nextPayload.length === 0) throw payloadInvalid('it is empty');
    const steps = sampleCount / this.#stepSamples;
    if (!Number.isInteger(steps) || steps < 1 || steps > MOST_CONCEAL_STEPS) return this.conceal(sampleCount);
    return this.#refusing(() => this.#opus.decode(nextPayload, { decodeFec: true, frameSize: sampleCount }));
  }

  /** Any count is met exactly: what goes beyond a step of 2.5 ms is cut off. */
  conceal(sampleCount: number): Int16Array {
    const concealed = new Int16Array(sampleCount);
    for (let done = 0; done < sampleCount; ) {
      const steps = Math.min(Math.ceil((sampleCount - done) / this.#stepSamples), MOST_CONCEAL_STEPS);
      const part = this.#refusing(() => this.#opus.decodePacketLoss(steps * this.#stepSamples));
      concealed.set(part.subarray(0, sampleCount - done), done);
      done += part.length;
    }
    return concealed;
  }

  free(): void {
    this.#isFreed = true;
    this.#opus.free();
  }

  #refusing(decode: () => Int16Array): Int16Array {
    if (this.#isFreed) throw decoderFreed();
    try {
      return decode();
    } catch (error) {
      if (isOpusError(error)) throw payloadInvalid(errorText(error), error);
      throw error;
    }
  }
}
