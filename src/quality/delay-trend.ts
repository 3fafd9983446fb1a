/** How long packets are under way, beyond what they were at their quickest. */
export interface DelaySample {
  readonly atMs: number;
  readonly excessMs: number;
}

const TREND_MS = 4_000;
const LEAST_SAMPLES = 3;
/** A queue that grows by less in a second is the wander of clocks and of Wi-Fi. */
const RISING_MS_PER_S = 15;
/** Nor is a queue one that was not there for so long, or is no longer than jitter makes it. */
const LEAST_EXCESS_MS = 40;

/**
 * Whether the delay rises: a queue builds up before us, and what is sent is too much for the line, whatever is lost. From the
 * samples of the last 4 s, by least squares.
 */
export class DelayTrend {
  readonly #samples: DelaySample[] = [];

  add(sample: DelaySample): void {
    this.#samples.push(sample);
    while ((this.#samples[0]?.atMs ?? 0) < sample.atMs - TREND_MS) this.#samples.shift();
  }

  /** ms in each second; 0 where too little is known. */
  get msPerS(): number {
    const count = this.#samples.length;
    if (count < LEAST_SAMPLES) return 0;
    const meanMs = this.#samples.reduce((sum, { atMs }) => sum + atMs, 0) / count;
    const meanExcessMs = this.#samples.reduce((sum, { excessMs }) => sum + excessMs, 0) / count;
    let covariance = 0;
    let variance = 0;
    for (const { atMs, excessMs } of this.#samples) {
      covariance += (atMs - meanMs) * (excessMs - meanExcessMs);
      variance += (atMs - meanMs) ** 2;
    }
    return variance > 0 ? (1_000 * covariance) / variance : 0;
  }

  isRising(jitterMs: number): boolean {
    const last = this.#samples.at(-1);
    return (
      last !== undefined && this.msPerS > RISING_MS_PER_S && last.excessMs > Math.max(LEAST_EXCESS_MS, 2 * jitterMs)
    );
  }

  forget(): void {
    this.#samples.length = 0;
  }
}
