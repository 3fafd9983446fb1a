import { frameSamples, type RateHz } from '../audio/frame.js';
import type { FrameSource } from './frame-source.js';

/**
 * Sums what is to be heard, with saturation.
 *
 * ```
 *   session ──▶┐
 *   session ──▶├─ sum, clipped to 16 bits ──▶ pull(): 10 ms, silence where nobody has anything
 *   tone ─────▶┘
 * ```
 */
export class Mixer {
  readonly #sources = new Set<FrameSource>();
  readonly #silence: Int16Array;
  readonly #sum: Int16Array;

  constructor(rateHz: RateHz) {
    this.#silence = new Int16Array(frameSamples(rateHz));
    this.#sum = new Int16Array(frameSamples(rateHz));
  }

  add(source: FrameSource): void {
    this.#sources.add(source);
  }

  remove(source: FrameSource): void {
    this.#sources.delete(source);
  }

  /** 10 ms, valid until the next call and not to be written to. A single source's frame is handed on as it is. */
  pull(nowMs: number): Int16Array {
    let mixed: Int16Array | null = null;
    for (const source of this.#sources) {
      const frame = source.pull(nowMs);
      if (frame === null) continue;
      mixed = mixed === null ? frame : this.#add(mixed, frame);
    }
    return mixed ?? this.#silence;
  }

  #add(a: Int16Array, b: Int16Array): Int16Array {
    const sum = this.#sum;
    for (let i = 0; i < sum.length; i++) {
      sum[i] = Math.max(-32_768, Math.min(32_767, (a[i] ?? 0) + (b[i] ?? 0)));
    }
    return sum;
  }
}
