import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { writeDurably } from '../../core/durable-file.js';
import { AppError } from '../../core/errors.js';
import {
  type Chunk,
  chunkFile,
  distinctChunks,
  type Manifest,
  MOST_CHUNK_BYTES,
  MOST_ZSTD_OVERHEAD_BYTES,
  releaseFolder,
} from '../../fleet/manifest.js';
import { MOST_MANIFEST_BYTES, readManifest, writeManifest } from '../../protocol/release-manifest.js';

/** 1 % larger than level 12 and three times as quick; the same content and the same zstd make the same bytes. */
const LEVEL = 9;
const MANIFEST_LEVEL = 19;

/**
 * `releases/1.2.3/x64/manifest.json`, the same compressed beside it (`.zst`: what is sent), and `chunks/ab/abcd….zst`.
 * For commands: thousands of small chunks, one call after the other, keep the process; threads would cost more than they give.
 */
export class ReleaseRepository {
  readonly folder: string;
  readonly #level: number;

  constructor(folder: string, options: { level?: number } = {}) {
    this.folder = resolve(folder);
    this.#level = options.level ?? LEVEL;
  }

  /**
   * Opens a release by its folder or its manifest, wherever that stands.
   * @throws AppError `release-absent`, `manifest-invalid`
   */
  static async open(place: string): Promise<{ repository: ReleaseRepository; manifest: Manifest; file: string }> {
    const file = place.endsWith('manifest.json') ? resolve(place) : join(resolve(place), 'manifest.json');
    const manifest = readManifestFile(file);
    const folder = releaseFolder(manifest);
    const repository = new ReleaseRepository(file.slice(0, -`/${folder}/manifest.json`.length));
    if (join(repository.folder, folder, 'manifest.json') !== file) {
      throw new AppError('manifest-invalid', `${file} is the manifest of ${folder}`, {
        remedy: `A repository keeps it in ${folder}: was the folder renamed?`,
      });
    }
    return { repository, manifest, file };
  }

