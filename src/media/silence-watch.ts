import type { Clock, Timer } from '../core/clock.js';

const CHECK_MS = 500;

/** Whether the far end says anything at all: silent once nothing has come for as long as the last packet was good for. */
export class SilenceWatch {
  readonly #clock: Clock;
  readonly #told: (isSilent: boolean) => void;
  #silentAtMs = 0;
  #isSilent = false;
  #timer: Timer | null = null;

  constructor(clock: Clock, told: (isSilent: boolean) => void) {
    this.#clock = clock;
    this.#told = told;
  }

  /** @param patienceMs how long it may take until it is heard first */
  start(patienceMs: number): void {
    this.#silentAtMs = this.#clock.nowMs() + patienceMs;
    this.#watch();
  }

  /** Something came; silent from `silentAtMs` on, unless more comes. */
  heard(silentAtMs: number): void {
    this.#silentAtMs = Math.max(this.#silentAtMs, silentAtMs);
    if (this.#isSilent) this.#set(false);
  }

  /** Tells again that it is silent, if it is: who asks may be a new run of the station. */
  tellAgain(): void {
    if (this.#isSilent) this.#told(true);
  }

  close(): void {
    this.#timer?.cancel();
  }

  #watch(): void {
    if (!this.#isSilent && this.#clock.nowMs() >= this.#silentAtMs) this.#set(true);
    this.#timer = this.#clock.after(CHECK_MS, () => this.#watch());
  }

  #set(isSilent: boolean): void {
    this.#isSilent = isSilent;
    this.#told(isSilent);
  }
}
