const WINDOW_FRAMES = 10;

/** RMS of the last 100 ms (ten frames), in dB below full scale. */
export class LevelMeter {
  readonly #powers = new Float64Array(WINDOW_FRAMES);
  #at = 0;

  frame(samples: Int16Array): void {
    let sum = 0;
    for (const sample of samples) sum += sample * sample;
    this.#powers[this.#at] = samples.length === 0 ? 0 : sum / samples.length;
    this.#at = (this.#at + 1) % WINDOW_FRAMES;
  }

  reset(): void {
    this.#powers.fill(0);
  }

  /** 0 is full scale (a square wave), silence -96. */
  get dbfs(): number {
    const mean = this.#powers.reduce((sum, power) => sum + power, 0) / WINDOW_FRAMES;
    return Math.max(-96, 10 * Math.log10(mean / 32_768 ** 2));
  }
}
