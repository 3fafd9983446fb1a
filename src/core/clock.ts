/** A started timer; `cancel` is safe to call at any time, any number of times. */
export interface Timer {
  cancel(): void;
}

/** The one way to tell and to spend time, injected so that tests own it. */
export interface Clock {
  /** Milliseconds since an arbitrary start; monotonic, with a fraction. */
  nowMs(): number;
  /** Milliseconds since 1970 (UTC); may jump. Only for what leaves the process or is shown to people. */
  wallMs(): number;
  /** Runs `action` once, `delayMs` from now. */
  after(delayMs: number, action: () => void): Timer;
}

/** The longest that setTimeout can wait; a longer one it does not wait at all. */
const MOST_TIMEOUT_MS = 2 ** 31 - 1;

export const systemClock: Clock = {
  nowMs: () => performance.now(),
  wallMs: () => Date.now(),
  after: (delayMs, action) => {
    const endMs = performance.now() + delayMs;
    let handle: NodeJS.Timeout;
    const wait = (leftMs: number): void => {
      handle =
        leftMs <= MOST_TIMEOUT_MS
          ? setTimeout(action, leftMs)
          : setTimeout(() => wait(endMs - performance.now()), MOST_TIMEOUT_MS);
    };
    wait(delayMs);
    return { cancel: () => clearTimeout(handle) };
  },
};

/** Waits for `work`, be it done or failed, but no longer than `mostMs`. */
export function settledWithin(clock: Clock, mostMs: number, work: Promise<unknown>): Promise<void> {
  return new Promise<void>((resolve) => {
    const timer = clock.after(mostMs, resolve);
    const done = (): void => {
      timer.cancel();
      resolve();
    };
    work.then(done, done);
  });
}

/** A clock that stands still until a test (or a simulation) moves it. */
export class ManualClock implements Clock {
  #nowMs = 0;
  #timers: { atMs: number; action: () => void }[] = [];

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return 1_700_000_000_000 + this.#nowMs;
  }

  /** Timers that are started and not over. */
  get timers(): number {
    return this.#timers.length;
  }

  after(delayMs: number, action: () => void): Timer {
    const timer = { atMs: this.#nowMs + Math.max(0, delayMs), action };
    this.#timers.push(timer);
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer);
      },
    };
  }

  /** Time passes, and the process stands still: what falls due runs late, at the next `advance`. */
  stall(ms: number): void {
    this.#nowMs += ms;
  }

  /** Moves on by `ms`, running the timers that fall due in their order, also those that they start. */
  advance(ms: number): void {
    const endMs = this.#nowMs + ms;
    for (;;) {
      const due = this.#timers.filter((timer) => timer.atMs <= endMs).sort((a, b) => a.atMs - b.atMs)[0];
      if (due === undefined) break;
      this.#timers = this.#timers.filter((other) => other !== due);
      this.#nowMs = Math.max(this.#nowMs, due.atMs);
      due.action();
    }
    this.#nowMs = endMs;
  }
}
