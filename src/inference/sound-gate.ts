import { NoiseFloor } from './noise-floor.js';

/**
 * How far a frame stands above the background to be worth a model's look: by its level, which a rumble alone changes by some dB from
 * frame to frame, or by that of its differences, which holds still.
 */
const LEVEL_DB = 12;
const STEPS_DB = 3;
/** What is quieter, of full scale, is nothing that anybody hears. */
const LEAST_DB = -72;
/** From the start, and from a gap on, until the background is known: everything is worth a look. */
const UNKNOWN_FRAMES = 200;
/** Below the rounding to 16 bits. */
const LEAST_POWER = 1e-11;

/**
 * Whether something stands out of the background, by its level alone, so that no model need be asked of a quiet night or a steady
 * hum: the level of the samples, and of their differences, in which a faint clink counts for more than a loud rumble.
 */
export class SoundGate {
  readonly #floor = new NoiseFloor(2);
  readonly #levelsDb = new Float64Array(2);
  #frames = 0;
  #last = 0;
  #sinceLoud = Number.POSITIVE_INFINITY;

  /** Frames since something stood out; 0: this one does. Infinite before the first. */
  get framesSinceSound(): number {
    return this.#sinceLoud;
  }

  /** The next 10 ms. */
  push(samples: Int16Array): void {
    let [power, steps, last] = [0, 0, this.#last];
    for (let i = 0; i < samples.length; i++) {
      const sample = samples[i] as number;
      power += sample * sample;
      steps += (sample - last) * (sample - last);
      last = sample;
    }
    this.#last = last;
    const scale = 1 / (samples.length * 32_768 * 32_768);
    this.#levelsDb[0] = 10 * Math.log10(power * scale + LEAST_POWER);
    this.#levelsDb[1] = 10 * Math.log10(steps * scale + LEAST_POWER);
    this.#floor.push(this.#levelsDb);
    this.#frames += 1;
    this.#sinceLoud = this.#isLoud() ? 0 : this.#sinceLoud + 1;
  }

  /** Forgets the background: after a gap in the stream. */
  reset(): void {
    this.#floor.reset();
    this.#frames = 0;
    this.#last = 0;
  }

  #isLoud(): boolean {
    const [level, steps] = this.#levelsDb as unknown as [number, number];
    if (level < LEAST_DB) return false;
    if (this.#frames <= UNKNOWN_FRAMES) return true;
    return level - this.#floor.floorDb(0) >= LEVEL_DB || steps - this.#floor.floorDb(1) >= STEPS_DB;
  }
}
