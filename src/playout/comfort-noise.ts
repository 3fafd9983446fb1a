/** The quietest stretch of what was heard is kept, and is so much louder each time that it stays: 0.2 dB a second. */
const AGEING = 1.0005;
const GRAIN_MS = 10;
const MEMORY_MS = 40;
/** Louder than this is no background, root mean square of 16-bit samples: -40 dB. Then there is silence. */
const MOST_RMS = 330;

/**
 * Noise like the far end's background, for when it has nothing to say: grains of the quietest stretch heard lately, from places and
 * with signs by chance, half over one another, so that its spectrum is kept and nothing repeats.
 */
export class ComfortNoise {
  readonly #memory: Int16Array;
  readonly #memorySamples: number;
  readonly #grain: number;
  readonly #window: Float64Array;
  readonly #tail: Float64Array;
  #memoryEnergy = Number.POSITIVE_INFINITY;
  #gain = 0;
  #state = 1;

  constructor(rateHz: number) {
    this.#grain = (rateHz * GRAIN_MS) / 1000;
    this.#memorySamples = (rateHz * MEMORY_MS) / 1000;
    this.#memory = new Int16Array(this.#memorySamples);
    // Sine halves: their squares add up to one, as the powers of what is not correlated do.
    this.#window = Float64Array.from({ length: 2 * this.#grain }, (_, i) =>
      Math.sin((Math.PI * (i + 0.5)) / (2 * this.#grain)),
    );
    this.#tail = new Float64Array(this.#grain);
  }

  /** Hears what was decoded: `samples` from `from` to `to`. */
  hear(samples: Int16Array, from: number, to: number): void {
    const count = to - from;
    if (count < this.#grain) return;
    let energy = 0;
    // Every fourth sample tells enough.
    for (let i = from; i < to; i += 4) energy += (samples[i] as number) ** 2;
    energy /= count / 4;
    this.#memoryEnergy *= AGEING;
    if (energy > this.#memoryEnergy) return;
    this.#memoryEnergy = energy + 1;
    for (let i = 0; i < this.#memorySamples; i++) this.#memory[i] = samples[from + (i % count)] as number;
    this.#gain = energy > MOST_RMS ** 2 ? 0 : 1;
  }

  /** Fills `into` with 10 ms. */
  make(into: Int16Array): void {
    const grain = this.#grain;
    const from = this.#random(this.#memorySamples - 2 * grain + 1);
    const factor = this.#random(2) === 0 ? this.#gain : -this.#gain;
    for (let i = 0; i < grain; i++) {
      const rising = (this.#memory[from + i] as number) * factor * (this.#window[i] as number);
      into[i] = Math.round((this.#tail[i] as number) + rising);
      this.#tail[i] = (this.#memory[from + grain + i] as number) * factor * (this.#window[grain + i] as number);
    }
  }

  #random(below: number): number {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * below);
  }
}
