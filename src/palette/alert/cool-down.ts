import type { Clock } from '../../core/clock.js';

const MOST_KEYS = 1_000;

/** Lets the first of a kind through, and the next only so long after it. */
export class CoolDown {
  readonly #coolDownMs: number;
  readonly #clock: Clock;
  readonly #lastMs = new Map<string, number>();

  constructor(coolDownMs: number, clock: Clock) {
    this.#coolDownMs = coolDownMs;
    this.#clock = clock;
  }

  admits(key: string): boolean {
    const nowMs = this.#clock.nowMs();
    if (nowMs - (this.#lastMs.get(key) ?? Number.NEGATIVE_INFINITY) < this.#coolDownMs) return false;
    // The oldest stands first: a key that comes again goes to the end.
    this.#lastMs.delete(key);
    this.#lastMs.set(key, nowMs);
    for (const oldest of this.#lastMs.keys()) {
      if (this.#lastMs.size <= MOST_KEYS) break;
      this.#lastMs.delete(oldest);
    }
    return true;
  }

  /** What it let through came to nothing: the next of its kind may go. */
  forget(key: string): void {
    this.#lastMs.delete(key);
  }
}
