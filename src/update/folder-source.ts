import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../core/errors.js';
import { type Chunk, chunkFile, type Manifest, releaseFolder } from '../fleet/manifest.js';
import type { FetchChunk } from './updater.js';

/** Chunks of a repository that is a folder of this machine: a stick, a disk. */
export function folderSource(folder: string): FetchChunk {
  return async ({ id }: Chunk) => {
    const file = join(folder, chunkFile(id));
    return readFile(file).catch((cause: unknown) => {
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
