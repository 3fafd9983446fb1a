import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';

/** A release of a kind of its own that is to be used here: what `current` of the kind's slots names. */
export interface ReleaseSlot {
  readonly slot: 'a' | 'b';
  /** Absolute, as the folder of the slots is. */
  readonly folder: string;
  /** Null where the slot is not whole. */
  readonly release: { readonly version: string; readonly files: ReadonlyMap<string, string> } | null;
}

/** As much of a manifest (`fleet/manifest.ts`) as who reads the files needs. */
const manifestSchema = z.object({
  kind: z.string(),
  version: z.string().max(64),
  files: z.array(z.object({ path: z.string(), sha256: z.string() })),
});
/** That of 1 GiB of models in chunks as they are cut, 170 bytes a line: what is installed is read, too. */
const MOST_MANIFEST_BYTES = 4_194_304;

/**
 * Which release of a kind the station's processes are to use, as each finds out for itself when it starts.
 * @param slots the folder of the station's slots (`update.slots`)
 * @returns null where no release of that kind was installed here. Never throws
 */
export function currentRelease(slots: string, kind: 'config' | 'models'): ReleaseSlot | null {
  const slot = linkOf(join(slots, kind, 'current'));
  if (slot === null) return null;
  const folder = join(slots, kind, slot);
  try {
    const manifest = manifestSchema.parse(JSON.parse(readWithin(join(folder, 'manifest.json'), MOST_MANIFEST_BYTES)));
    if (manifest.kind !== kind) return { slot, folder, release: null };
    const files = new Map(manifest.files.map(({ path, sha256 }) => [path, sha256]));
    return { slot, folder, release: { version: manifest.version, files } };
  } catch {
    return { slot, folder, release: null };
  }
}

/**
 * A file that may be anything.
 * @throws Error with what is wrong, in words: it is no file of its own (a link, a pipe, a device), too long, or can't be read
 */
export function readWithin(file: string, mostBytes: number): string {
  let handle: number;
  try {
    handle = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new Error(code === 'ELOOP' ? 'is a link' : `can't be read (${code ?? 'unknown'})`, { cause });
  }
  try {
    const found = fstatSync(handle);
    if (!found.isFile()) throw new Error('is no file');
    if (found.size > mostBytes) throw new Error(`is ${found.size} bytes; at most ${mostBytes}`);
    return readFileSync(handle, 'utf8');
  } finally {
    closeSync(handle);
  }
}

/** SHA-256 of a text, as manifests tell it. */
export function sha256Of(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

function linkOf(link: string): 'a' | 'b' | null {
  try {
    const target = readlinkSync(link);
    return target === 'a' || target === 'b' ? target : null;
  } catch {
    return null;
  }
}
