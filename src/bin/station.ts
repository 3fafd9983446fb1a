import { notifier } from '../adapters/supervisor/notify.js';
import { loadConfig } from '../config/load.js';
import { systemClock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import { LogTap } from '../core/log-tap.js';
import { startStation } from '../station/station.js';
import { countConfigStart } from '../update/config-start.js';
import { processLogger } from './process-logger.js';

/**
 * `station.js --config FILE`: the station process. Ends on SIGTERM and SIGINT: hangs up, makes the door safe, exit 0. Exit 2
 * for a configuration with faults, 1 for anything else that it can't live with; its supervisor then makes the door safe.
 */
const [flag, file] = process.argv.slice(2);
if (flag !== '--config' || file === undefined) {
  process.stderr.write('usage: station --config FILE\n');
  process.exit(2);
}
const logTap = new LogTap();
const logger = processLogger('station', 'info', logTap);
const die = (code: number, message: string) => (error: unknown) => {
  logger.error({ error: errorText(error), stack: error instanceof Error ? error.stack : undefined }, message);
  process.exit(code);
};
process.on('uncaughtException', die(1, 'an exception that nobody caught'));
process.on('unhandledRejection', die(1, 'a rejection that nobody handled'));

const notify = notifier(logger);
let wanted = true;
let end = (): void => {};
for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  process.on(signal, () => {
    wanted = false;
    end();
  });
}
try {
  await countConfigStart(file, { notify, logger });
  const loaded = loadConfig(file);
  const { defaults } = loaded;
  if (defaults?.isApplied === false) {
    const { version, faults } = defaults;
    logger.warn({ version, faults }, 'the configuration defaults of a release are left out');
  } else if (defaults !== null) logger.info({ version: defaults.version }, 'configuration defaults of a release');
  const station = await startStation({
    ...loaded,
    clock: systemClock,
    logger,
    notify,
    logTap,
    // Its supervisor starts it again.
    end: () => process.kill(process.pid, 'SIGTERM'),
  });
  end = () => {
    notify.stopping();
    station.close().then(() => process.exit(0), die(1, 'the end failed'));
  };
  notify.ready();
  if (!wanted) end();
} catch (error) {
  die((error as { code?: unknown }).code === 'config-invalid' ? 2 : 1, 'the station could not be started')(error);
}
