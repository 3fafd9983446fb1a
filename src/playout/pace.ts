import { FRAME_MS } from '../audio/frame.js';

/** The offset counts that the earliest pull within the last two of these showed: a pull may come late, the card's pace does not. */
const WINDOW_MS = 300;
/** So much above what is needed is left alone. */
const TOLERANCE_MS = 3;
/** Time from one change to the next. */
const GENTLE_MS = 120;
const OFTEN_MS = 40;
/** Above this the excess goes as fast as speech allows. */
const HURRY_MS = 60;

/** From a search that found no place to the next. */
const AGAIN_MS = 30;
/** While packets are overdue. */
const SHORT_MS = 30;
const SHORT_LIKENESS = 0.7;
/** A smaller excess waits for a good place; a larger one is taken back more often. */
const FORCED_FROM_MS = 20;

/** How to change the pace now; the lags are those of `TimeStretch`. */
export interface PaceChange {
  readonly kind: 'accelerate' | 'slow-down';
  readonly leastLagMs: number;
  readonly mostLagMs: number;
  readonly leastLikeness: number;
}

export interface PaceState {
  /** The transit at which packets should be needed. */
  readonly wantedMs: number;
  /** Decoded and still to be played. */
  readonly aheadMs: number;
  /** Packets are overdue, and what is there will not last long. */
  readonly isShort: boolean;
}

/**
 * Keeps the distance between arrival and playout where the target wants it. All is said in transits: a time here less the packet's
 * timestamp, on two clocks that have nothing to do with each other, so that only differences mean anything.
 *
 * A packet is needed up to one frame before its first sample leaves, at the pull that finds less than a frame ahead. So the delay is
 * right where packets are needed no earlier than wanted, and leave no later than 10 ms after that; in between nothing is changed:
 *
 * ```
 *   needed < wanted           slow down     (too little time for late packets)
 *   leaves > wanted + 13 ms   accelerate    (delay that does nothing), from 60 ms too much on without pause
 * ```
 */
export class Pace {
  readonly #leaves = new LeastOfLate();
  readonly #needed = new LeastOfLate();
  #triedMs = Number.NEGATIVE_INFINITY;
  #changedMs = Number.NEGATIVE_INFINITY;
  #wantedSinceMs = Number.NaN;

  /** A packet was decoded. @param neededMs null where it was decoded before it was needed */
  decoded(nowMs: number, leavesMs: number, neededMs: number | null): void {
    this.#leaves.add(nowMs, leavesMs);
    if (neededMs !== null) this.#needed.add(nowMs, neededMs);
  }

  /** Delay that does nothing, ms; 0 for none. @param wantedMs the transit at which packets should be needed */
  excessMs(wantedMs: number): number {
    const excessMs = this.#leaves.value - wantedMs - FRAME_MS;
    return Number.isFinite(excessMs) ? Math.max(0, excessMs) : 0;
  }

  /** What should be done about it now. */
  change(nowMs: number, { wantedMs, aheadMs, isShort }: PaceState): PaceChange | null {
    if (isShort) {
      if (nowMs < this.#changedMs + SHORT_MS) return null;
      return { kind: 'slow-down', leastLagMs: 2.5, mostLagMs: 15, leastLikeness: SHORT_LIKENESS };
    }
    const excessMs = this.excessMs(wantedMs);
    const isHurry = excessMs > HURRY_MS;
    const everyMs = excessMs > FORCED_FROM_MS ? OFTEN_MS : GENTLE_MS;
    if (!isHurry && (nowMs < this.#changedMs + everyMs || nowMs < this.#triedMs + AGAIN_MS)) return null;
    this.#triedMs = nowMs;
    if (excessMs > TOLERANCE_MS) {
      const leastLikeness = isHurry ? 0.5 : this.#likeness(nowMs, excessMs > FORCED_FROM_MS ? 0.3 : 0.8);
      return { kind: 'accelerate', leastLagMs: 2.5, mostLagMs: excessMs, leastLikeness };
    }
    if (this.#needed.value < wantedMs) {
      const leastLagMs = Math.max(2.5, FRAME_MS - (aheadMs % FRAME_MS));
      return { kind: 'slow-down', leastLagMs, mostLagMs: leastLagMs + 7.5, leastLikeness: this.#likeness(nowMs, 0.3) };
    }
    this.#wantedSinceMs = Number.NaN;
    return null;
  }

  /** So much was left out, or put in where negative. */
  changed(nowMs: number, byMs: number): void {
    this.#changedMs = nowMs;
    this.#wantedSinceMs = Number.NaN;
    this.#leaves.shift(-byMs);
    this.#needed.clear();
  }

  /** Playout has begun anew at another distance. */
  restart(): void {
    this.#leaves.clear();
    this.#needed.clear();
  }

  /** The longer a change is wanted, the less like the two places have to be. */
  #likeness(nowMs: number, least: number): number {
    if (Number.isNaN(this.#wantedSinceMs)) this.#wantedSinceMs = nowMs;
    return Math.max(least, 0.9 - (nowMs - this.#wantedSinceMs) / 5_000);
  }
}

/** The least of the last 300 to 600 ms. */
class LeastOfLate {
  #before = Number.POSITIVE_INFINITY;
  #now = Number.POSITIVE_INFINITY;
  #untilMs = Number.NEGATIVE_INFINITY;

  get value(): number {
    return Math.min(this.#before, this.#now);
  }

  add(nowMs: number, value: number): void {
    if (nowMs >= this.#untilMs) {
      this.#before = nowMs < this.#untilMs + WINDOW_MS ? this.#now : Number.POSITIVE_INFINITY;
      this.#now = Number.POSITIVE_INFINITY;
      this.#untilMs = nowMs + WINDOW_MS;
    }
    this.#now = Math.min(this.#now, value);
  }

  shift(by: number): void {
    this.#before += by;
    this.#now += by;
  }

  clear(): void {
    this.#before = Number.POSITIVE_INFINITY;
    this.#now = Number.POSITIVE_INFINITY;
  }
}
