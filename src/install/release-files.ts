import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { AppError } from '../core/errors.js';
import type { Sources } from './plan.js';

/** Where the release that this program belongs to stands. */
export const releaseRoot = resolve(import.meta.dirname, '../../..');

/** Every file that an installation copies. */
export function readSources(): Sources {
  const folders = ['systemd', 'device', 'device/udev', 'device/alsa'];
  const files = folders.flatMap((folder) =>
    readdirSync(join(releaseRoot, folder), { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => `${folder}/${entry.name}`),
  );
  return new Map(files.map((name) => [name, readFileSync(join(releaseRoot, name), 'utf8')]));
}

/** @throws AppError `no-such-board`, naming those that there are */
export function profileOf(board: string, sources: Sources): string {
  const name = `device/${board}.yaml`;
  if (sources.has(name)) return join(releaseRoot, name);
  const boards = [...sources.keys()].flatMap((one) => /^device\/([^/]+)\.yaml$/.exec(one)?.[1] ?? []);
  throw new AppError('no-such-board', `there is no board profile ${board}`, {
    remedy: `There is: ${boards.join(', ')}. Another board: copy one of device/*.yaml and change it`,
  });
}
