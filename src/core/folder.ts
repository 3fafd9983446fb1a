import { mkdirSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { AppError } from './errors.js';

/**
 * Makes a folder, and those above it that are missing. Not by `mkdir` with `recursive`: below `/proc`, where nothing can be made
 * and the kernel calls that ENOENT, Node.js tries that again for ever.
 * @param mode of each folder that is made
 * @throws AppError `folder-unusable`
 */
export function makeFolder(path: string, mode = 0o700): void {
  try {
    const missing: string[] = [];
    for (let at = resolve(path); !isFolder(at); at = dirname(at)) missing.push(at);
    for (const folder of missing.reverse()) makeOne(folder, mode);
  } catch (cause) {
    const { code = String(cause) } = cause as { code?: string };
    throw new AppError('folder-unusable', `${path} can't be used as a folder (${code})`, {
      remedy: 'Name another folder, or one that does not exist yet where you may make it',
      cause,
    });
  }
}

function makeOne(folder: string, mode: number): void {
  try {
    mkdirSync(folder, { mode });
  } catch (error) {
    // Somebody else was first.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || !isFolder(folder)) throw error;
  }
}

/** @throws what it is instead */
function isFolder(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found?.isDirectory() === false) throw Object.assign(new Error('no folder'), { code: 'ENOTDIR' });
  return found !== undefined;
}
