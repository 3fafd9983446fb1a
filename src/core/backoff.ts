/** Doubling delays between retries, from `firstMs` up to `mostMs`; `reset` after a success. */
export class Backoff {
  readonly #firstMs: number;
  readonly #mostMs: number;
  #nextMs: number;

  constructor(options: { firstMs: number; mostMs: number }) {
    this.#firstMs = options.firstMs;
    this.#mostMs = options.mostMs;
    this.#nextMs = options.firstMs;
  }

  /** How long to wait before the coming attempt, in ms. */
  nextDelayMs(): number {
    const delayMs = this.#nextMs;
    this.#nextMs = Math.min(this.#nextMs * 2, this.#mostMs);
    return delayMs;
  }

  reset(): void {
    this.#nextMs = this.#firstMs;
  }
}
