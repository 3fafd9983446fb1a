import type { Clock } from '../core/clock.js';

export interface PaceOptions {
  /** Bits a second that files may take of the line, all together. */
  readonly rateBps: number;
  /** While it says so nothing is asked for: a call has the line to itself. */
  readonly isHeld: () => boolean;
  readonly clock: Clock;
}

/** What waits looks again so often. */
const LOOK_EVERY_MS = 200;
/** A timer that fires late must not make the line slower. */
const MOST_LATE_MS = 20;

/**
 * Spends a line's rate on files: each piece is asked for when the one before would have gone through at that rate, so that no
 * bursts queue up before a packet of speech. Nothing is saved up while nothing is asked for, and nothing spent on who gives up waiting.
 */
export class Pace {
  readonly #options: PaceOptions;
  #nextMs = Number.NEGATIVE_INFINITY;

  constructor(options: PaceOptions) {
    this.#options = options;
  }

  /** Resolves when `bytes` may be asked for. @throws the signal's reason */
  async take(bytes: number, signal: AbortSignal): Promise<void> {
    const { clock, rateBps, isHeld } = this.#options;
    signal.throwIfAborted();
    for (;;) {
      const nowMs = clock.nowMs();
      const inMs = this.#nextMs - nowMs;
      if (inMs <= 0 && !isHeld()) {
        this.#nextMs = Math.max(this.#nextMs, nowMs - MOST_LATE_MS) + (bytes * 8_000) / rateBps;
        return;
      }
      await pause(clock, inMs > 0 ? inMs : LOOK_EVERY_MS, signal);
    }
  }
}

/** @throws the signal's reason, at once when it is given */
export async function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  if (ms <= 0) return;
  await new Promise<void>((resolve, reject) => {
    const stop = (): void => {
      timer.cancel();
      reject(signal.reason as Error);
    };
    const timer = clock.after(ms, () => {
      signal.removeEventListener('abort', stop);
      resolve();
    });
    signal.addEventListener('abort', stop, { once: true });
  });
}
