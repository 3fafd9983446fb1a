import { randomBytes } from 'node:crypto';
import { link, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { makeFolder } from './folder.js';

/** Ends in this while it is being written; what a power cut leaves behind is never read. */
const PARTIAL = '.partial';

/** A file that only its owner may read. */
const PRIVATE = 0o600;

/**
 * Writes a file so that after a power cut there is all of it or none: write, fsync, rename, fsync.
 * @param mode 0600 where nothing else is said
 */
export async function writeDurably(path: string, content: string | Uint8Array, mode: number = PRIVATE): Promise<void> {
  await placed(path, content, mode, rename);
}

/** As `writeDurably`, but never over a file that is there. @returns false where there is one */
export async function createDurably(
  path: string,
  content: string | Uint8Array,
  mode: number = PRIVATE,
): Promise<boolean> {
  try {
    await placed(path, content, mode, link);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function placed(
  path: string,
  content: string | Uint8Array,
  mode: number,
  place: (from: string, to: string) => Promise<void>,
): Promise<void> {
  const folder = dirname(path);
  makeFolder(folder, mode === PRIVATE ? 0o700 : 0o755);
  const partial = `${path}.${randomBytes(4).toString('hex')}${PARTIAL}`;
  try {
    const file = await open(partial, 'wx', mode);
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await place(partial, path);
  } finally {
    await rm(partial, { force: true });
  }
  const folderFile = await open(folder, 'r');
  try {
    await folderFile.sync();
  } finally {
    await folderFile.close();
  }
}
