/** The last so many samples of a stream, in a ring that is allocated once. */
export class SoundHistory {
  readonly #ring: Int16Array;
  #at = 0;
  #length = 0;

  /** @param mostSamples may be 0: then it keeps nothing */
  constructor(mostSamples: number) {
    this.#ring = new Int16Array(mostSamples);
  }

  push(samples: Int16Array): void {
    const size = this.#ring.length;
    if (size === 0) return;
    const kept = samples.length > size ? samples.subarray(samples.length - size) : samples;
    const untilEnd = Math.min(kept.length, size - this.#at);
    this.#ring.set(kept.subarray(0, untilEnd), this.#at);
    this.#ring.set(kept.subarray(untilEnd), 0);
    this.#at = (this.#at + kept.length) % size;
    this.#length = Math.min(size, this.#length + kept.length);
  }

  /** What is kept, the oldest first, in memory of its own. */
  all(): Int16Array {
    const size = this.#ring.length;
    const samples = new Int16Array(this.#length);
    const from = (this.#at - this.#length + size) % Math.max(1, size);
    const untilEnd = Math.min(this.#length, size - from);
    samples.set(this.#ring.subarray(from, from + untilEnd));
    samples.set(this.#ring.subarray(0, this.#length - untilEnd), untilEnd);
    return samples;
  }

  clear(): void {
    this.#length = 0;
  }
}
