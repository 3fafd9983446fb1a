const INTERVAL_MS = 250;
/** The least transit of so many intervals, 4 s, is what "no delay" means: long enough to meet a quick packet, short enough for
 * clocks that run apart (200 ppm: 0.8 ms). */
const INTERVALS = 16;
const BUCKET_MS = 1;
const BUCKETS = 1_000;
/** What an interval counts for 30 s later is a third of what it counted. */
const FORGET = Math.exp(-INTERVAL_MS / 30_000);
/** So often an interval may be later than the target. */
const MOST_EXCEEDED = 0.04;
/** And so often later than `oftenMs`. */
const OFTEN_EXCEEDED = 0.3;
/** Before anything is known: worth a good third of an interval, so that a clean line is down within seconds. */
const INITIAL_DELAY_MS = 20;
const INITIAL_WEIGHT = 0.35;
/** A transit that differs by more is no delay: the far end's timestamps have jumped. */
const MOST_DIFFERENCE_MS = 2_000;

/**
 * How long to wait for packets, from how late they were (as NetEq's DelayManager).
 *
 * A packet's transit is its arrival less its timestamp, on clocks that have nothing to do with each other; its delay is how much
 * longer that is than the least transit of the last 4 s. Of each 250 ms the longest delay counts, not each packet's: playout that
 * has once waited for a late packet is in time for the others of the same stall. The target is what 96 % of those intervals kept:
 *
 * ```
 *   the last 4 s, each interval as it is ──▶┐
 *   older ones: histogram, forgotten with ──▶┴─ 96 % ──▶ targetMs
 *   a time constant of 30 s
 * ```
 *
 * It goes up with the packet that shows the need, and comes down as the histogram forgets.
 */
export class DelayEstimator {
  readonly #least = new Float64Array(INTERVALS).fill(Number.POSITIVE_INFINITY);
  readonly #most = new Float64Array(INTERVALS).fill(Number.NEGATIVE_INFINITY);
  /** Longest delay of each, by the least transit known when the packet came. */
  readonly #mostDelay = new Float64Array(INTERVALS);
  readonly #histogram = new Float64Array(BUCKETS);
  #mass = INITIAL_WEIGHT;
  /** Weight of what is added next; growing it is cheaper than letting all others shrink. */
  #weight = 1;
  #interval = Number.NaN;
  #baseMs = Number.POSITIVE_INFINITY;
  #targetMs = INITIAL_DELAY_MS;
  #usualMs = 0;
  #oftenMs = INITIAL_DELAY_MS;

  constructor() {
    this.#histogram[INITIAL_DELAY_MS / BUCKET_MS] = INITIAL_WEIGHT;
  }

  /** What to wait for packets beyond the quickest, ms. */
  get targetMs(): number {
    return this.#targetMs;
  }

  /** What seven of ten intervals kept, ms: later than that is nothing unheard of. */
  get oftenMs(): number {
    return this.#oftenMs;
  }

  /** What every other interval kept, ms. */
  get usualMs(): number {
    return this.#usualMs;
  }

  /** Least transit of late, ms; infinite before the first packet. */
  get baseMs(): number {
    return this.#baseMs;
  }