  /** Keeps a chunk, unless it is there already and whole. @returns its size as it is stored, in bytes */
  addChunk(id: string, bytes: Uint8Array): number {
    const file = join(this.folder, chunkFile(id));
    const there = readIfThere(file, MOST_CHUNK_BYTES + MOST_ZSTD_OVERHEAD_BYTES);
    if (there !== undefined && isContent(there, id, bytes.length)) return there.length;
    const stored = compressed(bytes, this.#level);
    this.#place(file, stored);
    return stored.length;
  }

  /** Last of all: a release is there when its manifest is. @returns the manifest's file */
  async addManifest(manifest: Manifest): Promise<string> {
    const file = join(this.folder, releaseFolder(manifest), 'manifest.json');
    const bytes = writeManifest(manifest);
    await writeDurably(`${file}.zst`, compressed(bytes, MANIFEST_LEVEL), 0o644);
    await writeDurably(file, bytes, 0o644);
    return file;
  }

  /**
   * A chunk's content.
   * @throws AppError `chunk-absent`, `chunk-wrong`: it is not what its name says
   */
  async readChunk(chunk: Chunk): Promise<Uint8Array> {
    const file = join(this.folder, chunkFile(chunk.id));
    const remedy = 'Build or publish the release again: whole chunks are kept';
    const stored = readIfThere(file, MOST_CHUNK_BYTES + MOST_ZSTD_OVERHEAD_BYTES);
    if (stored === undefined) throw new AppError('chunk-absent', `chunk ${chunk.id} is missing`, { remedy });
    const bytes = decompressed(stored, chunk.sizeBytes);
    if (bytes === undefined || !hasHash(bytes, chunk.id) || stored.length !== chunk.storedBytes) {
      throw new AppError('chunk-wrong', `chunk ${chunk.id} is damaged`, { remedy });
    }
    return bytes;
  }

  /** The new manifest as it is sent, in bytes. */
  manifestBytes(manifest: Manifest): number {
    return compressed(writeManifest(manifest), MANIFEST_LEVEL).length;
  }

  /**
   * Copies a release into another repository, a web server's or the manager's: what is there stays, the manifest comes last, so that
   * whoever reads it finds every chunk.
   * @returns what was copied
   * @throws AppError `chunk-absent`, `chunk-wrong`: nothing but whole chunks was copied then, and no manifest; `version-taken`: stations
   * may have that version already, so it stays what it was
   */
  async publish(manifest: Manifest, to: ReleaseRepository, told: (done: number, of: number) => void) {
    const taken = readIfThere(join(to.folder, releaseFolder(manifest), 'manifest.json'), MOST_MANIFEST_BYTES);
    if (taken !== undefined && !taken.equals(writeManifest(manifest))) {
      throw new AppError('version-taken', `another release ${releaseFolder(manifest)} is published there`, {
        remedy: 'Build it with another --version',
      });
    }
    const chunks = distinctChunks(manifest);
    let [copied, bytes] = [0, 0];
    for (const [index, chunk] of chunks.entries()) {
      await this.readChunk(chunk);
      const file = join(to.folder, chunkFile(chunk.id));
      const there = readIfThere(file, MOST_CHUNK_BYTES + MOST_ZSTD_OVERHEAD_BYTES);
      const stored = readFileSync(join(this.folder, chunkFile(chunk.id)));
      if (there === undefined || !stored.equals(there)) {
        to.#place(file, stored);
        copied += 1;
        bytes += stored.length;
      }
      told(index + 1, chunks.length);
    }
    return { chunks: copied, bytes, file: await to.addManifest(manifest) };
  }

  /** Whole or not at all for whoever reads; what a power cut leaves of it is found by its hash. */
  #place(file: string, bytes: Uint8Array): void {
    const partial = `${file}.${process.pid}.partial`;
    try {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(partial, bytes, { mode: 0o644 });
      renameSync(partial, file);
    } catch (cause) {
      rmSync(partial, { force: true });
      const { code } = cause as NodeJS.ErrnoException;
      throw new AppError('not-written', `${relative(this.folder, file)} can't be written (${code})`, {
        remedy: `Is the disk of ${this.folder} full, or read-only?`,
        cause,
      });
    }
  }
}

function readManifestFile(file: string): Manifest {
  const bytes = readIfThere(file, MOST_MANIFEST_BYTES + 1);
  if (bytes === undefined) {
    throw new AppError('release-absent', `${file} is not there`, {
      remedy: 'Name the folder of a release: REPOSITORY/releases/VERSION/ARCHITECTURE',
    });
  }
  const read = readManifest(bytes);
  if (read.ok) return read.value;
  throw new AppError('manifest-invalid', `${file}: ${read.why} (${read.fault})`, { remedy: 'Fetch or build it again' });
}

function compressed(bytes: Uint8Array, level: number): Uint8Array {
  return zstdCompressSync(bytes, {
    // With it zstd takes memory for as much and no more: a third of the time.
    pledgedSrcSize: bytes.length,
    params: { [constants.ZSTD_c_compressionLevel]: level },
  });
}

/** @returns undefined for what is no zstd, or unpacks to more or less */
function decompressed(stored: Uint8Array, sizeBytes: number): Uint8Array | undefined {
  try {
    const bytes = zstdDecompressSync(stored, { maxOutputLength: Math.max(1, sizeBytes) });
    return bytes.length === sizeBytes ? bytes : undefined;
  } catch {
    return undefined;
  }
}

function isContent(stored: Uint8Array, id: string, sizeBytes: number): boolean {
  const bytes = decompressed(stored, sizeBytes);
  return bytes !== undefined && hasHash(bytes, id);
}

function hasHash(bytes: Uint8Array, id: string): boolean {
  return createHash('sha256').update(bytes).digest('hex') === id;
}

/** Of a file that is larger than `mostBytes` nothing is read: it is none of ours. */
function readIfThere(file: string, mostBytes: number): Buffer | undefined {
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  if (size === undefined) return undefined;
  return size > mostBytes ? Buffer.alloc(0) : readFileSync(file);
}
