import type { SyncBuffer } from './sync-buffer.js';

/** The search goes at 8 kHz, its result is refined at the full rate. */
const SEARCH_HZ = 8_000;
/** Over so much one place fades into another. */
const OVERLAP_MS = 5;
/** What is compared reaches so far back from the overlap. */
const BEFORE_MS = 5;
/** Of the search: at most this far. */
const MOST_LAG_MS = 20;
/** Differences of normalised correlation that say nothing. */
const ALIKE = 0.005;
/** Root mean square, of 16-bit samples, below which nobody hears where it is cut: -60 dB. */
const SILENT_RMS = 33;

export interface StretchSearch {
  readonly leastLagMs: number;
  readonly mostLagMs: number;
  /** Normalised correlation, -1 … 1, that a place must reach. */
  readonly leastLikeness: number;
}

/**
 * Changes how long speech takes and not its pitch (WSOLA: Verhelst and Roelands, ICASSP 1993; as NetEq's Accelerate and
 * PreemptiveExpand): where the signal at the speaker's position and the signal some milliseconds on (or back) are alike, which in
 * voiced speech is a whole number of pitch periods, one fades over into the other.
 *
 * ```
 *   cut      ──────A│ left out │B──────   A and B are alike: played ──A×B──
 *   repeat   ──────B │  again  │A──────                       played ──B  │A×B │A──
 * ```
 */
export class TimeStretch {
  readonly overlapSamples: number;
  readonly #rateHz: number;
  readonly #factor: number;
  readonly #decimated: Float64Array;

  constructor(rateHz: number) {
    this.#rateHz = rateHz;
    this.#factor = Math.max(1, Math.round(rateHz / SEARCH_HZ));
    this.overlapSamples = this.#samples(OVERLAP_MS);
    this.#decimated = new Float64Array(
      Math.ceil(this.#samples(BEFORE_MS + OVERLAP_MS + MOST_LAG_MS) / this.#factor) + 8,
    );
  }

  /** Samples that must lie ahead for a cut of `lagMs`. */
  needs(lagMs: number): number {
    return this.#samples(lagMs) + this.overlapSamples;
  }

  /** Leaves out between the search's lags where that is not heard. @returns samples left out, 0 where no place is good enough */
  cut(buffer: SyncBuffer, search: StretchSearch): number {
    const room = ((buffer.ahead - this.overlapSamples) * 1000) / this.#rateHz;
    const lag = this.#find(buffer, { ...search, mostLagMs: Math.min(search.mostLagMs, room) }, 1);
    if (lag > 0) buffer.cut(lag, this.overlapSamples);
    return lag;
  }

  /** Plays so much of the past again where that is not heard. @returns samples put in, 0 where no place is good enough */
  repeat(buffer: SyncBuffer, search: StretchSearch): number {
    if (buffer.ahead < this.overlapSamples) return 0;
    const lag = this.#find(buffer, search, -1);
    if (lag > 0) buffer.repeat(lag, this.overlapSamples);
    return lag;
  }

  #find(buffer: SyncBuffer, search: StretchSearch, direction: 1 | -1): number {
    const least = this.#samples(search.leastLagMs);
    const most = this.#samples(Math.min(search.mostLagMs, MOST_LAG_MS));
    if (most < least) return 0;
    const { samples, head } = buffer;
    const from = head - this.#samples(BEFORE_MS);
    const length = this.#samples(BEFORE_MS) + this.overlapSamples;
    if (rms(samples, from, from + length) < SILENT_RMS) {
      const there = from + direction * most;
      if (rms(samples, there, there + length) < SILENT_RMS) return most;
    }
    const coarse = this.#coarse({ samples, from, length, least, most, direction });
    let best = 0;
    let bestLikeness = search.leastLikeness;
    const reach = this.#factor === 1 ? 0 : this.#factor;
    for (let lag = Math.max(least, coarse - reach); lag <= Math.min(most, coarse + reach); lag++) {
      const likeness = correlation(samples, from, from + direction * lag, length);
      if (likeness >= bestLikeness) {
        best = lag;
        bestLikeness = likeness;
      }
    }
    return best;
  }

  /** The best lag at 8 kHz, in samples of the full rate. */
  #coarse(of: {
    samples: Int16Array;
    from: number;
    length: number;
    least: number;
    most: number;
    direction: 1 | -1;
  }): number {
    const factor = this.#factor;
    const { samples, from, least, most, direction } = of;
    const few = this.#decimated;
    const length = Math.floor(of.length / factor);
    const leastFew = Math.ceil(least / factor);
    const mostFew = Math.max(leastFew, Math.floor(most / factor));
    const start = direction === 1 ? from : from - mostFew * factor;
    const count = length + mostFew;
    for (let i = 0; i < count; i++) {
      let sum = 0;
      const at = start + i * factor;
      for (let k = 0; k < factor; k++) sum += samples[at + k] as number;
      few[i] = sum;
    }
    const here = direction === 1 ? 0 : mostFew;
    let best = leastFew;
    let bestLikeness = -2;
    for (let lag = leastFew; lag <= mostFew; lag++) {
      const likeness = correlation(few, here, here + direction * lag, length);
      // Of several periods as many as are alike: fewer seams.
      if (likeness > bestLikeness - ALIKE) {
        bestLikeness = Math.max(bestLikeness, likeness);
        best = lag;
      }
    }
    return best * factor;
  }

  #samples(ms: number): number {
    return Math.round((this.#rateHz * ms) / 1000);
  }
}

/** Normalised cross-correlation of two stretches, -1 … 1; 1 for two of nothing. */
export function correlation(samples: Int16Array | Float64Array, a: number, b: number, length: number): number {
  let product = 0;
  let energyA = 0;
  let energyB = 0;
  for (let i = 0; i < length; i++) {
    const x = samples[a + i] as number;
    const y = samples[b + i] as number;
    product += x * y;
    energyA += x * x;
    energyB += y * y;
  }
  const energy = energyA * energyB;
  if (energy === 0) return energyA === energyB ? 1 : 0;
  return product / Math.sqrt(energy);
}

function rms(samples: Int16Array, from: number, to: number): number {
  let energy = 0;
  for (let i = from; i < to; i++) energy += (samples[i] as number) ** 2;
  return Math.sqrt(energy / (to - from));
}
