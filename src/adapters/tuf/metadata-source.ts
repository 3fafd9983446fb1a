import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';

/**
 * Where a repository's files come from: a web server, the broker, a stick. Names are relative to the repository:
 * `metadata/2.root.json`, `releases/1.4.0/arm64/manifest.json`.
 */
export interface MetadataSource {
  /**
   * The file's bytes, in pieces; the reader stops when it has had enough, and says so by `signal`.
   * @returns undefined where there is no such file. @throws AppError `trust-unreachable`
   */
  read(name: string, signal: AbortSignal): Promise<AsyncIterable<Uint8Array> | undefined>;
}

/** A repository in a folder: of the lab, of tests, on a stick. */
export function folderSource(dir: string): MetadataSource {
  return {
    read: async (name, signal) => {
      try {
        const file = await open(join(dir, name));
        return file.createReadStream({ signal });
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
        throw new AppError('trust-unreachable', `${name} can't be read`, { cause: error });
      }
    },
  };
}

/** A repository on a web server. `baseUrl` is that of the folder; redirections are not followed. */
export function httpSource(baseUrl: string): MetadataSource {
  const base = new URL(baseUrl.endsWith('/') ? baseUrl : `${baseUrl}/`);
  return {
    read: async (name, signal) => {
      let response: Response;
      try {
        response = await fetch(new URL(name, base), { signal, redirect: 'error' });
      } catch (cause) {
        throw unreachable(`${base.host} can't be reached`, cause);
      }
      if (response.status === 404 || response.status === 403) {
        await response.body?.cancel();
        return undefined;
      }
      if (!response.ok || response.body === null) {
        await response.body?.cancel();
        throw unreachable(`${base.host} answers with status ${response.status}`);
      }
      return response.body;
    },
  };
}

function unreachable(what: string, cause?: unknown): AppError {
  return new AppError('trust-unreachable', what, {
    remedy: 'It is tried again; what is installed stays',
    cause,
  });
}
