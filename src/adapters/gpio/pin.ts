import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BinaryValue, Gpio } from 'onoff';
import { gpioRoot, type PinPlace, sysfsNumber } from './chip.js';
import { pinError } from './pin-error.js';

/**
 * `onoff`'s line, but for one thing: onoff reads inside of its poll handler, and a line that vanished (unexported by another,
 * the chip unplugged) would throw there, where nobody can catch it. Here that is told to `onLost`, and the last level stays.
 */
export class Pin extends Gpio {
  /** Told of each read that failed; set once the pin is open. */
  onLost: ((error: unknown) => void) | undefined = undefined;
  declare private lastRead: BinaryValue;

  override readSync(): BinaryValue {
    try {
      this.lastRead = super.readSync();
    } catch (error) {
      if (this.onLost === undefined) throw error;
      this.onLost(error);
    }
    return this.lastRead;
  }
}

/**
 * Exports and opens a line: `in` with both edges, or as an output that comes up at the level named. Never as `out`, which
 * drives low for an instant.
 * @throws AppError `chip-absent`, `line-absent`, `pin-taken` or `pin-failed`
 */
export function openPin(place: PinPlace, direction: 'in' | 'high' | 'low'): Pin {
  try {
    const number = sysfsNumber(place);
    const folder = join(gpioRoot, `gpio${number}`);
    if (existsSync(folder)) {
      // Of a line that was exported before, onoff sets what it can and says nothing of what it couldn't.
      writeFileSync(join(folder, 'direction'), direction);
      if (direction === 'in') writeFileSync(join(folder, 'edge'), 'both');
    }
    return new Pin(number, direction, direction === 'in' ? 'both' : undefined, { activeLow: false });
  } catch (error) {
    throw pinError(place, error);
  }
}
