import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';

/** What `KeptOpen` keeps: opened by `open`, given back by `close`. */
export interface Opening<Part> {
  open(): Part;
  close(part: Part): void;
  /** Right after each success of `open`. */
  opened?(part: Part): void;
}

/** Opens a part, and opens it again with backoff for as long as that fails or when it is lost. Each fault is logged once. */
export class KeptOpen<Part> {
  readonly #opening: Opening<Part>;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #backoff = new Backoff({ firstMs: 250, mostMs: 10_000 });
  #part: Part | undefined;
  #fault: AppError | null = null;
  #retry: Timer | undefined;
  #closed = false;

  constructor(options: { opening: Opening<Part>; clock: Clock; logger: Logger }) {
    this.#opening = options.opening;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#tryOpen();
  }

  /** The part, while it works. */
  get part(): Part | undefined {
    return this.#part;
  }

  /** Why it is not open; null while it works. */
  get fault(): AppError | null {
    return this.#fault;
  }

  /** The part no longer works: it is closed, and opened again at once, then with backoff. */
  lost(error: AppError): void {
    if (this.#part === undefined || this.#closed) return;
    this.#setFault(error);
    this.#discard();
    this.#tryOpen();
  }

  /** Closes the part, and no longer opens it. */
  close(): void {
    this.#closed = true;
    this.#retry?.cancel();
    this.#discard();
  }

  /** As `close`, but leaves the part as it is. */
  release(): void {
    this.#part = undefined;
    this.close();
  }

  #tryOpen(): void {
    try {
      this.#part = this.#opening.open();
      this.#opening.opened?.(this.#part);
    } catch (error) {
      this.#discard();
      this.#setFault(
        error instanceof AppError ? error : new AppError('pin-failed', errorText(error), { cause: error }),
      );
      this.#retry = this.#clock.after(this.#backoff.nextDelayMs(), () => this.#tryOpen());
      return;
    }
    if (this.#fault !== null) this.#logger.info({}, 'works again');
    this.#fault = null;
    this.#backoff.reset();
  }

  #discard(): void {
    const part = this.#part;
    this.#part = undefined;
    if (part === undefined) return;
    try {
      this.#opening.close(part);
    } catch (error) {
      this.#logger.debug({ error: errorText(error) }, 'did not close cleanly');
    }
  }

  #setFault(fault: AppError): void {
    if (fault.message !== this.#fault?.message) {
      this.#logger.warn({ code: fault.code }, `${errorText(fault)}. Trying again until it works`);
    }
    this.#fault = fault;
  }
}
