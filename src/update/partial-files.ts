import { createHash } from 'node:crypto';
import { appendFile, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../core/folder.js';

/** So many outlast a start; each has at most what its reader may take. */
const MOST_FILES = 16;
const NAME = /^[0-9a-f]{32}\.part$/;

/**
 * What has come of files that are not whole, so that a restart goes on where it was. Nothing is synced: a file that a power cut
 * has damaged is found by its hash, as one that came damaged, and begun anew.
 */
export class PartialFiles {
  readonly #dir: string;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  /** Makes the folder; of what is in it the newest stay. @throws AppError `folder-unusable` */
  static async open(dir: string): Promise<PartialFiles> {
    makeFolder(dir);
    const names = (await readdir(dir)).filter((name) => NAME.test(name));
    const dated = await Promise.all(
      names.map(async (name) => ({ path: join(dir, name), atMs: (await stat(join(dir, name))).mtimeMs })),
    );
    const old = dated.sort((a, b) => b.atMs - a.atMs).slice(MOST_FILES);
    for (const { path } of old) await rm(path, { force: true });
    return new PartialFiles(dir);
  }

  /** What is here of a file; nothing where that is more than it may have. */
  async read(path: string, mostBytes: number): Promise<Uint8Array> {
    const own = this.#of(path);
    const found = await stat(own).catch(() => null);
    if (found === null) return new Uint8Array(0);
    if (found.size <= mostBytes) return readFile(own);
    await rm(own, { force: true });
    return new Uint8Array(0);
  }

  async append(path: string, piece: Uint8Array): Promise<void> {
    await appendFile(this.#of(path), piece, { mode: 0o600 });
  }

  async drop(path: string): Promise<void> {
    await rm(this.#of(path), { force: true });
  }

  #of(path: string): string {
    return join(this.#dir, `${createHash('sha256').update(path).digest('hex').slice(0, 32)}.part`);
  }
}
