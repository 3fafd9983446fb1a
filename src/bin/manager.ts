import { parseArgs } from 'node:util';
import { notifier } from '../adapters/supervisor/notify.js';
import { loadManagerConfig } from '../config/manager-config.js';
import { systemClock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import { FleetManager } from '../manager/manager.js';
import { processLogger } from './process-logger.js';

/** `manager.js --config FILE`: the fleet manager. Ends with 0 on SIGTERM or SIGINT, with 2 when it can't start. */
const WATCHDOG_MS = 500;
const logger = processLogger('manager');
const notify = notifier(logger);

try {
  const { config: file } = parseArgs({ options: { config: { type: 'string' } } }).values;
  if (file === undefined) throw new Error('usage: manager --config FILE');
  const manager = await FleetManager.start({ config: loadManagerConfig(file), clock: systemClock, logger });
  const stop = () => {
    notify.stopping();
    manager
      .close()
      .catch((error: unknown) => logger.error({ error: errorText(error) }, 'closing failed'))
      .finally(() => process.exit(0));
  };
  process.once('SIGTERM', stop).once('SIGINT', stop);
  notify.ready();
  setInterval(() => notify.watchdog(), WATCHDOG_MS).unref();
} catch (error) {
  logger.error({ error: errorText(error) }, "the fleet manager can't start");
  process.exit(2);
}
