import type { Clock, Timer } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import type { PinPlace } from './chip.js';
import { KeptOpen } from './kept-open.js';
import { openPin, type Pin } from './pin.js';
import { pinError } from './pin-error.js';

/**
 * The relay of a door lock. It comes up at its safe level without leaving it for an instant, and goes back to it after each
 * pulse. A line that refuses a write is taken afresh, at the safe level, until that works. Its end (`close`) leaves the line
 * exported at the safe level: unexported, many chips would let it float.
 */
export class DoorRelay {
  readonly #place: PinPlace;
  readonly #safeLevel: 0 | 1;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onChange: (open: boolean) => void;
  readonly #pin: KeptOpen<Pin>;
  #open = false;
  #closesAtMs = 0;
  #timer: Timer | undefined;

  /**
   * Opens the line at once; where that fails, `fault` says why and it is retried.
   * @param options.safe the level that keeps the door shut
   * @param options.onChange told after the level at the line changed
   */
  constructor(options: {
    place: PinPlace;
    safe: 'high' | 'low';
    clock: Clock;
    logger: Logger;
    onChange?: (open: boolean) => void;
  }) {
    this.#place = options.place;
    this.#safeLevel = options.safe === 'high' ? 1 : 0;
    this.#clock = options.clock;
    this.#logger = options.logger.child({ relay: `${options.place.chip}/${options.place.line}` });
    this.#onChange = options.onChange ?? (() => {});
    this.#pin = new KeptOpen<Pin>({
      clock: this.#clock,
      logger: this.#logger,
      opening: {
        open: () => openPin(options.place, options.safe),
        opened: () => this.#became(false),
        close: (pin) => pin.unexport(),
      },
    });
  }

  /** Whether the door is held open now, as far as the line took what was written. */
  get open(): boolean {
    return this.#open;
  }

  /** Why the door can't be opened now; null when it can. */
  get fault(): AppError | null {
    return this.#pin.fault;
  }

  /**
   * Opens the door for `pulseMs` from now. Pulses don't add up: while it is open, another one only moves the end to its own
   * `pulseMs` from now, or leaves it where that is sooner.
   * @throws AppError the line's fault (`pin-taken`, `chip-absent`, …): nothing was opened
   */
  pulse(pulseMs: number): void {
    const pin = this.#pin.part;
    if (pin === undefined) throw this.#pin.fault ?? new AppError('relay-closed', 'the door relay is no longer in use');
    const error = this.#write(pin, this.#safeLevel === 1 ? 0 : 1);
    if (error !== undefined) throw error;
    const nowMs = this.#clock.nowMs();
    this.#closesAtMs = Math.max(this.#open ? this.#closesAtMs : 0, nowMs + pulseMs);
    this.#timer?.cancel();
    this.#timer = this.#clock.after(this.#closesAtMs - nowMs, () => this.safe());
    this.#became(true);
  }

  /** Shuts the door now. */
  safe(): void {
    this.#timer?.cancel();
    const pin = this.#pin.part;
    if (pin === undefined) return; // the line comes back at its safe level
    if (this.#write(pin, this.#safeLevel) === undefined) this.#became(false);
  }

  /** Shuts the door and ends; the line stays exported. */
  close(): void {
    this.safe();
    this.#pin.release();
  }

  #write(pin: Pin, level: 0 | 1): AppError | undefined {
    try {
      pin.writeSync(level);
      return undefined;
    } catch (error) {
      const fault = pinError(this.#place, error);
      this.#pin.lost(fault); // opens it again, at the safe level
      return fault;
    }
  }

  #became(open: boolean): void {
    if (open === this.#open) return;
    this.#open = open;
    this.#onChange(open);
  }
}
