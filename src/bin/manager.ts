import { loadManagerConfig } from '../config/manager-config.js';
import { systemClock } from '../core/clock.js';
import { FleetManager } from '../manager/manager.js';
import { runCloudProgram } from './cloud-program.js';

/** `manager.js --config FILE`: the fleet manager. */
await runCloudProgram({
  name: 'manager',
  title: 'the fleet manager',
  start: (file, logger) => FleetManager.start({ config: loadManagerConfig(file), clock: systemClock, logger }),
});
