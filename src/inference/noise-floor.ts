const PARTS = 8;
const PART_FRAMES = 20;
/** Time constant of the mean that the minimum is taken of, in frames. */
const MEAN_FRAMES = 4;

/**
 * The background in each band: the minimum, over the last 1.6 s, of the smoothed power (Martin 2001, minimum statistics, without
 * its correction of the bias). What stays longer than that has become background, be it a hum or a siren. In dB throughout.
 */
export class NoiseFloor {
  readonly #bands: number;
  readonly #powers: Float64Array;
  /** `PARTS` rows of minima, the current one among them. */
  readonly #minima: Float64Array;
  readonly #floors: Float64Array;
  #part = 0;
  #frames = 0;

  constructor(bands: number) {
    this.#bands = bands;
    this.#powers = new Float64Array(bands);
    this.#minima = new Float64Array(PARTS * bands).fill(Number.POSITIVE_INFINITY);
    this.#floors = new Float64Array(bands);
  }

  /** The next frame; 10 ms after the last. */
  push(levelsDb: Float64Array): void {
    const [bands, minima] = [this.#bands, this.#minima];
    if (this.#frames > 0 && this.#frames % PART_FRAMES === 0) {
      this.#part = (this.#part + 1) % PARTS;
      minima.fill(Number.POSITIVE_INFINITY, this.#part * bands, (this.#part + 1) * bands);
    }
    for (let m = 0; m < bands; m++) {
      const power = 10 ** ((levelsDb[m] as number) / 10);
      const before = this.#powers[m] as number;
      const mean = this.#frames === 0 ? power : before + (power - before) / MEAN_FRAMES;
      this.#powers[m] = mean;
      const at = this.#part * bands + m;
      minima[at] = Math.min(minima[at] as number, 10 * Math.log10(mean));
      let least = Number.POSITIVE_INFINITY;
      for (let part = 0; part < PARTS; part++) least = Math.min(least, minima[part * bands + m] as number);
      this.#floors[m] = least;
    }
    this.#frames += 1;
  }

  /** Of band `m`, dB. */
  floorDb(m: number): number {
    return this.#floors[m] as number;
  }

  reset(): void {
    this.#minima.fill(Number.POSITIVE_INFINITY);
    this.#part = 0;
    this.#frames = 0;
  }
}
