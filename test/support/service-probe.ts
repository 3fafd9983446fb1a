/** A child for the supervisor's tests: what it does is said by its first argument. */
import { appendFileSync } from 'node:fs';
import { notifier } from '../../src/adapters/supervisor/notify.js';

const [mode, file = ''] = process.argv.slice(2);
const notify = notifier();
appendFileSync(file, `${mode} ${process.pid}\n`);
const stay = setInterval(() => {
  if (mode !== 'hangs') notify.watchdog();
}, 50);
if (mode === 'safe') {
  clearInterval(stay);
  process.disconnect?.();
} else if (mode === 'misconfigured') process.exit(2);
else if (mode !== 'never-ready') notify.ready();
if (mode === 'stubborn') process.on('SIGTERM', () => {});
