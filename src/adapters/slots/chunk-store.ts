import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { zstdDecompress } from 'node:zlib';
import { AppError } from '../../core/errors.js';
import { type Chunk, distinctChunks, type Manifest } from '../../fleet/manifest.js';
import { InstalledChunks } from '../../fleet/release-stream.js';
import type { SlotName } from '../../fleet/slots.js';
import { putDurably, type SlotDisk } from './slot-disk.js';

const decompress = promisify(zstdDecompress);
const FETCHED = 'fetched';

/**
 * The chunks of a release that is on its way: those that were fetched, compressed as they came, and those that the release that runs
 * has in its files. Nothing is handed out that has not the hash that is its name.
 */
export class ChunkStore {
  readonly #disk: SlotDisk;
  readonly #slot: SlotName;
  readonly #installed: InstalledChunks | null;
  /** Of the release that runs, but damaged there. */
  readonly #damaged = new Set<string>();
  #fetched: Set<string> | undefined;

  /** @param installed what runs, and in which slot; null where that is not known */
  constructor(disk: SlotDisk, installed: { readonly slot: SlotName; readonly manifest: Manifest } | null) {
    this.#disk = disk;
    this.#slot = installed?.slot ?? 'a';
    this.#installed = installed === null ? null : new InstalledChunks(installed.manifest);
  }

  /** What is not here yet, each once, in its order. */
  async lacking(manifest: Pick<Manifest, 'chunks'>): Promise<Chunk[]> {
    const fetched = await this.#names();
    const isHere = (id: string) => fetched.has(id) || (this.#installed?.has(id) === true && !this.#damaged.has(id));
    return distinctChunks(manifest).filter(({ id }) => !isHere(id));
  }

  async hasFetched(): Promise<boolean> {
    return (await this.#disk.list(FETCHED)).length > 0;
  }

  /**
   * Keeps a chunk as it came.
   * @throws AppError `chunk-wrong` for one that is not what its name says; the disk's errors
   */
  async put(chunk: Chunk, stored: Uint8Array): Promise<void> {
    await unpacked(chunk, stored);
    if ((await this.#names()).size === 0) {
      await this.#disk.makeFolder(FETCHED);
      await this.#disk.syncFolder('.');
    }
    await putDurably(this.#disk, pathOf(chunk.id), stored);
    (await this.#names()).add(chunk.id);
  }

  /** A chunk's content. @throws AppError `chunk-absent`, `chunk-wrong`: it is lacking from here on */
  async read(chunk: Chunk): Promise<Uint8Array> {
    const stored = await this.#disk.read(pathOf(chunk.id));
    if (stored !== null) {
      try {
        return await unpacked(chunk, stored);
      } catch (error) {
        await this.#disk.unlink(pathOf(chunk.id));
        (await this.#names()).delete(chunk.id);
        throw error;
      }
    }
    const bytes = this.#damaged.has(chunk.id) ? null : await this.#fromSlot(chunk);
    if (bytes === null) throw new AppError('chunk-absent', `chunk ${chunk.id} is not here`);
    if (isOf(chunk, bytes)) return bytes;
    this.#damaged.add(chunk.id);
    throw wrong(chunk);
  }

  /** The step `verify`. @returns the chunks that were not what their names say, and are lacking now */
  async verify(manifest: Pick<Manifest, 'chunks'>, signal?: AbortSignal): Promise<Chunk[]> {
    const bad: Chunk[] = [];
    for (const chunk of distinctChunks(manifest)) {
      signal?.throwIfAborted();
      await this.read(chunk).catch((error: unknown) => {
        if (!(error instanceof AppError)) throw error;
        bad.push(chunk);
      });
    }
    return bad;
  }

  /** The step `clean`. */
  async clean(): Promise<void> {
    this.#fetched = undefined;
    await this.#disk.removeFolder(FETCHED);
    await this.#disk.syncFolder('.');
  }

  async #fromSlot({ id }: Chunk): Promise<Uint8Array | null> {
    const spans = this.#installed?.spansOf(id);
    if (spans === undefined) return null;
    const pieces: Uint8Array[] = [];
    for (const { file, at, bytes } of spans) {
      const piece = await this.#disk.readRange(`${this.#slot}/${file.path}`, at, bytes);
      // A file that is gone or shorter is damage as well.
      pieces.push(piece ?? new Uint8Array(0));
    }
    return Buffer.concat(pieces);
  }

  async #names(): Promise<Set<string>> {
    this.#fetched ??= new Set(
      (await this.#disk.list(FETCHED)).flatMap((name) => /^([0-9a-f]{64})\.zst$/.exec(name)?.[1] ?? []),
    );
    return this.#fetched;
  }
}

function pathOf(id: string): string {
  return `${FETCHED}/${id}.zst`;
}

async function unpacked(chunk: Chunk, stored: Uint8Array): Promise<Uint8Array> {
  if (stored.length !== chunk.storedBytes) throw wrong(chunk);
  const bytes = await decompress(stored, { maxOutputLength: Math.max(1, chunk.sizeBytes) }).catch(() => null);
  if (bytes === null || !isOf(chunk, bytes)) throw wrong(chunk);
  return bytes;
}

function isOf({ id, sizeBytes }: Chunk, bytes: Uint8Array): boolean {
  return bytes.length === sizeBytes && createHash('sha256').update(bytes).digest('hex') === id;
}

function wrong({ id }: Chunk): AppError {
  return new AppError('chunk-wrong', `chunk ${id} is not what its name says`, { remedy: 'It is fetched again' });
}
