import { parseArgs } from 'node:util';
import { notifier } from '../adapters/supervisor/notify.js';
import { loadGatewayConfig } from '../config/gateway-config.js';
import { systemClock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import { Gateway } from '../gateway/gateway.js';
import { processLogger } from './process-logger.js';

/** `gateway.js --config FILE`: the gateway's dispatcher. Ends with 0 on SIGTERM or SIGINT, with 2 when it can't start. */
const WATCHDOG_MS = 500;
const logger = processLogger('gateway');
const notify = notifier(logger);

try {
  const { config: file } = parseArgs({ options: { config: { type: 'string' } } }).values;
  if (file === undefined) throw new Error('usage: gateway --config FILE');
  const gateway = await Gateway.start({ config: loadGatewayConfig(file), clock: systemClock, logger });
  const stop = () => {
    notify.stopping();
    gateway
      .close()
      .catch((error: unknown) => logger.error({ error: errorText(error) }, 'closing failed'))
      .finally(() => process.exit(0));
  };
  process.once('SIGTERM', stop).once('SIGINT', stop);
  notify.ready();
  setInterval(() => notify.watchdog(), WATCHDOG_MS).unref();
} catch (error) {
  logger.error({ error: errorText(error) }, "the gateway can't start");
  process.exit(2);
}
