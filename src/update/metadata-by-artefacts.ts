import type { MetadataSource } from '../adapters/tuf/metadata-source.js';
import { AppError } from '../core/errors.js';
import { isRepositoryPath } from '../protocol/artefact-piece.js';
import type { Artefacts } from './artefacts.js';

/** A repository's metadata and manifests the way its chunks come: for `TufTrust`, which bounds each file by its role. */
export function metadataByArtefacts(artefacts: Artefacts, mostBytes: number): MetadataSource {
  return {
    read: async (name, signal) => {
      // A root of a version without end is asked for by whoever follows roots: what is no file of a repository is not there.
      if (!isRepositoryPath(name)) return undefined;
      const pieces = artefacts.read(name, { mostBytes, signal });
      try {
        const first = await pieces.next();
        return joined(first, pieces);
      } catch (error) {
        if (error instanceof AppError && error.code === 'artefact-missing') return undefined;
        throw new AppError('trust-unreachable', `${name} did not come`, {
          remedy: 'It is tried again; what is installed stays',
          cause: error,
        });
      }
    },
  };
}

async function* joined(
  first: IteratorResult<Uint8Array, void>,
  rest: AsyncGenerator<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (first.done !== true) {
    yield first.value;
    yield* rest;
  }
}
