import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { notifier } from '../adapters/supervisor/notify.js';
import { loadConfig } from '../config/load.js';
import { systemClock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import { LogTap } from '../core/log-tap.js';
import { startFlows } from '../flows/flows-process.js';
import { processLogger } from './process-logger.js';

/**
 * `flows.js --config FILE`: Node-RED with the installer's flows. Its files are in STATE_DIRECTORY where systemd gives one, else in
 * `flows` of the configuration's state folder. Ends with 0 on SIGTERM or SIGINT, with 2 for a wrong configuration, with 1 when a
 * flow has thrown or rejected what nobody caught; its supervisor starts it again.
 */
const WATCHDOG_MS = 1_000;
const logTap = new LogTap();
const logger = processLogger('flows', 'info', logTap);
const notify = notifier(logger);
const die = (code: number, message: string) => (error: unknown) => {
  logger.error({ error: errorText(error), stack: error instanceof Error ? error.stack : undefined }, message);
  process.exit(code);
};
process.on('uncaughtException', die(1, 'an exception that no node caught'));
process.on('unhandledRejection', die(1, 'a rejection that no node handled'));

try {
  const { config: file } = parseArgs({ options: { config: { type: 'string' } } }).values;
  if (file === undefined) throw Object.assign(new Error('usage: flows --config FILE'), { code: 'config-invalid' });
  const { config } = loadConfig(file);
  const dir = process.env.STATE_DIRECTORY ?? join(config.state, 'flows');
  let close = async (): Promise<void> => {}; // a start that is not wanted any more is not waited for
  const stop = () => {
    notify.stopping();
    close().then(() => process.exit(0), die(1, 'the end failed'));
  };
  process.once('SIGTERM', stop).once('SIGINT', stop);
  const flows = await startFlows({ config, dir, clock: systemClock, logger, logTap });
  const { url } = flows;
  close = () => flows.close();
  notify.ready();
  notify.status(`editor at ${url}`);
  setInterval(() => notify.watchdog(), WATCHDOG_MS).unref();
  logger.info({ url, dir }, 'the flows process is up');
} catch (error) {
  die((error as { code?: unknown }).code === 'config-invalid' ? 2 : 1, "the flows process can't start")(error);
}
