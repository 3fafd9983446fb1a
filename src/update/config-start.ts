import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { machineDisk } from '../adapters/slots/slot-disk.js';
import { countStart } from '../adapters/slots/start-count.js';
import type { Notifier } from '../adapters/supervisor/notify.js';
import { slotsNamedIn } from '../config/load.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';

/**
 * To be called by the station before it loads its configuration. Defaults of a release that are on trial may be in order and yet keep
 * the station from coming up: so its starts are counted, and after three it goes back to those before, and has the other processes
 * read them too. Never throws: what can't be counted or gone back from keeps no station from starting.
 */
export async function countConfigStart(
  file: string,
  { notify, logger }: { readonly notify: Pick<Notifier, 'restart'>; readonly logger: Logger },
): Promise<void> {
  const slots = slotsNamedIn(file);
  if (slots === undefined) return;
  try {
    const back = await countStart(machineDisk(join(slots, 'config')));
    if (back === null) return;
    logger.error({ ...back }, 'went back to the configuration defaults before');
    // A board's path unit reads it, as it does what the launcher writes; in the foreground the supervisor is told.
    const restartFile = process.env.ENTRYPHONE_UPDATE_RESTART;
    if (restartFile !== undefined) writeFileSync(restartFile, `${back.reason}\n`);
    notify.restart('everything', back.reason);
  } catch (error) {
    logger.error(
      { error: errorText(error) },
      'the start could not be counted, for the trial of configuration defaults',
    );
  }
}
