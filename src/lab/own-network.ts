import { networkInterfaces } from 'node:os';
import { AppError } from '../core/errors.js';

/** The one interface of a network namespace of one's own. */
export const LOOPBACK_DEVICE = 'lo';

/** With the folders in which Debian has what sets up networks. */
export function networkToolsEnv(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env.PATH ?? ''}:/usr/sbin:/sbin` };
}

/** Arguments of `unshare` (util-linux), to run `command` in a network namespace whose only interface is its own loopback. */
export function inOwnNetwork(command: readonly string[]): string[] {
  const asUser = process.getuid?.() === 0 ? [] : ['--map-root-user'];
  return [...asUser, '--net', 'sh', '-c', `ip link set ${LOOPBACK_DEVICE} up && exec "$@"`, 'sh', ...command];
}

/** @param what would change the network, as `UDP is not cut`. @throws AppError `not-alone` where that would be this machine's own */
export function requireOwnNetwork(what: string): void {
  const others = Object.keys(networkInterfaces()).filter((name) => name !== LOOPBACK_DEVICE);
  if (others.length === 0) return;
  throw new AppError('not-alone', `${what} where there are other interfaces (${others.join(', ')})`, {
    remedy: 'Run in a network namespace of your own: unshare --net',
  });
}
