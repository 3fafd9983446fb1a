import type { Clock, Timer } from '../../core/clock.js';

/**
 * Makes one change of a contact out of many: a new state counts once it has stood still for `debounceMs`. The state at the
 * start is no change. A contact that was closed and is open again when it is looked at counts, closed and opened, if it may
 * have been closed for `debounceMs`: so no press is lost to a process that stood still.
 */
export class Debouncer {
  readonly #debounceMs: number;
  readonly #clock: Clock;
  readonly #read: () => boolean;
  readonly #sinceMs: () => number;
  readonly #onChange: (closed: boolean) => void;
  #settled: boolean;
  /** When the contact was last looked at. */
  #seenMs: number;
  /** Since when it may have stood in the other state, at the earliest. */
  #awaySinceMs: number | undefined;
  #timer: Timer | undefined;

  /**
   * @param options.read the contact's state now: true is closed
   * @param options.sinceMs the earliest time at which an edge that comes now can have been
   */
  constructor(options: {
    debounceMs: number;
    clock: Clock;
    read: () => boolean;
    sinceMs: () => number;
    onChange: (closed: boolean) => void;
  }) {
    this.#debounceMs = options.debounceMs;
    this.#clock = options.clock;
    this.#read = options.read;
    this.#sinceMs = options.sinceMs;
    this.#onChange = options.onChange;
    this.#settled = options.read();
    this.#seenMs = options.clock.nowMs();
  }

  /** An edge came, and the contact is now `closed`. */
  edge(closed: boolean): void {
    this.#timer?.cancel();
    const edgeMs = Math.max(this.#sinceMs(), this.#seenMs);
    this.#seenMs = this.#clock.nowMs();
    if (closed !== this.#settled) {
      this.#awaySinceMs = edgeMs;
      this.#timer = this.#clock.after(this.#debounceMs, () => this.#settle(closed));
      return;
    }
    const awayMs = this.#seenMs - (this.#awaySinceMs ?? edgeMs);
    this.#awaySinceMs = undefined;
    // It is back where it was. A gap in a press makes no second one.
    if (closed || awayMs < this.#debounceMs) return;
    this.#onChange(true);
    this.#onChange(false);
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
    this.#seenMs = this.#clock.nowMs();
    this.#awaySinceMs = undefined;
    this.#settled = closed;
    this.#onChange(closed);
  }
}
