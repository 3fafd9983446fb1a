import type { RateHz } from '../audio/frame.js';
import { Resampler } from '../audio/resample.js';
import { AppError } from '../core/errors.js';
import type { AudioDecoder, AudioEncoder } from './codec.js';
import { G711_RATE_HZ, type G711Law, g711Decode, g711Encode } from './g711.js';
import { PitchRepetition } from './pitch-repetition.js';

/** 200 ms, the longest packet time that RFC 3551, 4.2 asks receivers to take. */
const MOST_PAYLOAD_BYTES = 1_600;

export interface G711Options {
  readonly law: G711Law;
  /** Of the samples outside; inside it is 8 kHz. */
  readonly rateHz: RateHz;
}

/** G.711 in RTP (RFC 3551, 4.5.14): an octet a sample, whatever the packet time is. */
export class G711Encoder implements AudioEncoder {
  readonly #law: G711Law;
  readonly #resampler: Resampler;
  #payload = new Uint8Array(0);

  constructor(options: G711Options) {
    this.#law = options.law;
    this.#resampler = new Resampler({ fromHz: options.rateHz, toHz: G711_RATE_HZ });
  }

  /** @param samples any number of whole milliseconds */
  encode(samples: Int16Array): Uint8Array {
    const narrow = this.#resampler.resample(samples);
    if (this.#payload.length !== narrow.length) this.#payload = new Uint8Array(narrow.length);
    g711Encode(this.#law, narrow, this.#payload);
    return this.#payload;
  }

  adjust(): void {}

  free(): void {}
}

/** As `G711Encoder`; loss is concealed by `PitchRepetition`, since G.711 has no FEC. */
export class G711Decoder implements AudioDecoder {
  readonly #law: G711Law;
  readonly #ratio: number;
  readonly #resampler: Resampler;
  readonly #repetition = new PitchRepetition();
  #narrow = new Int16Array(0);

  constructor(options: G711Options) {
    this.#law = options.law;
    this.#ratio = options.rateHz / G711_RATE_HZ;
    this.#resampler = new Resampler({ fromHz: G711_RATE_HZ, toHz: options.rateHz });
  }

  decode(payload: Uint8Array): Int16Array {
    if (payload.length === 0 || payload.length > MOST_PAYLOAD_BYTES) {
      throw new AppError('payload-invalid', `No G.711 packet has ${payload.length} octets`);
    }
    const narrow = this.#room(payload.length);
    g711Decode(this.#law, payload, narrow);
    this.#repetition.heard(narrow);
    return this.#resampler.resample(narrow);
  }

  /** Conceals: what came after says nothing of what was lost. */
  decodeFec(_nextPayload: Uint8Array, sampleCount: number): Int16Array {
    return this.conceal(sampleCount);
  }

  /** Any count is met exactly: what goes beyond a sample of 8 kHz is cut off. */
  conceal(sampleCount: number): Int16Array {
    const narrow = this.#room(Math.ceil(sampleCount / this.#ratio));
    this.#repetition.conceal(narrow);
    const wide = this.#resampler.resample(narrow);
    return wide.length === sampleCount ? wide : wide.subarray(0, sampleCount);
  }

  free(): void {}

  #room(count: number): Int16Array {
    if (this.#narrow.length !== count) this.#narrow = new Int16Array(count);
    return this.#narrow;
  }
}
