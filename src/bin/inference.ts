import { setPriority } from 'node:os';
import { notifier } from '../adapters/supervisor/notify.js';
import { loadConfig } from '../config/load.js';
import { systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { LogTap } from '../core/log-tap.js';
import { startListener } from '../listener/listener.js';
import { processLogger } from './process-logger.js';

/**
 * `inference.js --config FILE`: the inference process. Ends with 0 on SIGTERM or SIGINT, with 2 for a configuration with faults, with 3
 * where the configuration has it off, with 1 for anything else; its supervisor starts it again in the last case alone.
 */
const WATCHDOG_MS = 1_000;
/** Calls, door and flows come first. */
const NICENESS = 10;
const OFF = 3;
const logTap = new LogTap();
const logger = processLogger('inference', 'info', logTap);
const notify = notifier(logger);

try {
  const [flag, file] = process.argv.slice(2);
  if (flag !== '--config' || file === undefined) throw new AppError('usage', 'usage: inference --config FILE');
  const { config } = loadConfig(file);
  setPriority(NICENESS);
  if (config.inference.enabled) {
    const listener = await startListener({ config, clock: systemClock, logger, logTap });
    const stop = () => {
      notify.stopping();
      listener.close().then(
        () => process.exit(0),
        (error: unknown) => {
          logger.error({ error: errorText(error) }, 'closing failed');
          process.exit(1);
        },
      );
    };
    process.once('SIGTERM', stop).once('SIGINT', stop);
    notify.ready();
    notify.status(`${listener.report.models.length} models`);
    setInterval(() => notify.watchdog(), WATCHDOG_MS).unref();
  } else {
    notify.ready();
    logger.info({}, 'the configuration has inference off (inference.enabled)');
    process.exitCode = OFF;
  }
} catch (error) {
  logger.error({ error: errorText(error) }, "the inference process can't start");
  const staysWrong = error instanceof AppError && ['config-invalid', 'usage'].includes(error.code);
  process.exitCode = staysWrong ? 2 : 1;
}
