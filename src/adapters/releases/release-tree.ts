import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import type { FileMode } from '../../fleet/manifest.js';

/** A file that goes into a release. */
export interface TreeFile {
  /** In the release. */
  readonly path: string;
  readonly mode: FileMode;
  readonly content: { readonly from: string } | { readonly bytes: Uint8Array };
}

const PIECE_BYTES = 1_048_576;

/** Every file below a folder, by its path in there, unsorted. Links are not followed: a release has none. @throws AppError `usage` */
export async function filesBelow(folder: string): Promise<TreeFile[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch((cause) => {
    throw new AppError('usage', `${folder} can't be read (${(cause as NodeJS.ErrnoException).code})`, { cause });
  });
  const files: TreeFile[] = [];
  for (const entry of entries) {
    if (entry.isDirectory()) continue;
    const from = join(entry.parentPath, entry.name);
    const path = from.slice(folder.replace(/\/+$/, '').length + 1);
    if (!entry.isFile()) {
      throw new AppError('usage', `${path} is neither a file nor a folder`, {
        remedy: 'A release has no links and no devices: put a file in its place',
      });
    }
    files.push({ path, mode: modeOf(from), content: { from } });
  }
  return files;
}

/** Whether its owner may run it; all other rights are the release's own. */
export function modeOf(file: string): FileMode {
  return (statSync(file).mode & 0o100) === 0 ? 0o644 : 0o755;
}

/** What a file holds, in pieces of at most 1 MiB, each in memory of its own. Thousands of small files: one call after the other is quickest. */
export function* contentOf(file: TreeFile): Generator<Uint8Array> {
  if ('bytes' in file.content) {
    yield file.content.bytes;
    return;
  }
  const handle = openSync(file.content.from, 'r');
  try {
    for (let left = fstatSync(handle).size; left > 0; ) {
      const piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, left));
      const bytes = readSync(handle, piece);
      if (bytes === 0) return;
      yield piece.subarray(0, bytes);
      left -= bytes;
    }
  } finally {
    closeSync(handle);
  }
}

/** The first bytes of a file, `most` of them or all that there are. */
export function headOf(file: string, most: number): Buffer {
  const handle = openSync(file, 'r');
  try {
    const head = Buffer.alloc(most);
    return head.subarray(0, readSync(handle, head));
  } finally {
    closeSync(handle);
  }
}
