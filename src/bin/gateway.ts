import { loadGatewayConfig } from '../config/gateway-config.js';
import { systemClock } from '../core/clock.js';
import { Gateway } from '../gateway/gateway.js';
import { runCloudProgram } from './cloud-program.js';

/** `gateway.js --config FILE`: the gateway's dispatcher. */
await runCloudProgram({
  name: 'gateway',
  title: 'the gateway',
  start: (file, logger) => Gateway.start({ config: loadGatewayConfig(file), clock: systemClock, logger }),
});
