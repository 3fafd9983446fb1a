import { AppError } from '../../core/errors.js';
import type { PinPlace } from './chip.js';

/**
 * What sysfs said about a line, for people: `pin-taken` where another driver, program or permission keeps it from us,
 * `pin-failed` for everything else. An AppError stays as it is.
 */
export function pinError(place: PinPlace, error: unknown): AppError {
  if (error instanceof AppError) return error;
  const name = `line ${place.line} of ${place.chip}`;
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'EBUSY') {
    return new AppError('pin-taken', `${name} is held by another driver or program`, {
      remedy: 'gpioinfo shows by whom: free it, or wire and name another line in the board profile',
      cause: error,
    });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new AppError('pin-taken', `${name} may not be used by this user`, {
      remedy: 'Add the user to the group gpio',
      cause: error,
    });
  }
  return new AppError('pin-failed', `${name} failed: ${error instanceof Error ? error.message : String(error)}`, {
    remedy: 'See the kernel log (dmesg) for the chip',
    cause: error,
  });
}