  /** A packet came. @param mediaMs its timestamp @returns its delay */
  packet(mediaMs: number, arrivalMs: number): number {
    const transitMs = arrivalMs - mediaMs;
    if (Math.abs(transitMs - this.#baseMs) > MOST_DIFFERENCE_MS) this.restart();
    const interval = Math.floor(arrivalMs / INTERVAL_MS);
    if (interval !== this.#interval) this.#goOn(interval);
    const at = place(interval);
    this.#least[at] = Math.min(this.#least[at] as number, transitMs);
    this.#baseMs = Math.min(this.#baseMs, transitMs);
    if (transitMs > (this.#most[at] as number)) {
      this.#most[at] = transitMs;
      this.#mostDelay[at] = Math.max(this.#mostDelay[at] as number, transitMs - this.#baseMs);
      if (transitMs - this.#baseMs > this.#targetMs) this.#aim();
    }
    return transitMs - this.#baseMs;
  }

  /** The timestamps begin anew: what the last 4 s said may be wrong, what was learned before of the path stays. */
  restart(): void {
    this.#least.fill(Number.POSITIVE_INFINITY);
    this.#most.fill(Number.NEGATIVE_INFINITY);
    this.#mostDelay.fill(0);
    this.#baseMs = Number.POSITIVE_INFINITY;
    this.#interval = Number.NaN;
  }

  #goOn(interval: number): void {
    const before = this.#interval;
    this.#interval = interval;
    const passed = interval - before;
    if (passed > 0 && passed < INTERVALS) {
      for (let i = before + 1; i <= interval; i++) this.#commit(place(i));
    } else {
      for (let i = 0; i < INTERVALS; i++) this.#commit(i);
    }
    this.#baseMs = Number.POSITIVE_INFINITY;
    for (let i = 0; i < INTERVALS; i++) this.#baseMs = Math.min(this.#baseMs, this.#least[i] as number);
    this.#aim();
  }

  /** An interval leaves the 4 s: what it was later than the least of its time goes into the histogram. */
  #commit(at: number): void {
    const most = this.#most[at] as number;
    if (most !== Number.NEGATIVE_INFINITY) {
      this.#weight /= FORGET;
      this.#add(this.#delayOf(at), this.#weight);
      if (this.#weight > 1e6) this.#rescale();
    }
    this.#least[at] = Number.POSITIVE_INFINITY;
    this.#most[at] = Number.NEGATIVE_INFINITY;
    this.#mostDelay[at] = 0;
  }

  /**
   * By the least transit before or by that of now, whichever is less: when the path has become shorter, or longer, what came before
   * was not late on the path that it took.
   */
  #delayOf(at: number): number {
    return Math.min(this.#mostDelay[at] as number, (this.#most[at] as number) - this.#baseMs);
  }

  #rescale(): void {
    this.#mass = 0;
    for (let i = 0; i < BUCKETS; i++) {
      const weight = (this.#histogram[i] as number) / this.#weight;
      this.#histogram[i] = weight;
      this.#mass += weight;
    }
    this.#weight = 1;
  }

  /** The delay that all but `MOST_EXCEEDED` of the intervals kept. */
  #aim(): void {
    this.#addRecent(this.#weight);
    const target = this.#quantile(MOST_EXCEEDED, BUCKETS - 1);
    this.#targetMs = (target + 1) * BUCKET_MS;
    this.#oftenMs = (this.#quantile(OFTEN_EXCEEDED, BUCKETS - 1) + 1) * BUCKET_MS;
    this.#usualMs = (this.#quantile(0.5 - MOST_EXCEEDED, target - 1) + 1) * BUCKET_MS;
    this.#addRecent(-this.#weight);
  }

  /** Going down from `bucket`, the one with which `share` of the mass is reached. */
  #quantile(share: number, from: number): number {
    let left = this.#mass * share;
    for (let bucket = from; bucket > 0; bucket--) {
      left -= this.#histogram[bucket] as number;
      if (left < 0) return bucket;
    }
    return 0;
  }

  #addRecent(weight: number): void {
    for (let i = 0; i < INTERVALS; i++) {
      const most = this.#most[i] as number;
      if (most !== Number.NEGATIVE_INFINITY) this.#add(this.#delayOf(i), weight);
    }
  }

  #add(delayMs: number, weight: number): void {
    const bucket = Math.min(BUCKETS - 1, Math.max(0, Math.floor(delayMs / BUCKET_MS)));
    this.#histogram[bucket] = (this.#histogram[bucket] as number) + weight;
    this.#mass += weight;
  }
}

function place(interval: number): number {
  return ((interval % INTERVALS) + INTERVALS) % INTERVALS;
}
