import { createRequire } from 'node:module';
import { join } from 'node:path';
import type { RateHz } from '../../audio/frame.js';
import type { AudioDecoder, AudioEncoder, OpusEncoderSettings } from '../../codec/codec.js';
import { AppError } from '../../core/errors.js';
import { packageRoot } from '../../core/package-root.js';
import {
  applySettings,
  CONCEAL_STEPS_PER_S,
  checkPacketTime,
  decoderFreed,
  encoderFreed,
  MOST_CONCEAL_STEPS,
  MOST_PACKET_BYTES,
  payloadInvalid,
  unlessDtx,
} from './opus-controls.js';

/** See native/opus.cc. Methods give what libopus returns: below zero is an error of its. */
interface NativeOpus {
  readonly version: string;
  readonly Encoder: new (
    rateHz: number,
  ) => {
    /** @returns bytes written to the packet */
    encode(samples: Int16Array, packet: Uint8Array): number;
    control(request: number, value: number): number;
    free(): void;
  };
  readonly Decoder: new (
    rateHz: number,
  ) => {
    /** @param packet null conceals `mostSamples` @returns samples written */
    decode(packet: Uint8Array | null, samples: Int16Array, mostSamples: number, isFec: boolean): number;
    free(): void;
  };
  errorText(code: number): string;
}

const file = join(packageRoot, 'native/build/opus.node');

/** The `require` throws where the module was not built, or the machine has no libopus. */
const opus = createRequire(import.meta.url)(file) as NativeOpus;

/** The distribution's libopus, with its version. */
export const nativeOpusName = `native ${opus.version}`;

const OPUS_INVALID_STATE = -6;

/** Opus (RFC 6716) for speech, mono, by the distribution's libopus. */
export class NativeOpusEncoder implements AudioEncoder {
  readonly #rateHz: RateHz;
  readonly #native: InstanceType<NativeOpus['Encoder']>;
  readonly #packet = new Uint8Array(MOST_PACKET_BYTES);
  #packetSamples = 0;

  constructor(options: { rateHz: RateHz; settings: OpusEncoderSettings }) {
    this.#rateHz = options.rateHz;
    this.#native = new opus.Encoder(options.rateHz);
    this.adjust(options.settings);
  }

  adjust(settings: OpusEncoderSettings): void {
    applySettings(settings, (request, value) => this.#native.control(request, value));
    this.#packetSamples = (this.#rateHz * settings.packetTimeMs) / 1000;
  }

  /** @throws AppError `packet-time-wrong` if it isn't one packet time's samples, `codec-freed` after `free` */
  encode(samples: Int16Array): Uint8Array {
    checkPacketTime(samples, this.#packetSamples);
    const sizeBytes = this.#native.encode(samples, this.#packet);
    if (sizeBytes === OPUS_INVALID_STATE) throw encoderFreed();
    if (sizeBytes < 0) throw new AppError('encoder-failed', `libopus can't encode: ${opus.errorText(sizeBytes)}`);
    return unlessDtx(this.#packet.subarray(0, sizeBytes));
  }

  free(): void {
    this.#native.free();
  }
}

/** Opus (RFC 6716) to mono, by the distribution's libopus. What a method gives is overwritten by the next call. */
export class NativeOpusDecoder implements AudioDecoder {
  readonly #native: InstanceType<NativeOpus['Decoder']>;
  readonly #stepSamples: number;
  readonly #samples: Int16Array;
  /** A view of the first samples, made anew only where another count is asked for. */
  #view: Int16Array;

  constructor(options: { rateHz: RateHz }) {
    this.#native = new opus.Decoder(options.rateHz);
    this.#stepSamples = options.rateHz / CONCEAL_STEPS_PER_S;
    this.#samples = new Int16Array(MOST_CONCEAL_STEPS * this.#stepSamples);
    this.#view = this.#samples;
  }

  decode(payload: Uint8Array): Int16Array {
    // libopus would take an empty packet for a lost one.
    if (payload.length === 0) throw payloadInvalid('it is empty');
    return this.#first(this.#decode(payload, this.#samples.length, false));
  }

  decodeFec(nextPayload: Uint8Array, sampleCount: number): Int16Array {
    if (nextPayload.length === 0) throw payloadInvalid('it is empty');
    const steps = sampleCount / this.#stepSamples;
    if (!Number.isInteger(steps) || steps < 1 || steps > MOST_CONCEAL_STEPS) return this.conceal(sampleCount);
    return this.#first(this.#decode(nextPayload, sampleCount, true));
  }

  /** Any count is met exactly: what goes beyond a step of 2.5 ms is cut off. */
  conceal(sampleCount: number): Int16Array {
    if (sampleCount <= this.#samples.length) {
      if (sampleCount > 0) this.#decode(null, this.#wholeSteps(sampleCount), false);
      return this.#first(sampleCount);
    }
    const concealed = new Int16Array(sampleCount);
    for (let done = 0; done < sampleCount; ) {
      const part = this.conceal(Math.min(sampleCount - done, this.#samples.length));
      concealed.set(part, done);
      done += part.length;
    }
    return concealed;
  }

  free(): void {
    this.#native.free();
  }

  #decode(payload: Uint8Array | null, mostSamples: number, isFec: boolean): number {
    const count = this.#native.decode(payload, this.#samples, mostSamples, isFec);
    if (count === OPUS_INVALID_STATE) throw decoderFreed();
    if (count < 0) throw payloadInvalid(opus.errorText(count));
    return count;
  }

  #wholeSteps(sampleCount: number): number {
    return Math.ceil(sampleCount / this.#stepSamples) * this.#stepSamples;
  }

  #first(sampleCount: number): Int16Array {
    if (this.#view.length !== sampleCount) this.#view = this.#samples.subarray(0, sampleCount);
    return this.#view;
  }
}
