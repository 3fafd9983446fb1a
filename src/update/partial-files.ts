import { createHash } from 'node:crypto';
import { appendFile, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFolder } from '../core/folder.js';

/** So many there are; each has at most what its reader may take. */
const MOST_FILES = 16;
const NAME = /^[0-9a-f]{32}\.part$/;

/**
 * What has come of files that are not whole, so that a restart goes on where it was. Nothing is synced: a file that a power cut
 * has damaged is found by its hash, as one that came damaged, and begun anew.
 */
export class PartialFiles {
  readonly #dir: string;
  /** The oldest first. */
  readonly #names: Set<string>;

  private constructor(dir: string, names: readonly string[]) {
    this.#dir = dir;
    this.#names = new Set(names);
  }

  /** Makes the folder; of what is in it the newest stay. @throws AppError `folder-unusable` */
  static async open(dir: string): Promise<PartialFiles> {
    makeFolder(dir);
    const names = (await readdir(dir)).filter((name) => NAME.test(name));
    const dated = await Promise.all(names.map(async (name) => ({ name, atMs: (await stat(join(dir, name))).mtimeMs })));
    const byAge = dated.sort((a, b) => a.atMs - b.atMs).map(({ name }) => name);
    for (const name of byAge.splice(0, Math.max(0, byAge.length - MOST_FILES)))
      await rm(join(dir, name), { force: true });
    return new PartialFiles(dir, byAge);
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

  /** Where there are too many, the one that nothing came of for the longest time goes. */
  async append(path: string, piece: Uint8Array): Promise<void> {
    const name = nameOf(path);
    this.#names.delete(name);
    this.#names.add(name);
    for (const oldest of this.#names) {
      if (this.#names.size <= MOST_FILES) break;
      this.#names.delete(oldest);
      await rm(join(this.#dir, oldest), { force: true });
    }
    await appendFile(this.#of(path), piece, { mode: 0o600 });
  }

  async drop(path: string): Promise<void> {
    this.#names.delete(nameOf(path));
    await rm(this.#of(path), { force: true });
  }

  #of(path: string): string {
    return join(this.#dir, nameOf(path));
  }
}

function nameOf(path: string): string {
  return `${createHash('sha256').update(path).digest('hex').slice(0, 32)}.part`;
}
