import { createHash } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { Agent, request } from 'node:https';
import type { Clock } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';

export interface RangeClientOptions {
  /** `https:`, of a folder. */
  readonly baseUrl: string;
  /** PEM of the authority that the server must show; the system's where there is none. */
  readonly ca?: string | Buffer | undefined;
  readonly clock: Clock;
  /** Without a byte for so long a request is given up, ms. */
  readonly idleMs?: number;
}

const IDLE_MS = 15_000;
const MOST_SOCKETS = 8;

/**
 * Ranges of files of a web server (RFC 9110, clause 14), over a few connections that are kept. Redirections are not followed;
 * a server that knows no ranges is one that can't be used.
 */
export class RangeClient {
  readonly name = 'https';
  readonly #options: RangeClientOptions;
  readonly #base: URL;
  readonly #agent: Agent;

  /** @throws AppError `artefact-url-invalid` */
  constructor(options: RangeClientOptions) {
    const { baseUrl, ca } = options;
    const url = baseUrl.endsWith('/') ? baseUrl : `${baseUrl}/`;
    if (!URL.canParse(url) || new URL(url).protocol !== 'https:') {
      throw new AppError('artefact-url-invalid', `${baseUrl.slice(0, 200)} is no https URL`, {
        remedy: 'Name the folder of the repository: https://host/path/',
      });
    }
    this.#options = options;
    this.#base = new URL(url);
    this.#agent = new Agent({ keepAlive: true, maxSockets: MOST_SOCKETS, ...(ca === undefined ? {} : { ca }) });
  }

  /**
   * `data`: as many bytes as were asked for, or as the file has from `offset`; `tag` of its ETag or its date.
   * @returns undefined where there is no such file
   * @throws AppError `artefact-unreachable`, and the signal's reason
   */
  async piece(
    { path, offset, lengthBytes }: { path: string; offset: number; lengthBytes: number },
    signal: AbortSignal,
  ): Promise<{ data: Uint8Array; fileBytes: number; tag: string | null } | undefined> {
    const response = await this.#get(path, offset, lengthBytes, signal);
    const { statusCode = 0, headers } = response;
    if (statusCode === 404 || statusCode === 410) {
      response.destroy();
      return undefined;
    }
    const extent = extentOf(response, offset, lengthBytes);
    if (extent === undefined) {
      response.destroy();
      throw this.#unreachable(`answers with status ${statusCode} and no range that was asked for`);
    }
    if (extent.lengthBytes === 0) response.destroy();
    const data = extent.lengthBytes === 0 ? new Uint8Array(0) : await this.#body(response, extent.lengthBytes, signal);
    const version = headers.etag ?? headers['last-modified'];
    const tag = version === undefined ? null : createHash('sha256').update(version).digest('hex').slice(0, 16);
    return { data, fileBytes: extent.fileBytes, tag };
  }

  /** Connections that are kept are ended. */
  close(): void {
    this.#agent.destroy();
  }

  #get(path: string, offset: number, lengthBytes: number, signal: AbortSignal): Promise<IncomingMessage> {
    const { idleMs = IDLE_MS } = this.#options;
    const headers = { range: `bytes=${offset}-${offset + lengthBytes - 1}`, 'accept-encoding': 'identity' };
    return new Promise((resolve, reject) => {
      const asked = request(new URL(path, this.#base), { agent: this.#agent, headers, signal, timeout: idleMs });
      asked.once('response', resolve);
      asked.once('timeout', () => asked.destroy(new Error(`nothing for ${idleMs / 1_000} s`)));
      asked.once('error', (error) =>
        reject(signal.aborted ? (signal.reason as Error) : this.#unreachable(error.message)),
      );
      asked.end();
    });
  }

  async #body(response: IncomingMessage, lengthBytes: number, signal: AbortSignal): Promise<Uint8Array> {
    const { clock, idleMs = IDLE_MS } = this.#options;
    const data = Buffer.alloc(lengthBytes);
    let at = 0;
    let late = clock.after(idleMs, () => response.destroy());
    try {
      for await (const part of response as AsyncIterable<Buffer>) {
        late.cancel();
        late = clock.after(idleMs, () => response.destroy());
        if (at + part.length > lengthBytes) throw new Error('more than was asked for');
        at += part.copy(data, at);
      }
    } catch (error) {
      signal.throwIfAborted();
      throw this.#unreachable((error as Error).message);
    } finally {
      late.cancel();
      response.destroy();
    }
    if (at < lengthBytes) throw this.#unreachable('ended too early');
    return data;
  }

  #unreachable(what: string): AppError {
    return new AppError('artefact-unreachable', `${this.#base.host}: ${what}`, {
      remedy: 'Files come over MQTT meanwhile',
    });
  }
}

/** What of which file an answer has; undefined where that is not what was asked for. */
function extentOf(
  { statusCode, headers }: IncomingMessage,
  offset: number,
  mostBytes: number,
): { lengthBytes: number; fileBytes: number } | undefined {
  const range = headers['content-range'] ?? '';
  if (statusCode === 206) {
    const [, from, to, of] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(range) ?? [];
    const fileBytes = Number(of);
    const lengthBytes = Number(to) - offset + 1;
    const isAsked = Number(from) === offset && lengthBytes === Math.min(mostBytes, fileBytes - offset);
    return isAsked ? { lengthBytes, fileBytes } : undefined;
  }
  if (statusCode === 416) {
    const [, of] = /^bytes \*\/(\d{1,15})$/.exec(range) ?? [];
    return of !== undefined && Number(of) <= offset ? { lengthBytes: 0, fileBytes: Number(of) } : undefined;
  }
  // The whole file, where that is what was asked for.
  const fileBytes = Number(headers['content-length'] ?? Number.NaN);
  return statusCode === 200 && offset === 0 && fileBytes <= mostBytes
    ? { lengthBytes: fileBytes, fileBytes }
    : undefined;
}
