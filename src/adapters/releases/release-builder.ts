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
  const chunks: Chunk[] = [];
  const keep = (bytes: Uint8Array): void => {
    const id = createHash('sha256').update(bytes).digest('hex');
    chunks.push({ id, sizeBytes: bytes.length, storedBytes: repository.addChunk(id, bytes) });
  };
  const listed: ReleaseFile[] = [];
  let bytes = 0;
  for (const file of sorted) {
    const hash = createHash('sha256');
    let sizeBytes = 0;
    for (const piece of contentOf(file)) {
      hash.update(piece);
      sizeBytes += piece.length;
      for (const chunk of chunker.push(piece)) keep(chunk);
    }
    bytes += sizeBytes;
    listed.push({ path: file.path, mode: file.mode, sizeBytes, sha256: hash.digest('hex') });
    options.told?.({ files: listed.length, ofFiles: sorted.length, bytes });
  }
  const last = chunker.finish();
  if (last !== undefined) keep(last);
  const { kind, version, architecture, minFrom, requires } = description;
  const manifest: Manifest = {
    ...{ kind, version, architecture },
    requires: { ...requires, freeBytes: listed.reduce((sum, { sizeBytes }) => sum + onDisk(sizeBytes), 0) },
    ...(minFrom === undefined ? {} : { minFrom }),
    ...{ sizeBytes: bytes, hash: contentHash(listed), files: listed, chunks },
  };
  const fault = listed.length === 0 ? 'no files' : manifestFault(manifest);
  if (fault !== undefined) throw new AppError('release-unfit', `this can't be a release: ${fault}`);
  return { manifest, file: await repository.addManifest(manifest) };
}

function onDisk(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BLOCK_BYTES) * BLOCK_BYTES + BLOCK_BYTES / 8;
}
