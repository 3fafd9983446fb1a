import { type FileHandle, lstat, mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, relative, sep } from 'node:path';
import { AppError } from '../../core/errors.js';
import type { ClipSink } from './opus-clip.js';

/** Below the flows' own folder: where recordings go, and nowhere else. */
export const RECORDINGS_DIR = 'recordings';
/** Of all recordings: a board's disk is a card of a few GB, and the station's own. */
export const MOST_RECORDINGS_BYTES = 256 * 1024 * 1024;
const MOST_FILES = 10_000;
/** Of letters, digits, dots, dashes and underlines, in folders four deep at most; none is hidden. */
const NAME = /^(?:[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}\/){0,4}[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/;
const SUFFIX = '.opus';
const UNFINISHED = '.part';
/** Paths that this process writes; what is unfinished and none of them, a crash has left. */
const writing = new Set<string>();

/** A file that is written under another name until it is whole; it replaces none. */
export class RecordingFile implements ClipSink {
  readonly path: string;
  readonly #file: FileHandle;

  /**
   * @param dir the flows' own folder @param name below its `recordings`, with or without `.opus`
   * @throws AppError `recording-name`, `recording-exists`, `recordings-full`, `recording-failed`
   */
  static async create(dir: string, name: string): Promise<RecordingFile> {
    if (!NAME.test(name)) {
      throw new AppError('recording-name', `"${name.slice(0, 100)}" names no file below ${RECORDINGS_DIR}`, {
        remedy: 'Use letters, digits, dots, dashes and underlines, with / between folders',
      });
    }
    const root = join(dir, RECORDINGS_DIR);
    const path = join(root, name.endsWith(SUFFIX) ? name : name + SUFFIX);
    try {
      await mkdir(root, { recursive: true, mode: 0o700 });
      await makeFoldersBelow(root, path);
      if ((await tidiedSizeOf(root)) > MOST_RECORDINGS_BYTES) throw full();
      if (writing.has(path) || (await exists(path))) throw taken(path);
      writing.add(path);
      const file = await open(path + UNFINISHED, 'wx', 0o600).catch((cause: NodeJS.ErrnoException) => {
        writing.delete(path);
        throw cause.code === 'EEXIST' ? taken(path) : cause;
      });
      return new RecordingFile(path, file);
    } catch (cause) {
      throw cause instanceof AppError ? cause : failed(path, cause);
    }
  }

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /** @throws AppError `recording-failed` */
  async write(bytes: Uint8Array): Promise<void> {
    await this.#file.writeFile(bytes).catch((cause: unknown) => {
      throw failed(this.path, cause);
    });
  }

  /** It is whole. @throws AppError `recording-failed` */
  async finish(): Promise<void> {
    try {
      await this.#file.sync();
      await this.#file.close();
      await rename(this.path + UNFINISHED, this.path);
    } catch (cause) {
      throw failed(this.path, cause);
    } finally {
      writing.delete(this.path);
    }
  }

  /** Nothing of it stays. */
  async discard(): Promise<void> {
    await this.#file.close().catch(() => {});
    await rm(this.path + UNFINISHED, { force: true });
    writing.delete(this.path);
  }
}

/** Those that are missing, one by one: a link that somebody laid there is not followed, and nothing is made behind it. */
async function makeFoldersBelow(root: string, path: string): Promise<void> {
  let folder = root;
  for (const part of relative(root, dirname(path)).split(sep)) {
    if (part === '') continue;
    folder = join(folder, part);
    await mkdir(folder, { mode: 0o700 }).catch((cause: NodeJS.ErrnoException) => {
      if (cause.code !== 'EEXIST') throw cause;
    });
    if ((await lstat(folder)).isSymbolicLink()) throw taken(path);
  }
}

function taken(path: string): AppError {
  return new AppError('recording-exists', `${basename(path)} is there already`, { remedy: 'Give each another name' });
}

function full(): AppError {
  const most = MOST_RECORDINGS_BYTES / 1024 / 1024;
  return new AppError('recordings-full', `The recordings take more than ${most} MB`, { remedy: 'Remove old ones' });
}

function failed(path: string, cause: unknown): AppError {
  const { code = String(cause) } = cause as NodeJS.ErrnoException;
  return new AppError('recording-failed', `${basename(path)} can't be written (${code})`, {
    remedy: "See the disk, and who owns the flows' folder",
    cause,
  });
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Of all recordings, in bytes. What a crash left unfinished, which nobody can play, goes. */
async function tidiedSizeOf(root: string): Promise<number> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true });
  if (entries.length > MOST_FILES) throw full();
  const paths = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const isLeft = (path: string) =>
    path.endsWith(SUFFIX + UNFINISHED) && !writing.has(path.slice(0, -UNFINISHED.length));
  await Promise.all(paths.filter(isLeft).map((path) => rm(path, { force: true })));
  const sizes = paths.map((path) =>
    stat(path).then(
      ({ size }) => size,
      () => 0,
    ),
  );
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}
