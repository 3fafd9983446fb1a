import { seededRandom } from '../core/seeded-random.js';

/** Draws from one seed; two dice of neighbouring seeds have nothing to do with each other. */
export class Dice {
  readonly #random: () => number;

  /** @param seed a whole number below 2^32; what is drawn for another `purpose` is another row of numbers */
  constructor(seed: number, purpose = '') {
    let mixed = Math.imul(seed, 0x9e3779b1) ^ 0x85ebca6b;
    for (let i = 0; i < purpose.length; i++) mixed = Math.imul(mixed ^ purpose.charCodeAt(i), 0x01000193);
    this.#random = seededRandom(mixed);
  }

  /** 0 ≤ x < 1. */
  share(): number {
    return this.#random();
  }

  between(least: number, most: number): number {
    return least + (most - least) * this.#random();
  }

  /** Evenly in octaves: for pitches and times. */
  ratio(least: number, most: number): number {
    return least * Math.exp(Math.log(most / least) * this.#random());
  }

  /** A whole number, both ends included. */
  whole(least: number, most: number): number {
    return least + Math.floor((most - least + 1) * this.#random());
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  /** @throws RangeError of an empty list */
  pick<T>(from: readonly T[]): T {
    const picked = from[Math.floor(this.#random() * from.length)];
    if (picked === undefined) throw new RangeError('Nothing to pick from');
    return picked;
  }

  /** Of a normal distribution, in a row of 12 (Irwin and Hall): mean 0, standard deviation 1, never beyond 6. */
  normal(): number {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += this.#random();
    return sum;
  }

  /** Evenly from -1 to 1: white noise. */
  noise(): number {
    return 2 * this.#random() - 1;
  }
}
