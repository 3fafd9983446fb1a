import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../core/errors.js';
import { packageRoot } from '../core/package-root.js';
import type { Sources } from './plan.js';

/** Every file that an installation copies. */
export function readSources(): Sources {
  const folders = ['systemd', 'systemd/slots', 'device', 'device/udev', 'device/alsa'];
  const files = folders.flatMap((folder) =>
    readdirSync(join(packageRoot, folder), { withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => `${folder}/${entry.name}`),
  );
  return new Map(files.map((name) => [name, readFileSync(join(packageRoot, name), 'utf8')]));
}

/** @throws AppError `usage`, naming those that there are */
export function profileOf(board: string, sources: Sources): string {
  const name = `device/${board}.yaml`;
  if (sources.has(name)) return join(packageRoot, name);
  const boards = [...sources.keys()].flatMap((one) => /^device\/([^/]+)\.yaml$/.exec(one)?.[1] ?? []);
  throw new AppError('usage', `there is no board profile ${board}`, {
    remedy: `There is: ${boards.join(', ')}. Another board: copy one of device/*.yaml and change it`,
  });
}
