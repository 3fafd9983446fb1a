import type { Clock, Timer } from '../../core/clock.js';

/** A stall of this and `LATE_MS` is always seen. Each beat wakes the process: shorter ones cost more than they show. */
const BEAT_MS = 25;
/** A beat may come so much late while everything is on time. */
const LATE_MS = 10;

/**
 * Tells how old what is seen now may be. Normally it happened just now; but when this process stood still (a long task, a busy
 * machine), what happened meanwhile is seen at its end, all at once.
 */
export class StallWatch {
  readonly #clock: Clock;
  #timer: Timer;
  #lastMs: number;
  /** The beat before the last one. */
  #beforeMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#lastMs = this.#beforeMs = clock.nowMs();
    this.#timer = clock.after(BEAT_MS, () => this.#beat());
  }

  /** The earliest time at which what is seen now can have happened. */
  sinceMs(): number {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#lastMs > BEAT_MS + LATE_MS) return this.#lastMs;
    // Timers go first after a stall: what waited for its end is seen after the beat.
    return this.#lastMs - this.#beforeMs > BEAT_MS + LATE_MS ? this.#beforeMs : nowMs;
  }

  stop(): void {
    this.#timer.cancel();
  }

  #beat(): void {
    this.#beforeMs = this.#lastMs;
    this.#lastMs = this.#clock.nowMs();
    this.#timer = this.#clock.after(BEAT_MS, () => this.#beat());
  }
}
