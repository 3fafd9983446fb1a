import { distinctChunks, type Manifest } from './manifest.js';

/** What a station that has one release has to be sent to have the other. */
export interface ReleaseDiff {
  /** Chunks that are sent, as they are sent. */
  readonly chunks: number;
  readonly chunkBytes: number;
  /** With the new manifest, as it is sent. */
  readonly bytes: number;
  /** All chunks of the new release and its manifest: what a station without any release is sent. */
  readonly wholeBytes: number;
  /** `bytes` in % of `wholeBytes`. */
  readonly deltaPct: number;
  readonly added: readonly string[];
  readonly removed: readonly string[];
  readonly changed: readonly string[];
}

/** @param manifestBytes the new manifest as it is sent: compressed */
export function diffReleases(from: Manifest, to: Manifest, manifestBytes: number): ReleaseDiff {
  const there = new Set(from.chunks.map((chunk) => chunk.id));
  const all = distinctChunks(to);
  const lacking = all.filter((chunk) => !there.has(chunk.id));
  const chunkBytes = storedBytesOf(lacking);
  const bytes = chunkBytes + manifestBytes;
  const wholeBytes = storedBytesOf(all) + manifestBytes;
  const before = new Map(from.files.map((file) => [file.path, file]));
  const after = new Map(to.files.map((file) => [file.path, file]));
  const isChanged = (path: string) => {
    const [old, now] = [before.get(path), after.get(path)];
    return old !== undefined && now !== undefined && (old.sha256 !== now.sha256 || old.mode !== now.mode);
  };
  return {
    chunks: lacking.length,
    chunkBytes,
    bytes,
    wholeBytes,
    deltaPct: Math.round((bytes / wholeBytes) * 10_000) / 100,
    added: [...after.keys()].filter((path) => !before.has(path)),
    removed: [...before.keys()].filter((path) => !after.has(path)),
    changed: [...after.keys()].filter(isChanged),
  };
}

export function storedBytesOf(chunks: readonly { readonly storedBytes: number }[]): number {
  return chunks.reduce((sum, chunk) => sum + chunk.storedBytes, 0);
}
