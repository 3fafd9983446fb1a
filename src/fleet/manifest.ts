import { createHash } from 'node:crypto';

/**
 * What a release is made of.
 *
 * The contents of its files, one after the other in the order of their paths, are one stream. The stream is cut into chunks where
 * its content says so (`chunker.ts`), so that a change moves the chunks around it and no others.
 *
 *   files    │ LICENSE │ device/… │ dist/src/bin/media.js │ … │ node_modules/… │
 *   chunks   │     c1      │   c2   │     c3      │  c4  │    …          │  cN  │
 *
 * A station that runs release A and wants B has the chunks that both share in the files of its slot, at the offsets that A's
 * manifest tells: it fetches the others alone. What is signed is the manifest: its SHA-256 covers every file and chunk.
 */
export interface Manifest {
  readonly kind: ReleaseKind;
  readonly version: string;
  /** `any` where nothing in it is a program of a machine; never for firmware. */
  readonly architecture: Architecture;
  readonly requires: Requirements;
  /** The least version of the same kind that may be updated from; undefined: any. */
  readonly minFrom?: string;
  /** Of all files together, and of all chunks together. */
  readonly sizeBytes: number;
  /** `contentHash` of the files: the release's identity, however it was cut and compressed. */
  readonly hash: string;
  /** In the order of their paths. */
  readonly files: readonly ReleaseFile[];
  /** In the order of the stream; the same one may come again. */
  readonly chunks: readonly Chunk[];
}

export const RELEASE_KINDS = ['firmware', 'flows', 'config', 'models'] as const;
export type ReleaseKind = (typeof RELEASE_KINDS)[number];

export const ARCHITECTURES = ['x64', 'arm64', 'any'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

/** What a station must have. */
export interface Requirements {
  /** Names of board profiles; none: any board. */
  readonly boards: readonly string[];
  /** The least version of the firmware, for flows, configuration and models. */
  readonly firmware?: string;
  /** `process.versions.modules` that its native modules were built for; a firmware brings a Node.js of that itself. */
  readonly nodeAbi?: number;
  /** Room on the disk that it takes while it is installed, in bytes, besides what is fetched. */
  readonly freeBytes: number;
}

export interface ReleaseFile {
  /** Relative, by `/`. */
  readonly path: string;
  readonly mode: FileMode;
  readonly sizeBytes: number;
  /** SHA-256, hexadecimal, lower case. */
  readonly sha256: string;
}

/** A program or not: a release has no links, no other rights and no owners. */
export type FileMode = 0o644 | 0o755;

export interface Chunk {
  /** SHA-256 of its content, uncompressed: its name. */
  readonly id: string;
  readonly sizeBytes: number;
  /** As it is stored and sent, compressed by zstd. */
  readonly storedBytes: number;
}

/** Bounds of a manifest that is taken, wherever it comes from. */
export const MOST_FILES = 50_000;
export const MOST_CHUNKS = 65_536;
export const MOST_RELEASE_BYTES = 1_073_741_824;
export const MOST_CHUNK_BYTES = 1_048_576;
export const MOST_PATH_BYTES = 512;
/** zstd's own bound for content that can't be compressed (`ZSTD_COMPRESSBOUND`), rounded up. */
export const MOST_ZSTD_OVERHEAD_BYTES = 8_192;

/**
 * What flows and configuration defaults come to at most: who signs them has less power than who signs programs, and fills no disk. Flows
 * of Node-RED have 5 MB, defaults 64 KiB.
 */
const MOST_OF_KIND: Readonly<Partial<Record<ReleaseKind, { readonly bytes: number; readonly parts: number }>>> = {
  flows: { bytes: 16_777_216, parts: 1_024 },
  config: { bytes: 1_048_576, parts: 64 },
};

/** The folder of a release in a repository; also the start of its path as a target of TUF, which is how roles are delegated. */
export function releaseFolder(release: Pick<Manifest, 'kind' | 'version' | 'architecture'>): string {
  const kind = release.kind === 'firmware' ? 'releases' : release.kind;
  return `${kind}/${release.version}/${release.architecture}`;
}

/** The file of a chunk in a repository. */
export function chunkFile(id: string): string {
  return `chunks/${id.slice(0, 2)}/${id}.zst`;
}

/** SHA-256 over the files' paths, modes, sizes and hashes: a line each, as `sha256sum` has them, with mode and size. */
export function contentHash(files: readonly ReleaseFile[]): string {
  const hash = createHash('sha256');
  for (const { path, mode, sizeBytes, sha256 } of files) {
    hash.update(`${sha256} ${mode.toString(8)} ${sizeBytes} ${path}\n`);
  }
  return hash.digest('hex');
}

/** Paths in the order of their UTF-16 code units: the same on every machine, whatever its language. */
export function comparePaths(a: string, b: string): number {
  return a === b ? 0 : a < b ? -1 : 1;
}

/** Why `path` may not be one of a release; undefined where it may. What passes leads to a place below the release's folder. */
export function pathFault(path: string): string | undefined {
  if (path === '') return 'empty path';
  if (Buffer.byteLength(path) > MOST_PATH_BYTES) return `path of more than ${MOST_PATH_BYTES} bytes`;
  if (path.startsWith('/')) return 'absolute path';
  // A Windows path, a control character that forges a line of a log, a half of a surrogate pair that no file system keeps.
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\\\u0000-\u001f\u007f]/.test(path) || !path.isWellFormed())
    return 'path with a backslash or a control character';
  const parts = path.split('/');
  if (parts.some((part) => part === '..' || part === '.')) return 'path that leads out or nowhere';
  if (parts.some((part) => part === '')) return 'path with an empty part';
  if (parts.some((part) => Buffer.byteLength(part) > 255)) return 'name of more than 255 bytes';
  return undefined;
}

