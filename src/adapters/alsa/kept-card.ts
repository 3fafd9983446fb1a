import type { CardState } from '../../audio/ports.js';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { cardFault } from './card-fault.js';
import type { NativeChanged, NativeLine } from './native.js';

/** A card that comes back is used again within as much: it costs little to look, and a call may be waiting. */
export const CARD_BACKOFF = { firstMs: 100, mostMs: 500 } as const;

const WATCH_MS = 500;
/** A call to ALSA that takes longer than this does not come back. Meeting a sound server for the first time takes some. */
const STUCK_MS = 2_000;
const LEAVING_MS = 20;

export interface KeptCardOptions<Line extends NativeLine> {
  readonly what: 'microphone' | 'speaker';
  readonly device: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Starts a thread that opens the card. May throw. */
  readonly start: (changed: NativeChanged) => Line;
  /** A line is let go of; what it has counted is to be kept. */
  readonly released: (line: Line) => void;
}

/**
 * Keeps a card open: one thread of native code has it, and where that fails, or the card is lost or hung, another begins, until
 * `close`. Of these threads there is never more than one: while a hung card keeps one, the card is not opened again.
 */
export class KeptCard<Line extends NativeLine> {
  readonly #options: KeptCardOptions<Line>;
  readonly #logger: Logger;
  readonly #backoff = new Backoff(CARD_BACKOFF);
  #state: CardState = { state: 'closed' };
  #stateChanged: ((state: CardState) => void) | null = null;
  #line: Line | null = null;
  /** Closed, but its thread may still hold the card. */
  #leaving: Line | null = null;
  #timer: Timer | null = null;
  #hasBeenUp = false;

  constructor(options: KeptCardOptions<Line>) {
    this.#options = options;
    this.#logger = options.logger.child({ [options.what]: options.device });
  }

  get state(): CardState {
    return this.#state;
  }

  /** Null while there is none. */
  get line(): Line | null {
    return this.#line;
  }

  /**
   * The card took sound before, and now keeps its thread: another process may reach it. Where it never did, another would fare
   * no better.
   */
  get mustRestart(): boolean {
    return this.#hasBeenUp && this.#stateChanged !== null && this.#leaving !== null && isStuck(this.#leaving);
  }

  open(stateChanged: (state: CardState) => void): void {
    this.close();
    this.#stateChanged = stateChanged;
    this.#backoff.reset();
    this.#start();
  }

  close(): void {
    this.#stateChanged = null;
    this.#release();
    this.#timer?.cancel();
    this.#timer = null;
    this.#state = { state: 'closed' };
  }

  #start(): void {
    if (this.#stateChanged === null) return;
    if (this.#leaving !== null) {
      if (!this.#leaving.figures().ended) {
        if (isStuck(this.#leaving)) this.#fail('card-hung', 'it does not let go');
        else this.#startAfter(LEAVING_MS);
        return;
      }
      this.#leaving = null;
    }
    try {
      const line = this.#options.start((code, text) => {
        if (code === 'up') this.#up();
        else this.#fail(code, text ?? '');
      });
      this.#line = line;
      this.#watch(line);
    } catch (error) {
      this.#fail('card-lost', errorText(error));
    }
  }

  #watch(line: Line): void {
    this.#timer = this.#options.clock.after(WATCH_MS, () => {
      if (isStuck(line)) this.#fail('card-hung', 'it does not answer');
      else this.#watch(line);
    });
  }

  #up(): void {
    this.#backoff.reset();
    this.#hasBeenUp = true;
    this.#logger.info({}, `The ${this.#options.what} is open`);
    this.#change({ state: 'up' });
  }

  #fail(code: string, text: string): void {
    this.#release();
    this.#startAfter(this.#backoff.nextDelayMs());
    const fault = cardFault(this.#options.what, this.#options.device, code, text);
    // Told once an outage, and again when only a restart helps; other reasons only show in the state.
    if (this.#state.state === 'down' && !this.mustRestart) {
      this.#state = { state: 'down', fault };
      return;
    }
    this.#logger.warn({ code }, errorText(fault));
    this.#change({ state: 'down', fault });
  }

  #startAfter(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#options.clock.after(delayMs, () => this.#start());
  }

  #release(): void {
    const line = this.#line;
    if (line === null) return;
    this.#options.released(line);
    this.#line = null;
    this.#leaving = line;
    line.close();
  }

  #change(state: CardState): void {
    this.#state = state;
    this.#stateChanged?.(state);
  }
}

function isStuck(line: NativeLine): boolean {
  const { ended, stuckMs } = line.figures();
  return !ended && stuckMs > STUCK_MS;
}
