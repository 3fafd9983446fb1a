import type { Clock, Timer } from '../core/clock.js';

/** Tells something again and again, as long as somebody wants to know it. */
export class RegularTelling {
  readonly #options: { clock: Clock; everyMs: number; isWanted: () => boolean; tell: () => Promise<void> };
  #timer: Timer | undefined;
  #isClosed = false;

  /** @param options.tell the next one begins `everyMs` after it is done */
  constructor(options: { clock: Clock; everyMs: number; isWanted: () => boolean; tell: () => Promise<void> }) {
    this.#options = options;
  }

  /** Somebody may want it from now on. */
  wake(): void {
    const { clock, everyMs, isWanted, tell } = this.#options;
    if (this.#isClosed || this.#timer !== undefined || !isWanted()) return;
    this.#timer = clock.after(everyMs, async () => {
      await tell();
      this.#timer = undefined;
      this.wake();
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }
}
