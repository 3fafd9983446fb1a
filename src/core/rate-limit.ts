import type { Clock } from './clock.js';

/** Lets through `most` in every `perMs`, and counts the rest: for logs about what others send us. */
export class RateLimit {
  readonly #most: number;
  readonly #perMs: number;
  readonly #clock: Clock;
  #startedMs = -Infinity;
  #used = 0;
  #held = 0;

  constructor(options: { most: number; perMs: number; clock: Clock }) {
    this.#most = options.most;
    this.#perMs = options.perMs;
    this.#clock = options.clock;
  }

  /** @returns undefined when it is too much; else how many were held back since the last that went through */
  admit(): number | undefined {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#startedMs >= this.#perMs) {
      this.#startedMs = nowMs;
      this.#used = 0;
    }
    if (this.#used >= this.#most) {
      this.#held += 1;
      return undefined;
    }
    this.#used += 1;
    const held = this.#held;
    this.#held = 0;
    return held;
  }
}
