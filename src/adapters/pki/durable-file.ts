import { randomBytes } from 'node:crypto';
import { link, mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Ends in this while it is being written; what a power cut leaves behind is never read. */
const PARTIAL = '.partial';

/** Writes a file of mode 0600 so that after a power cut there is all of it or none: write, fsync, rename, fsync. */
export async function writeDurably(path: string, text: string): Promise<void> {
  await placed(path, text, rename);
}

/** As `writeDurably`, but never over a file that is there. @returns false where there is one */
export async function createDurably(path: string, text: string): Promise<boolean> {
  try {
    await placed(path, text, link);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

async function placed(path: string, text: string, place: (from: string, to: string) => Promise<void>): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const partial = `${path}.${randomBytes(4).toString('hex')}${PARTIAL}`;
  try {
    const file = await open(partial, 'wx', 0o600);
    try {
      await file.writeFile(text);
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
