import type { Clock } from '../../core/clock.js';
import type { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import type { PinPlace } from './chip.js';
import { KeptOpen } from './kept-open.js';
import { openPin, type Pin } from './pin.js';
import { pinError } from './pin-error.js';

/** A light; it shows what was set last as soon as its line works. */
export class Led {
  readonly #litHigh: boolean;
  readonly #place: PinPlace;
  readonly #pin: KeptOpen<Pin>;
  #on = false;

  constructor(options: { name: string; place: PinPlace; lit: 'high' | 'low'; clock: Clock; logger: Logger }) {
    this.#litHigh = options.lit === 'high';
    this.#place = options.place;
    this.#pin = new KeptOpen<Pin>({
      clock: options.clock,
      logger: options.logger.child({ led: options.name }),
      opening: {
        open: () => openPin(options.place, this.#level() === 1 ? 'high' : 'low'),
        close: (pin) => pin.unexport(),
      },
    });
  }

  /** Whether it shines: set so, and its line works. */
  get lit(): boolean {
    return this.#on && this.#pin.part !== undefined;
  }

  get fault(): AppError | null {
    return this.#pin.fault;
  }

  set(on: boolean): void {
    this.#on = on;
    try {
      this.#pin.part?.writeSync(this.#level());
    } catch (error) {
      this.#pin.lost(pinError(this.#place, error));
    }
  }

  /** Puts it out and gives the line back. */
  close(): void {
    this.set(false);
    this.#pin.close();
  }

  #level(): 0 | 1 {
    return this.#on === this.#litHigh ? 1 : 0;
  }
}
