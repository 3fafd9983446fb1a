/** How long packets are under way, beyond what they were at their quickest. */
export interface DelaySample {
  readonly atMs: number;
  readonly excessMs: number;
}

const RECENT = 3;
const LEAST_BEFORE = 4;
const MOST_BEFORE = 6;
const OLDEST_MS = 15_000;
/** By so much the recent samples are above those before, and such a queue is one. */
const RISE_MS = 15;
const LEAST_EXCESS_MS = 40;

/**
 * Whether the delay rises: a queue builds up before us, and what is sent is too much for the line, whatever is lost. It does
 * where each of the last three samples is above every one of the six before: jitter that is the same all the time does that
 * once in 84 samples, and hardly ever by a margin; a queue that grows does it each time.
 */
export class DelayTrend {
  readonly #samples: DelaySample[] = [];

  add(sample: DelaySample): void {
    this.#samples.push(sample);
    if (this.#samples.length > RECENT + MOST_BEFORE) this.#samples.shift();
    while ((this.#samples[0]?.atMs ?? 0) < sample.atMs - OLDEST_MS) this.#samples.shift();
  }

  /** @param jitterMs of the packets (RFC 3550, A.8): what varies by so much must rise by as much more */
  isRising(jitterMs: number): boolean {
    const excessesMs = this.#samples.map(({ excessMs }) => excessMs);
    if (excessesMs.length < RECENT + LEAST_BEFORE) return false;
    const least = Math.min(...excessesMs.slice(-RECENT));
    return least > LEAST_EXCESS_MS && least > Math.max(...excessesMs.slice(0, -RECENT)) + RISE_MS + jitterMs;
  }
}