/**
 * What is wrong with a manifest as a whole, where each of its fields is well formed: that it says one thing twice, or two things
 * that can't both be.
 */
export function manifestFault(manifest: Manifest): string | undefined {
  const { kind, architecture, files, chunks, sizeBytes, hash } = manifest;
  if (kind === 'firmware' && architecture === 'any') return 'firmware of any architecture';
  const most = MOST_OF_KIND[kind];
  if (most !== undefined && sizeBytes > most.bytes) return `${kind} of ${sizeBytes} bytes; at most ${most.bytes}`;
  const parts = Math.max(files.length, chunks.length);
  if (most !== undefined && parts > most.parts) return `${kind} of ${parts} files or chunks; at most ${most.parts}`;
  const folders = new Set<string>();
  let before = '';
  let filesBytes = 0;
  for (const { path, sizeBytes: fileBytes } of files) {
    const fault = pathFault(path);
    if (fault !== undefined) return fault;
    if (path === before) return `duplicate path ${path}`;
    if (before !== '' && comparePaths(before, path) > 0) return `path out of order: ${path}`;
    before = path;
    filesBytes += fileBytes;
    for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
      const folder = path.slice(0, at);
      if (folders.has(folder)) break;
      folders.add(folder);
    }
  }
  const both = files.find(({ path }) => folders.has(path));
  if (both !== undefined) return `${both.path} is a file and a folder`;
  if (filesBytes !== sizeBytes) return `files of ${filesBytes} bytes in a release of ${sizeBytes}`;
  const chunksBytes = chunks.reduce((sum, chunk) => sum + chunk.sizeBytes, 0);
  if (chunksBytes !== sizeBytes) return `chunks of ${chunksBytes} bytes in a release of ${sizeBytes}`;
  const sizes = new Map<string, Chunk>();
  for (const chunk of chunks) {
    if (chunk.storedBytes > chunk.sizeBytes + MOST_ZSTD_OVERHEAD_BYTES) {
      return `chunk ${chunk.id} of ${chunk.sizeBytes} bytes that is stored in ${chunk.storedBytes}`;
    }
    const other = sizes.get(chunk.id) ?? chunk;
    if (other.sizeBytes !== chunk.sizeBytes || other.storedBytes !== chunk.storedBytes) {
      return `chunk ${chunk.id} of two sizes`;
    }
    sizes.set(chunk.id, chunk);
  }
  if (contentHash(files) !== hash) return 'hash that is not that of the files';
  return undefined;
}

/** Each chunk once, in the order of its first place. */
export function distinctChunks(manifest: Pick<Manifest, 'chunks'>): Chunk[] {
  return [...new Map(manifest.chunks.map((chunk) => [chunk.id, chunk])).values()];
}
