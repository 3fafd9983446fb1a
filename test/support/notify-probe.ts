/** A process with a supervisor: says all that a notifier can, then what its children would inherit. */
import { notifier } from '../../src/adapters/supervisor/notify.js';

const notify = notifier();
notify.ready();
notify.watchdog();
notify.status('one line\nREADY=0');
notify.stopping();
process.stdout.write(String(process.env.NOTIFY_SOCKET));
process.disconnect?.();
