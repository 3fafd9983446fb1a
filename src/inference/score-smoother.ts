export interface Smoothing {
  /** Time constant of the exponential mean of the scores; 0: each counts by itself. */
  readonly meanMs: number;
  /** The smoothed score that starts a decision, and so many scores in a row that must have it. */
  readonly threshold: number;
  readonly consecutive: number;
  /** A decision ends below this, lower than `threshold`. */
  readonly releaseThreshold: number;
  /** From the end of a decision to the next one's start at least. */
  readonly refractoryMs: number;
}

/**
 * Makes decisions of a model's scores for one label: exponential mean, consecutive scores, hysteresis, refractory time. A score weighs
 * the more the longer it was since the last, so that after a gap in the stream little is left of what was before.
 */
export class ScoreSmoother {
  readonly #smoothing: Smoothing;
  #mean = 0;
  #scoredMs: number | null = null;
  #above = 0;
  #isOn = false;
  #endedMs = Number.NEGATIVE_INFINITY;

  /** @throws RangeError where the thresholds are no hysteresis */
  constructor(smoothing: Smoothing) {
    const { threshold, releaseThreshold, meanMs, consecutive, refractoryMs } = smoothing;
    if (!(releaseThreshold > 0 && releaseThreshold <= threshold && threshold <= 1)) {
      throw new RangeError(`Thresholds ${threshold} and ${releaseThreshold}: 0 < release ≤ start ≤ 1 was expected`);
    }
    if (!(meanMs >= 0 && refractoryMs >= 0 && consecutive >= 1)) throw new RangeError('Negative times of smoothing');
    this.#smoothing = smoothing;
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  /** The smoothed score, 0 … 1. */
  get score(): number {
    return this.#mean;
  }

  /**
   * @param score 0 … 1; what is no number counts as 0
   * @returns whether a decision starts or ends here; null where nothing changes
   */
  push(score: number, atMs: number): 'start' | 'end' | null {
    const { meanMs, threshold, consecutive, releaseThreshold, refractoryMs } = this.#smoothing;
    const known = Number.isFinite(score) ? Math.min(1, Math.max(0, score)) : 0;
    const elapsedMs = this.#scoredMs === null ? Number.POSITIVE_INFINITY : atMs - this.#scoredMs;
    this.#scoredMs = atMs;
    const weight = meanMs === 0 ? 1 : 1 - Math.exp(-Math.max(0, elapsedMs) / meanMs);
    this.#mean += weight * (known - this.#mean);
    if (this.#isOn) return this.#mean >= releaseThreshold ? null : this.end(atMs);
    this.#above = this.#mean >= threshold ? this.#above + 1 : 0;
    if (this.#above < consecutive || atMs - this.#endedMs < refractoryMs) return null;
    this.#isOn = true;
    return 'start';
  }
  /** Nothing is heard any more. @returns whether a decision ends by it */
  end(atMs: number): 'end' | null {
    if (!this.#isOn) return null;
    this.#isOn = false;
    this.#above = 0;
    this.#endedMs = atMs;
    return 'end';
  }
}
