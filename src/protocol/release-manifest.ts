import * as z from 'zod';
import {
  ARCHITECTURES,
  type FileMode,
  type Manifest,
  MOST_CHUNK_BYTES,
  MOST_CHUNKS,
  MOST_FILES,
  MOST_PATH_BYTES,
  MOST_RELEASE_BYTES,
  MOST_ZSTD_OVERHEAD_BYTES,
  manifestFault,
  RELEASE_KINDS,
} from '../fleet/manifest.js';
import { isVersion } from '../fleet/version.js';
import { parseJson } from './call-message.js';

/** A manifest as a file: `manifest.json` of a release's folder, the target that TUF signs. What it means: `fleet/manifest.ts`. */
const MODES: Readonly<Record<'644' | '755', FileMode>> = { 644: 0o644, 755: 0o755 };

const version = z.string().refine(isVersion, 'no version such as 1.2.3');
const sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'no SHA-256');
const bytes = z.int().min(0).max(MOST_RELEASE_BYTES);

const manifestSchema = z.object({
  v: z.literal(1),
  kind: z.enum(RELEASE_KINDS),
  version,
  architecture: z.enum(ARCHITECTURES),
  requires: z.object({
    boards: z.array(z.string().regex(/^[a-z0-9-]{1,64}$/)).max(64),
    firmware: version.optional(),
    nodeAbi: z.int().min(1).max(10_000).optional(),
    freeBytes: z
      .int()
      .min(0)
      .max(4 * MOST_RELEASE_BYTES),
  }),
  minFrom: version.optional(),
  sizeBytes: bytes,
  hash: sha256,
  files: z
    .array(z.object({ path: z.string().max(MOST_PATH_BYTES), mode: z.enum(['644', '755']), sizeBytes: bytes, sha256 }))
    .min(1)
    .max(MOST_FILES),
  chunks: z
    .array(
      z.object({
        id: sha256,
        sizeBytes: z.int().min(1).max(MOST_CHUNK_BYTES),
        storedBytes: z
          .int()
          .min(1)
          .max(MOST_CHUNK_BYTES + MOST_ZSTD_OVERHEAD_BYTES),
      }),
    )
    .max(MOST_CHUNKS),
});

/** A manifest of more bytes is refused unread. */
export const MOST_MANIFEST_BYTES = 16_777_216;

export type ManifestFault = 'oversized' | 'not-json' | 'malformed' | 'inconsistent';
export type ReadManifest =
  | { readonly ok: true; readonly value: Manifest }
  | { readonly ok: false; readonly fault: ManifestFault; readonly why: string };

/** Reads `manifest.json`, whoever wrote it. Never throws; `why` names the place and is short. */
export function readManifest(body: Uint8Array): ReadManifest {
  if (body.byteLength > MOST_MANIFEST_BYTES) {
    return { ok: false, fault: 'oversized', why: `${body.byteLength} bytes; at most ${MOST_MANIFEST_BYTES}` };
  }
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body));
  } catch {
    return { ok: false, fault: 'not-json', why: 'not JSON, or not the whole of it' };
  }
  const parsed = parseJson(manifestSchema, json);
  if (!parsed.ok) return { ok: false, fault: 'malformed', why: shortened(parsed.fault) };
  const { v: _, files, minFrom, requires, ...rest } = parsed.value;
  const { firmware, nodeAbi, ...others } = requires;
  const manifest: Manifest = {
    ...rest,
    ...(minFrom === undefined ? {} : { minFrom }),
    requires: {
      ...others,
      ...(firmware === undefined ? {} : { firmware }),
      ...(nodeAbi === undefined ? {} : { nodeAbi }),
    },
    files: files.map((file) => ({ ...file, mode: MODES[file.mode] })),
  };
  const fault = manifestFault(manifest);
  return fault === undefined
    ? { ok: true, value: manifest }
    : { ok: false, fault: 'inconsistent', why: shortened(fault) };
}

/** As `readManifest` reads it: a line for each file and chunk; the same manifest is the same bytes. */
export function writeManifest(manifest: Manifest): Uint8Array {
  const { kind, version, architecture, requires, minFrom, sizeBytes, hash, files, chunks } = manifest;
  const { boards, firmware, nodeAbi, freeBytes } = requires;
  const head = JSON.stringify({
    ...{ v: 1, kind, version, architecture, requires: { boards, firmware, nodeAbi, freeBytes } },
    ...{ minFrom, sizeBytes, hash },
  });
  const lines = (list: readonly object[]) =>
    list.length === 0 ? '' : `\n${list.map((one) => JSON.stringify(one)).join(',\n')}\n`;
  const fileLines = files.map(({ path, mode, sizeBytes, sha256 }) => ({
    path,
    mode: mode.toString(8),
    sizeBytes,
    sha256,
  }));
  const chunkLines = chunks.map(({ id, sizeBytes, storedBytes }) => ({ id, sizeBytes, storedBytes }));
  return Buffer.from(`${head.slice(0, -1)},\n"files":[${lines(fileLines)}],\n"chunks":[${lines(chunkLines)}]}\n`);
}

function shortened(text: string): string {
  return text.slice(0, 200);
}
