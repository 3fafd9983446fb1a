import { parseArgs } from 'node:util';
import { notifier } from '../adapters/supervisor/notify.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { processLogger } from './process-logger.js';

const WATCHDOG_MS = 500;

/**
 * The life of a program `NAME.js --config FILE` of the cloud: it tells its supervisor that it is up and that it turns, ends with 0 on
 * SIGTERM or SIGINT, and with 2 where it can't start.
 * @param title what people call it, as `the fleet manager`
 */
export async function runCloudProgram(options: {
  readonly name: string;
  readonly title: string;
  readonly start: (file: string, logger: Logger) => Promise<{ close(): Promise<void> }>;
}): Promise<void> {
  const { name, title, start } = options;
  const logger = processLogger(name);
  const notify = notifier(logger);
  try {
    const { config: file } = parseArgs({ options: { config: { type: 'string' } } }).values;
    if (file === undefined) throw new Error(`usage: ${name} --config FILE`);
    const running = await start(file, logger);
    const stop = () => {
      notify.stopping();
      running
        .close()
        .catch((error: unknown) => logger.error({ error: errorText(error) }, 'closing failed'))
        .finally(() => process.exit(0));
    };
    process.once('SIGTERM', stop).once('SIGINT', stop);
    notify.ready();
    setInterval(() => notify.watchdog(), WATCHDOG_MS).unref();
  } catch (error) {
    logger.error({ error: errorText(error) }, `${title} can't start`);
    process.exit(2);
  }
}
