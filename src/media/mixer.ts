import { frameSamples, type RateHz } from '../audio/frame.js';
import type { FrameSource } from './frame-source.js';

/** Whether the volume acts on a source: on far ends it does; a bell must be heard. */
export type SourceVolume = 'by-volume' | 'as-it-is';

/**
 * Sums what is to be heard, with saturation.
 *
 * ```
 *   session ──▶┐
 *   session ──▶┴─ sum × volume ──▶┐
 *   tone ────────────────────────▶┴─ sum, clipped to 16 bits ──▶ pull(): 10 ms, silence where nobody has anything
 * ```
 */
export class Mixer {
  readonly #sources = new Map<FrameSource, SourceVolume>();
  readonly #silence: Int16Array;
  readonly #farEnds: Int16Array;
  readonly #sum: Int16Array;
  #factor = 1;

  constructor(rateHz: RateHz) {
    this.#silence = new Int16Array(frameSamples(rateHz));
    this.#farEnds = new Int16Array(frameSamples(rateHz));
    this.#sum = new Int16Array(frameSamples(rateHz));
  }

  add(source: FrameSource, volume: SourceVolume = 'by-volume'): void {
    this.#sources.set(source, volume);
  }

  remove(source: FrameSource): void {
    this.#sources.delete(source);
  }

  /** 0 to 100; squared, since ears hear by ratios: 50 is 12 dB less than 100. */
  setVolume(percent: number): void {
    this.#factor = (Math.max(0, Math.min(100, percent)) / 100) ** 2;
  }

  /** 10 ms, valid until the next call and not to be written to. A single source's frame is handed on as it is. */
  pull(nowMs: number): Int16Array {
    let farEnds: Int16Array | null = null;
    let others: Int16Array | null = null;
    for (const [source, volume] of this.#sources) {
      const frame = source.pull(nowMs);
      if (frame === null) continue;
      if (volume === 'by-volume') farEnds = farEnds === null ? frame : add(farEnds, frame, this.#farEnds);
      else others = others === null ? frame : add(others, frame, this.#sum);
    }
    if (farEnds !== null && this.#factor !== 1) farEnds = scale(farEnds, this.#factor, this.#farEnds);
    if (farEnds !== null && others !== null) return add(farEnds, others, this.#sum);
    return farEnds ?? others ?? this.#silence;
  }
}

/** `into` may be one of the two. */
function add(a: Int16Array, b: Int16Array, into: Int16Array): Int16Array {
  for (let i = 0; i < into.length; i++) {
    into[i] = Math.max(-32_768, Math.min(32_767, (a[i] ?? 0) + (b[i] ?? 0)));
  }
  return into;
}

function scale(samples: Int16Array, factor: number, into: Int16Array): Int16Array {
  for (let i = 0; i < into.length; i++) into[i] = Math.round((samples[i] ?? 0) * factor);
  return into;
}
