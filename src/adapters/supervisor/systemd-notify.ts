import { createRequire } from 'node:module';
import { join } from 'node:path';
import { getSystemErrorName } from 'node:util';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { packageRoot } from '../../core/package-root.js';

/** native/sd-notify.cc: 0, or the errno. */
interface SdNotify {
  send(address: string, state: string): number;
}

const module = join(packageRoot, 'native/build/sd-notify.node');

/**
 * What sd_notify(3) does, for the socket named in NOTIFY_SOCKET: a path, or an abstract name after an `@`. The function that it
 * gives takes a line `READY=1`, `WATCHDOG=1`, `STATUS=…` or `STOPPING=1`; a message that could not be handed over within
 * 100 ms is dropped, and the fault told to `logger` once until one gets through again: it is for the manager's watchdog to act.
 * @throws AppError `notify-unavailable`
 */
export function sdNotify(address: string, logger: Logger): (state: string) => void {
  let native: SdNotify;
  try {
    native = createRequire(import.meta.url)(module) as SdNotify;
  } catch (cause) {
    throw new AppError('notify-unavailable', `systemd can't be told that we run: ${errorText(cause)}`, {
      remedy: 'Build it with: make setup',
      cause,
    });
  }
  let told = 0;
  return (state) => {
    const errno = native.send(address, state);
    if (errno !== 0 && errno !== told) {
      const fault = getSystemErrorName(-errno);
      logger.error({ address, fault }, 'NOTIFY_SOCKET takes no messages; does the unit say Type=notify?');
    }
    told = errno;
  };
}
