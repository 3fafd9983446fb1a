import type { Clock } from '../../core/clock.js';
import type { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import type { PinPlace } from './chip.js';
import { KeptOpen } from './kept-open.js';
import { openPin, type Pin } from './pin.js';
import { pinError } from './pin-error.js';

/** A contact that is read when somebody asks: a relay's own, or a lock's. */
export class Contact {
  readonly #place: PinPlace;
  readonly #closedLevel: 0 | 1;
  readonly #pin: KeptOpen<Pin>;

  /** Opens the line at once; where that fails, `fault` says why and it is retried. */
  constructor(options: { place: PinPlace; closed: 'high' | 'low'; clock: Clock; logger: Logger }) {
    const { place, clock } = options;
    this.#place = place;
    this.#closedLevel = options.closed === 'high' ? 1 : 0;
    this.#pin = new KeptOpen<Pin>({
      clock,
      logger: options.logger.child({ contact: `${place.chip}/${place.line}` }),
      opening: { open: () => openPin(place, 'in'), close: (pin) => pin.unexport() },
    });
  }

  /** Why it can't be read; null while it can. */
  get fault(): AppError | null {
    return this.#pin.fault;
  }

  /** Whether it is closed now; null while its line can't be read. */
  get closed(): boolean | null {
    const pin = this.#pin.part;
    if (pin === undefined) return null;
    try {
      return pin.readSync() === this.#closedLevel;
    } catch (error) {
      this.#pin.lost(pinError(this.#place, error)); // opens it again
      return null;
    }
  }

  /** Gives the line back. */
  close(): void {
    this.#pin.close();
  }
}
