import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { networkToolsEnv } from './own-network.js';

/** Arguments of `unshare` (util-linux), to run `command` where its mounts are seen by its own processes alone, and go with them. */
export function withOwnMounts(command: readonly string[]): string[] {
  return ['--mount', '--propagation', 'private', 'sh', '-c', 'mount --make-rshared / && exec "$@"', 'sh', ...command];
}

/** Lets go of what is mounted in a folder, whoever uses it still: the folder can be removed then. */
export function detachMounts(folder: string): void {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n');
  const below = mounts.map((row) => row.split(' ')[1] ?? '').filter((path) => path.startsWith(`${folder}/`));
  for (const path of below.reverse()) spawnSync('umount', ['--lazy', path], { env: networkToolsEnv() });
}
