import { chmod, mkdir, open, readdir, readFile, readlink, rename, rm, statfs, symlink, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ReleaseKind } from '../../fleet/manifest.js';

/**
 * What an update does to a disk, one call of the kernel each, so that another can stand in that loses what was not synced. Paths are
 * relative to the folder of the slots, by `/`. What is written lasts through a power cut once `syncFile` (its content) and `syncFolder`
 * (its name, of the folder that it is in) have returned, and not before.
 *
 * Errors are those of the file system, with their `code`: `ENOENT`, `ENOSPC`, `EROFS`, …
 */
export interface SlotDisk {
  /** @returns null where there is none */
  read(path: string): Promise<Uint8Array | null>;
  /** Part of a file. @returns null where it is not there, or ends before */
  readRange(path: string, at: number, bytes: number): Promise<Uint8Array | null>;
  /** @returns what a symbolic link says; null where there is none, or no link */
  readLink(path: string): Promise<string | null>;
  /** Names in a folder, sorted; none where there is no folder. */
  list(path: string): Promise<string[]>;
  /** @param mode of that one, also where it is there already; those above it, and without one, are readable for all */
  makeFolder(path: string, mode?: number): Promise<void>;
  /** A new file; another one of that name goes away first. */
  create(path: string, mode: number): Promise<DiskFile>;
  /** A file or a link; nothing where there is none. */
  unlink(path: string): Promise<void>;
  /** A folder and all that is in it; nothing where there is none. */
  removeFolder(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  link(target: string, path: string): Promise<void>;
  /** The content of a file that is there. */
  syncFile(path: string): Promise<void>;
  syncFolder(path: string): Promise<void>;
  freeBytes(): Promise<number>;
}

/** A file that is being written. */
export interface DiskFile {
  append(bytes: Uint8Array): Promise<void>;
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** The disk of this machine. @param root absolute */
export function machineDisk(root: string): SlotDisk {
  const at = (path: string): string => join(root, path);
  return {
    read: (path) => orNull(readFile(at(path))),
    readRange: async (path, from, bytes) => {
      const file = await orNull(open(at(path), 'r'));
      if (file === null) return null;
      try {
        const into = new Uint8Array(bytes);
        const { bytesRead } = await file.read(into, 0, bytes, from);
        return bytesRead === bytes ? into : null;
      } finally {
        await file.close();
      }
    },
    readLink: (path) => orNull(readlink(at(path))),
    list: async (path) => ((await orNull(readdir(at(path)))) ?? []).sort(),
    makeFolder: async (path, mode) => {
      const first = await mkdir(at(path), { recursive: true, mode: mode ?? 0o755 });
      // Whatever the process' umask: other users run what is in it.
      if (first !== undefined) {
        for (let made = at(path); made.length >= first.length; made = dirname(made)) await chmod(made, 0o755);
      }
      if (mode !== undefined) await chmod(at(path), mode);
    },
    create: async (path, mode) => {
      await rm(at(path), { force: true });
      const file = await open(at(path), 'wx', mode);
      // Whatever the process' umask: a release has the rights that its manifest says.
      await file.chmod(mode);
      return {
        append: (bytes) => file.writeFile(bytes),
        sync: () => file.sync(),
        close: () => file.close(),
      };
    },
    unlink: async (path) => void (await orNull(unlink(at(path)))),
    removeFolder: (path) => rm(at(path), { recursive: true, force: true }),
    rename: (from, to) => rename(at(from), at(to)),
    link: (target, path) => symlink(target, at(path)),
    syncFile: (path) => synced(at(path)),
    syncFolder: (path) => synced(at(path)),
    freeBytes: async () => {
      const { bavail, bsize } = await statfs(root);
      return bavail * bsize;
    },
  };
}

/** Where the slots of a kind are: firmware's in the folder itself, those of other kinds below it. */
export function diskOfKind(disk: SlotDisk, kind: ReleaseKind): SlotDisk {
  if (kind === 'firmware') return disk;
  const at = (path: string): string => (path === '.' ? kind : `${kind}/${path}`);
  return {
    read: (path) => disk.read(at(path)),
    readRange: (path, from, bytes) => disk.readRange(at(path), from, bytes),
    readLink: (path) => disk.readLink(at(path)),
    list: (path) => disk.list(at(path)),
    makeFolder: async (path) => {
      // People write keys and passwords into flows. The station alone reads them here, and deploys them.
      await disk.makeFolder(at(path), kind === 'flows' && path === '.' ? 0o700 : undefined);
      if (path === '.') await disk.syncFolder('.');
    },
    create: (path, mode) => disk.create(at(path), mode),
    unlink: (path) => disk.unlink(at(path)),
    removeFolder: (path) => disk.removeFolder(at(path)),
    rename: (from, to) => disk.rename(at(from), at(to)),
    link: (target, path) => disk.link(target, at(path)),
    syncFile: (path) => disk.syncFile(at(path)),
    syncFolder: (path) => disk.syncFolder(at(path)),
    freeBytes: () => disk.freeBytes(),
  };
}

/** Writes a small file so that after a power cut there is all of it or what was there before. */
export async function putDurably(disk: SlotDisk, path: string, content: string | Uint8Array): Promise<void> {
  const file = await disk.create(`${path}.new`, 0o644);
  try {
    await file.append(Buffer.from(content as Uint8Array));
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.rename(`${path}.new`, path);
  await disk.syncFolder(folderOf(path));
}

/** Points a symbolic link elsewhere, at once: whoever reads it sees the old target or the new one. */
export async function pointDurably(disk: SlotDisk, path: string, target: string): Promise<void> {
  await disk.unlink(`${path}.new`);
  await disk.link(target, `${path}.new`);
  await disk.rename(`${path}.new`, path);
  await disk.syncFolder(folderOf(path));
}

/** Takes a file away for good. */
export async function dropDurably(disk: SlotDisk, path: string): Promise<void> {
  await disk.unlink(path);
  await disk.syncFolder(folderOf(path));
}

/** fsync(2) of a file, or of a folder: of the names in it. */
async function synced(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

function folderOf(path: string): string {
  const at = path.lastIndexOf('/');
  return at < 0 ? '.' : path.slice(0, at);
}

/** null for what is not there, or is not of that sort. */
async function orNull<T>(what: Promise<T>): Promise<T | null> {
  try {
    return await what;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EINVAL') return null;
    throw error;
  }
}
