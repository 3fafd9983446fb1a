import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../core/errors.js';
import { type Chunk, chunkFile, type Manifest, releaseFolder } from '../fleet/manifest.js';
import type { FetchChunk } from './updater.js';

/** Chunks of a repository that is a folder of this machine: a stick, a disk. */
export function folderSource(folder: string): FetchChunk {
  return async ({ id, storedBytes }: Chunk) => {
    const file = join(folder, chunkFile(id));
    return bytesOf(file, storedBytes).catch((cause: unknown) => {
      if (cause instanceof AppError) throw cause;
      throw new AppError('chunk-absent', `${file} can't be read (${(cause as NodeJS.ErrnoException).code})`, {
        remedy: 'Copy the whole repository: releases and chunks',
        cause,
      });
    });
  };
}

/** The repository of a release's folder. @param place the folder of its manifest: `…/releases/1.2.3/x64` */
export function repositoryOf(place: string, manifest: Manifest): string {
  const below = `/${releaseFolder(manifest)}`;
  if (!place.endsWith(below)) {
    throw new AppError('usage', `${place} is not where a repository has this release: …${below}`);
  }
  return place.slice(0, -below.length);
}

/** Whoever wrote the stick may have put a device, a pipe, a link to one, or a file without end where a chunk should be. */
async function bytesOf(file: string, sizeBytes: number): Promise<Uint8Array> {
  const opened = await open(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW);
  try {
    const found = await opened.stat();
    if (!found.isFile() || found.size !== sizeBytes) {
      throw new AppError('chunk-wrong', `${file} is no file of ${sizeBytes} bytes`, {
        remedy: 'Copy the repository to it again',
      });
    }
    const bytes = Buffer.alloc(sizeBytes);
    const { bytesRead } = await opened.read(bytes, 0, sizeBytes, 0);
    return bytes.subarray(0, bytesRead);
  } finally {
    await opened.close();
  }
}
