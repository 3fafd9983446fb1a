import { createHash } from 'node:crypto';
import { errorText } from '../../core/errors.js';
import { distinctChunks, type Manifest } from '../../fleet/manifest.js';
import { filePieces } from '../../fleet/release-stream.js';
import type { ReleaseRepository } from './release-repository.js';

const MOST_FAULTS = 20;

/**
 * Checks every chunk and every file of a release against its manifest.
 * @returns what is wrong, in words, 20 of them at most, the first first; none: all is there and as it was built
 */
export async function verifyRelease(
  repository: ReleaseRepository,
  manifest: Manifest,
  told: (done: number, of: number) => void,
): Promise<string[]> {
  const chunks = distinctChunks(manifest);
  const faults: string[] = [];
  for (const [index, chunk] of chunks.entries()) {
    await repository.readChunk(chunk).catch((error) => faults.push(errorText(error)));
    if (faults.length >= MOST_FAULTS) return faults;
    told(index + 1, chunks.length);
  }
  // Files that lack a chunk can't be told from others that are wrong.
  return faults.length > 0 ? faults : fileFaults(repository, manifest);
}

async function fileFaults(repository: ReleaseRepository, manifest: Manifest): Promise<string[]> {
  const faults: string[] = [];
  let hash = createHash('sha256');
  for await (const { file, bytes, isLast } of filePieces(manifest, (chunk) => repository.readChunk(chunk))) {
    hash.update(bytes);
    if (!isLast) continue;
    if (hash.digest('hex') !== file.sha256) faults.push(`${file.path} is not what the manifest says`);
    if (faults.length >= MOST_FAULTS) return faults;
    hash = createHash('sha256');
  }
  return faults;
}
