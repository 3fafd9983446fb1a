import { createHash } from 'node:crypto';
import type { SlotsOnDisk } from '../adapters/slots/slot-store.js';
import { AppError } from '../core/errors.js';
import { Chunker } from '../fleet/chunker.js';
import { type Chunk, comparePaths, contentHash, type Manifest, type ReleaseKind } from '../fleet/manifest.js';
import { SEED_VERSION } from '../fleet/slots.js';
import { writeManifest } from '../protocol/release-manifest.js';

/** A file of what ran before the first release. */
export interface SeedFile {
  /** Relative, by `/`. */
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** Of what ran here: nobody has signed it, and it is never sent. */
export interface Seed {
  readonly manifest: Manifest;
  readonly text: Uint8Array;
  readonly readChunk: (chunk: Chunk) => Promise<Uint8Array>;
}

/** Tells it from a release of the same content: that one is installed, and confirmed, all the same. */
const MARK: SeedFile = {
  path: 'seed',
  bytes: Buffer.from('What ran here before the first release of this kind.\n'),
};

/** What ran before the first release of a kind, as a release that a slot may hold. */
export function seedOf(kind: ReleaseKind, before: readonly SeedFile[]): Seed {
  const sorted = [...before, MARK].sort((one, other) => comparePaths(one.path, other.path));
  const files = sorted.map(({ path, bytes }) => {
    return { path, mode: 0o644, sizeBytes: bytes.length, sha256: sha256(bytes) } as const;
  });
  const content = Buffer.concat(sorted.map(({ bytes }) => bytes));
  const chunker = new Chunker();
  const cut = chunker.push(content);
  const last = chunker.finish();
  if (last !== undefined) cut.push(last);
  const byId = new Map(cut.map((bytes) => [sha256(bytes), bytes]));
  const manifest: Manifest = {
    ...{ kind, version: SEED_VERSION, architecture: 'any', requires: { boards: [], freeBytes: content.length } },
    ...{ sizeBytes: content.length, hash: contentHash(files), files },
    chunks: cut.map((bytes) => ({ id: sha256(bytes), sizeBytes: bytes.length, storedBytes: bytes.length })),
  };
  return {
    manifest,
    text: writeManifest(manifest),
    readChunk: async ({ id }) => {
      const bytes = byId.get(id);
      if (bytes === undefined) throw new AppError('chunk-absent', `chunk ${id} is not of the seed`);
      return bytes;
    },
  };
}

/** Whether no release of the kind stays here yet: what runs is what always did. */
export function hasSeedAlone({ current, manifests }: Pick<SlotsOnDisk, 'current' | 'manifests'>): boolean {
  return (manifests[current]?.version ?? SEED_VERSION) === SEED_VERSION;
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
