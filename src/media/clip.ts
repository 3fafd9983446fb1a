import { frameSamples, type RateHz } from '../audio/frame.js';
import { Resampler } from '../audio/resample.js';
import { CLIP_RATE_HZ } from '../protocol/clip-api.js';

/** A sound that is played once, 10 ms at a time: kept as it came, at 16 kHz, and brought to the station's rate as it is played. */
export class Clip {
  readonly #pieces: Int16Array[] = [];
  readonly #frame = new Int16Array(frameSamples(CLIP_RATE_HZ));
  readonly #resampler: Resampler | null;
  #samples = 0;
  #piece = 0;
  #at = 0;

  constructor(rateHz: RateHz) {
    this.#resampler = rateHz === CLIP_RATE_HZ ? null : new Resampler({ fromHz: CLIP_RATE_HZ, toHz: rateHz });
  }

  get durationMs(): number {
    return (this.#samples * 1_000) / CLIP_RATE_HZ;
  }

  append(samples: Int16Array): void {
    this.#pieces.push(samples);
    this.#samples += samples.length;
  }

  /** @returns 10 ms at the station's rate, valid until the next call, the last ones filled up with silence; null at the end */
  next(): Int16Array | null {
    let fill = 0;
    while (fill < this.#frame.length) {
      const piece = this.#pieces[this.#piece];
      if (piece === undefined) break;
      const part = piece.subarray(this.#at, this.#at + this.#frame.length - fill);
      this.#frame.set(part, fill);
      fill += part.length;
      this.#at += part.length;
      if (this.#at < piece.length) continue;
      this.#piece += 1;
      this.#at = 0;
    }
    if (fill === 0) return null;
    this.#frame.fill(0, fill);
    return this.#resampler === null ? this.#frame : this.#resampler.resample(this.#frame);
  }
}
