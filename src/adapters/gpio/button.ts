import type { Board } from '../../config/schema.js';
import type { Clock } from '../../core/clock.js';
import type { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import type { PinPlace } from './chip.js';
import { Debouncer } from './debouncer.js';
import { KeptOpen } from './kept-open.js';
import { openPin, type Pin } from './pin.js';
import { pinError } from './pin-error.js';
import { StallWatch } from './stall-watch.js';

/**
 * A push button: `onPress` when its contact has been closed for `debounceMs`, once until it has been let go. One that is held
 * down at the start presses when it has been let go and pushed again. A press that came and went while this process stood
 * still is told when it goes on.
 */
export class Button {
  readonly name: string;
  readonly #pin: KeptOpen<Pin>;
  #debouncer: Debouncer | undefined;

  /** Opens the line at once; where that fails, `fault` says why and it is retried. */
  constructor(options: {
    name: string;
    place: PinPlace;
    pressed: 'high' | 'low';
    debounceMs: number;
    clock: Clock;
    stalls: StallWatch;
    logger: Logger;
    onPress: (name: string) => void;
    /** It was let go. */
    onRelease?: (name: string) => void;
  }) {
    const { place, clock, debounceMs } = options;
    const pressedLevel = options.pressed === 'high' ? 1 : 0;
    this.name = options.name;
    this.#pin = new KeptOpen<Pin>({
      clock,
      logger: options.logger.child({ button: options.name }),
      opening: {
        open: () => openPin(place, 'in'),
        opened: (pin) => {
          // Not at once: a pin is not closed inside of its own poll handler.
          pin.onLost = (error) =>
            clock.after(0, () => pin === this.#pin.part && this.#pin.lost(pinError(place, error)));
          const debouncer = new Debouncer({
            debounceMs,
            clock,
            read: () => pin.readSync() === pressedLevel,
            sinceMs: () => options.stalls.sinceMs(),
            onChange: (closed) => (closed ? options.onPress(options.name) : options.onRelease?.(options.name)),
          });
          pin.watch((_error, level) => debouncer.edge(level === pressedLevel));
          this.#debouncer = debouncer;
        },
        close: (pin) => {
          this.#debouncer?.stop();
          pin.unexport();
        },
      },
    });
  }

  get fault(): AppError | null {
    return this.#pin.fault;
  }

  /** Stops watching and gives the line back. */
  close(): void {
    this.#pin.close();
  }
}

/** The buttons of a board. */
export class Buttons {
  readonly #buttons: readonly Button[];
  readonly #stalls: StallWatch;

  constructor(options: {
    board: Board;
    clock: Clock;
    logger: Logger;
    onPress: (name: string) => void;
    onRelease?: (name: string) => void;
  }) {
    const { board, ...rest } = options;
    const stalls = new StallWatch(options.clock);
    this.#stalls = stalls;
    this.#buttons = Object.entries(board.gpio.buttons).map(
      ([name, { line, ...contact }]) =>
        new Button({ ...rest, ...contact, stalls, name, place: { chip: board.gpio.chip, line } }),
    );
  }

  /** Why a button doesn't work; null while it does, and for a name that the board doesn't have. */
  faultOf(name: string): AppError | null {
    return this.#buttons.find((button) => button.name === name)?.fault ?? null;
  }

  close(): void {
    this.#stalls.stop();
    for (const button of this.#buttons) button.close();
  }
}
