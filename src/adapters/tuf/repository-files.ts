import { createHash } from 'node:crypto';
import { mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { writeDurably } from '../../core/durable-file.js';
import { AppError } from '../../core/errors.js';
import { type OfflineRole, ROLES, type Role } from './roles.js';

/** Everybody may read what a repository serves. */
const PUBLIC = 0o644;

/** Metadata as it stands in a file: text, and what the roles above say of it. */
export interface MetadataFile {
  readonly text: string;
  readonly version: number;
}

/**
 * The folder of a repository:
 *
 *   metadata/N.root.json, N.targets.json, N.flows.json, N.snapshot.json, timestamp.json   what is served (TUF 1.0.34, clause 6.2)
 *   pending/root.json, targets.json, flows.json    what waits for signatures
 */
export class RepositoryFiles {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  /** The newest that is served. @throws AppError `repository-damaged` for what can't be read */
  async published(role: Role): Promise<MetadataFile | undefined> {
    if (role === 'timestamp') return this.#read(join(this.dir, 'metadata', 'timestamp.json'));
    const names = await readdir(join(this.dir, 'metadata')).catch(() => []);
    const versions = names.flatMap((name) => {
      const [, number, of] = /^([1-9]\d{0,14})\.([a-z]+)\.json$/.exec(name) ?? [];
      return of === role ? [Number(number)] : [];
    });
    if (versions.length === 0) return undefined;
    return this.#read(join(this.dir, 'metadata', `${Math.max(...versions)}.${role}.json`));
  }

  async publish(role: Role, text: string, version: number): Promise<void> {
    const name = role === 'timestamp' ? 'timestamp.json' : `${version}.${role}.json`;
    await mkdir(this.dir, { recursive: true });
    await writeDurably(join(this.dir, 'metadata', name), text, PUBLIC);
  }

  pending(role: OfflineRole): Promise<MetadataFile | undefined> {
    return this.#read(join(this.dir, 'pending', `${role}.json`));
  }

  async stage(role: OfflineRole, text: string): Promise<void> {
    await mkdir(this.dir, { recursive: true });
    await writeDurably(join(this.dir, 'pending', `${role}.json`), text, PUBLIC);
  }

  async unstage(role: OfflineRole): Promise<void> {
    await rm(join(this.dir, 'pending', `${role}.json`), { force: true });
  }

  async isEmpty(): Promise<boolean> {
    const all = await Promise.all([...ROLES.map((role) => this.published(role)), this.pending('root')]);
    return all.every((one) => one === undefined);
  }

  async #read(path: string): Promise<MetadataFile | undefined> {
    let text: string;
    try {
      text = await readFile(path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
    try {
      const version: unknown = JSON.parse(text).signed.version;
      if (typeof version === 'number' && Number.isSafeInteger(version)) return { text, version };
    } catch {
      // Told below.
    }
    throw new AppError('repository-damaged', `${path} is no metadata`, {
      remedy: 'Bring it back from where the repository is kept, or remove it if it waits for signatures',
    });
  }
}

export function sha256Of(bytes: string | Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
