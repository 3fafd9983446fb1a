import type { Clock, Timer } from '../../core/clock.js';

/** As many as are sent at once (`call.dtmf`); what comes after them is no part of a code. */
const MOST_DIGITS = 32;

/**
 * Digits of a call as a code: `#` ends it, `*` begins it anew, and a pause ends it as well. Digits of another call begin anew.
 */
export class DigitCode {
  readonly #options: { clock: Clock; pauseMs: number; onCode: (code: string, callId: string) => void };
  #callId = '';
  #digits = '';
  #pause: Timer | undefined;

  /** @param options.pauseMs after the last digit, until the code is taken to be over */
  constructor(options: { clock: Clock; pauseMs: number; onCode: (code: string, callId: string) => void }) {
    this.#options = options;
  }

  /** How many there are so far. */
  get length(): number {
    return this.#digits.length;
  }

  digit(digit: string, callId: string): void {
    const { clock, pauseMs } = this.#options;
    if (callId !== this.#callId || digit === '*') this.clear();
    this.#callId = callId;
    if (digit === '#') this.#end();
    else if (digit !== '*') {
      if (this.#digits.length < MOST_DIGITS) this.#digits += digit;
      this.#pause?.cancel();
      this.#pause = clock.after(pauseMs, () => this.#end());
    }
  }

  /** Forgets what was pressed so far: the call is over, or the node. */
  clear(): void {
    this.#pause?.cancel();
    this.#digits = '';
  }

  #end(): void {
    const code = this.#digits;
    this.clear();
    if (code !== '') this.#options.onCode(code, this.#callId);
  }
}
