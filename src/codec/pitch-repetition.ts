/** At 8 kHz: speech has its pitch between 66 and 200 Hz here, as in ITU-T G.711 Appendix I. */
const LEAST_LAG = 40;
const MOST_LAG = 120;
/** What two places are compared by. */
const COMPARED = 160;
const MOST_PERIODS = 3;
const HISTORY = MOST_LAG * MOST_PERIODS + MOST_LAG / 4;
/** After 10 ms two periods are repeated, then three, so that it does not buzz. */
const STEP = 80;
/** From 10 ms on a fifth less each 10 ms: silence after 60 ms. */
const FADE_STEPS = 5;
/** What came again is blended with what would have gone on: 4 ms longer for each 10 ms lost, at most 10 ms. */
const BLEND_STEP = 32;
const MOST_BLEND = 80;

/**
 * Conceals losses of an 8 kHz stream by repeating its last pitch periods, ever softer, after ITU-T G.711 Appendix I. Unlike there
 * nothing is held back: where the repetition begins, its step is taken out over a quarter of a period, instead of blended.
 */
export class PitchRepetition {
  /** The last samples that were given out. */
  readonly #history = new Float64Array(HISTORY);
  /** Those before the loss. */
  readonly #repeated = new Float64Array(HISTORY);
  #lag = LEAST_LAG;
  #concealed = 0;
  #at = 0;
  #step = 0;

  /** Samples that came: they are blended with what was concealed before them, in place. */
  heard(samples: Int16Array): void {
    if (this.#concealed > 0) {
      const steps = Math.ceil(this.#concealed / STEP);
      const blend = Math.min(samples.length, MOST_BLEND, this.#lag / 4 + BLEND_STEP * (steps - 1));
      for (let i = 0; i < blend; i++) {
        const share = (i + 1) / (blend + 1);
        samples[i] = Math.round((samples[i] ?? 0) * share + this.#next() * (1 - share));
      }
      this.#concealed = 0;
    }
    this.#remember(samples);
  }

  /** Fills all of it. */
  conceal(samples: Int16Array): void {
    for (let i = 0; i < samples.length; i++) samples[i] = Math.round(this.#next());
    this.#remember(samples);
  }

  #remember(samples: Int16Array): void {
    const kept = Math.min(samples.length, HISTORY);
    this.#history.copyWithin(0, kept);
    for (let i = 0; i < kept; i++) this.#history[HISTORY - kept + i] = samples[samples.length - kept + i] ?? 0;
  }

  #next(): number {
    if (this.#concealed === 0) this.#begin();
    const periods = Math.min(MOST_PERIODS, 1 + Math.floor(this.#concealed / STEP));
    const span = this.#lag * periods;
    if (this.#at >= span) this.#at -= span;
    const start = HISTORY - span;
    const quarter = this.#lag >> 2;
    let sample = this.#repeated[start + this.#at] ?? 0;
    // The end of a round leads over into its beginning.
    const over = this.#at - (span - quarter);
    if (over >= 0) {
      const share = (over + 1) / (quarter + 1);
      sample = sample * (1 - share) + (this.#repeated[start - quarter + over] ?? 0) * share;
    }
    if (this.#concealed < quarter) sample += this.#step * (1 - (this.#concealed + 1) / (quarter + 1));
    const gain = 1 - Math.max(0, this.#concealed - STEP) / (FADE_STEPS * STEP);
    this.#at += 1;
    this.#concealed += 1;
    return gain > 0 ? Math.max(-32_768, Math.min(32_767, sample * gain)) : 0;
  }

  #begin(): void {
    this.#repeated.set(this.#history);
    this.#lag = bestLag(this.#repeated);
    this.#at = 0;
    this.#step = (this.#repeated[HISTORY - 1] ?? 0) - (this.#repeated[HISTORY - 1 - this.#lag] ?? 0);
  }
}

/** Where the end of the history is most like itself, by normalised cross-correlation. */
function bestLag(history: Float64Array): number {
  let best = LEAST_LAG;
  let bestLikeness = Number.NEGATIVE_INFINITY;
  const from = HISTORY - COMPARED;
  for (let lag = LEAST_LAG; lag <= MOST_LAG; lag++) {
    let product = 0;
    let energy = 1;
    for (let i = from; i < HISTORY; i++) {
      const before = history[i - lag] ?? 0;
      product += (history[i] ?? 0) * before;
      energy += before * before;
    }
    const likeness = product / Math.sqrt(energy);
    if (likeness > bestLikeness) [best, bestLikeness] = [lag, likeness];
  }
  return best;
}
