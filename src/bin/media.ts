import { notifier } from '../adapters/supervisor/notify.js';
import { loadConfig } from '../config/load.js';
import { systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { LogTap } from '../core/log-tap.js';
import { startEngine } from '../engine/engine.js';
import { processLogger } from './process-logger.js';

/**
 * `media.js --config FILE`: the media process. Ends with 0 on SIGTERM or SIGINT, with 2 for a configuration with faults, with 1
 * where it can't start for any other reason, which may pass.
 */
const STOP_MS = 800;
const WATCHDOG_MS = 500;
const logTap = new LogTap();
const logger = processLogger('media', 'info', logTap);
const notify = notifier(logger);

try {
  const [flag, file] = process.argv.slice(2);
  if (flag !== '--config' || file === undefined) throw new AppError('usage', 'usage: media --config FILE');
  const { config } = loadConfig(file);
  const engine = await startEngine({ config, clock: systemClock, logger, logTap });
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
  const staysWrong = error instanceof AppError && ['config-invalid', 'usage'].includes(error.code);
  process.exitCode = staysWrong ? 2 : 1;
}
