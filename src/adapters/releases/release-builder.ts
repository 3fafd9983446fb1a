import { createHash } from 'node:crypto';
import { AppError } from '../../core/errors.js';
import { CHUNK_SIZES, Chunker, type ChunkSizes } from '../../fleet/chunker.js';
import {
  type Chunk,
  comparePaths,
  contentHash,
  type Manifest,
  manifestFault,
  type ReleaseFile,
  type Requirements,
} from '../../fleet/manifest.js';
import type { ReleaseRepository } from './release-repository.js';
import { contentOf, type TreeFile } from './release-tree.js';

export interface ReleaseDescription extends Pick<Manifest, 'kind' | 'version' | 'architecture' | 'minFrom'> {
  /** Room on the disk is reckoned here. */
  readonly requires: Omit<Requirements, 'freeBytes'>;
}

export interface BuildProgress {
  readonly files: number;
  readonly ofFiles: number;
  readonly bytes: number;
}

/** Chunks that are compressed at the same time: as many as libuv has threads, and some that wait. */
const IN_FLIGHT = 8;
/** A file takes whole blocks on the disk, and its name some. */
const BLOCK_BYTES = 4_096;

/**
 * Builds a release of files into a repository. The same files and description make the same bytes: paths are sorted, rights are two,
 * times and owners are left out.
 *
 *   TreeFile[] ─sorted─▶ one stream ─▶ Chunker ─▶ SHA-256 ─▶ zstd ─▶ chunks/
 *                  └─▶ SHA-256 each ───────────────────────────────▶ manifest.json
 *
 * @throws AppError `release-unfit` for files that no release may have, `not-written`
 */
export async function buildRelease(
  description: ReleaseDescription,
  files: readonly TreeFile[],
  repository: ReleaseRepository,
  options: { told?: (progress: BuildProgress) => void; sizes?: ChunkSizes } = {},
): Promise<{ manifest: Manifest; file: string }> {
  const sorted = files.toSorted((a, b) => comparePaths(a.path, b.path));
  const chunker = new Chunker(options.sizes ?? CHUNK_SIZES);
  const chunks = new ChunkWriter(repository);
  const listed: ReleaseFile[] = [];
  let bytes = 0;
  for (const file of sorted) {
    const hash = createHash('sha256');
    let sizeBytes = 0;
    for (const piece of contentOf(file)) {
      hash.update(piece);
      sizeBytes += piece.length;
      for (const chunk of chunker.push(piece)) await chunks.add(chunk);
    }
    bytes += sizeBytes;
    listed.push({ path: file.path, mode: file.mode, sizeBytes, sha256: hash.digest('hex') });
    options.told?.({ files: listed.length, ofFiles: sorted.length, bytes });
  }
  const last = chunker.finish();
  if (last !== undefined) await chunks.add(last);
  const { kind, version, architecture, minFrom, requires } = description;
  const manifest: Manifest = {
    ...{ kind, version, architecture },
    requires: { ...requires, freeBytes: listed.reduce((sum, { sizeBytes }) => sum + onDisk(sizeBytes), 0) },
    ...(minFrom === undefined ? {} : { minFrom }),
    ...{ sizeBytes: bytes, hash: contentHash(listed), files: listed, chunks: await chunks.all() },
  };
  const fault = listed.length === 0 ? 'no files' : manifestFault(manifest);
  if (fault !== undefined) throw new AppError('release-unfit', `this can't be a release: ${fault}`);
  return { manifest, file: await repository.addManifest(manifest) };
}

/** Stores chunks, some at a time, and keeps their order. */
class ChunkWriter {
  readonly #repository: ReleaseRepository;
  readonly #order: { readonly id: string; readonly sizeBytes: number }[] = [];
  readonly #stored = new Map<string, number>();
  readonly #pending = new Map<string, Promise<void>>();

  constructor(repository: ReleaseRepository) {
    this.#repository = repository;
  }

  async add(bytes: Uint8Array): Promise<void> {
    const id = createHash('sha256').update(bytes).digest('hex');
    this.#order.push({ id, sizeBytes: bytes.length });
    if (this.#stored.has(id) || this.#pending.has(id)) return;
    while (this.#pending.size >= IN_FLIGHT) await Promise.race(this.#pending.values());
    const work = this.#repository.addChunk(id, bytes).then((storedBytes) => {
      this.#stored.set(id, storedBytes);
      this.#pending.delete(id);
    });
    // Whoever waits hears of a failure; this keeps one that nobody waits for yet from ending the process.
    work.catch(() => {});
    this.#pending.set(id, work);
  }

  async all(): Promise<Chunk[]> {
    await Promise.all(this.#pending.values());
    return this.#order.map(({ id, sizeBytes }) => ({ id, sizeBytes, storedBytes: this.#stored.get(id) ?? 0 }));
  }
}

function onDisk(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES + BLOCK_BYTES / 8;
}
