import type { Clock, Timer } from '../../core/clock.js';

/**
 * Makes one change of a contact out of many: a new state counts once it has stood still for `debounceMs`. The state at the
 * start is no change.
 */
export class Debouncer {
  readonly #debounceMs: number;
  readonly #clock: Clock;
  readonly #read: () => boolean;
  readonly #onChange: (closed: boolean) => void;
  #settled: boolean;
  #timer: Timer | undefined;

  /** @param options.read the contact's state now: true is closed */
  constructor(options: {
    debounceMs: number;
    clock: Clock;
    read: () => boolean;
    onChange: (closed: boolean) => void;
  }) {
    this.#debounceMs = options.debounceMs;
    this.#clock = options.clock;
    this.#read = options.read;
    this.#onChange = options.onChange;
    this.#settled = options.read();
  }

  /** An edge came, and the contact is now `closed`. */
  edge(closed: boolean): void {
    this.#timer?.cancel();
    if (closed === this.#settled) return;
    this.#timer = this.#clock.after(this.#debounceMs, () => this.#settle(closed));
  }

  stop(): void {
    this.#timer?.cancel();
  }

  #settle(expected: boolean): void {
    const closed = this.#read();
    if (closed !== expected) {
      this.edge(closed); // its edge is still under way
      return;
    }
    this.#settled = closed;
    this.#onChange(closed);
  }
}
