import { parseArgs } from 'node:util';
import { notifier } from '../adapters/supervisor/notify.js';
import { loadConfig } from '../config/load.js';
import { systemClock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import { startEngine } from '../engine/engine.js';
import { processLogger } from './process-logger.js';

/** `media.js --config FILE`: the media process. Ends with 0 on SIGTERM or SIGINT, with 2 when it can't start. */
const STOP_MS = 800;
const WATCHDOG_MS = 500;
const logger = processLogger('media');
const notify = notifier(logger);

try {
  const { config: file } = parseArgs({ options: { config: { type: 'string' } } }).values;
  if (file === undefined) throw new Error('usage: media --config FILE');
  const { config } = loadConfig(file);
  const engine = await startEngine({ config, clock: systemClock, logger });
  const stop = () => {
    notify.stopping();
    process.removeAllListeners('SIGTERM').removeAllListeners('SIGINT');
    // A capture thread that hangs would keep even `process.exit` waiting; the signal's default action ends it.
    setTimeout(() => process.kill(process.pid, 'SIGTERM'), STOP_MS).unref();
    engine.close().catch((error) => logger.error({ error: errorText(error) }, 'closing failed'));
  };
  process.once('SIGTERM', stop).once('SIGINT', stop);
  notify.ready();
  // It turns as long as the process lives, but doesn't keep it alive.
  setInterval(() => notify.watchdog(), WATCHDOG_MS).unref();
} catch (error) {
  logger.error({ error: errorText(error) }, "the media process can't start");
  process.exitCode = 2;
}
