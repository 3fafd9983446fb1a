import { BaseFetcher } from 'tuf-js';
import { DownloadHTTPError } from 'tuf-js/dist/error.js';
import type { Clock } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import type { MetadataSource } from './metadata-source.js';
import { MOST_BYTES, type Role } from './roles.js';

/** What tuf-js puts before the names; never asked for. */
export const METADATA_URL = 'entryphone:///metadata/';

/** Thrown in the place of `timestamp.json` where the chain of roots alone is wanted. */
export const ROOTS_ARE_DONE = new Error('roots are done');

/**
 * Hands tuf-js the metadata of a source: no more of each file than its role may have, within `mostMs`, in memory. The
 * library's own fetcher goes by temporary files, and lets a stream that never ends run on.
 */
export class BoundedFetcher extends BaseFetcher {
  /** The last fetch that failed: tuf-js makes a text of it. */
  fault: AppError | undefined;
  isRootsOnly = true;
  readonly #source: MetadataSource;
  readonly #clock: Clock;
  readonly #mostMs: number;
  readonly #missing = new Set<string>();

  constructor(options: { source: MetadataSource; clock: Clock; mostMs: number }) {
    super();
    this.#source = options.source;
    this.#clock = options.clock;
    this.#mostMs = options.mostMs;
  }

  override async downloadBytes(url: string, maxLength: number): Promise<Buffer> {
    const name = decodeURIComponent(url.slice(METADATA_URL.length));
    if (this.isRootsOnly && name === 'timestamp.json') throw ROOTS_ARE_DONE;
    const role = roleOf(name);
    const mostBytes = Math.min(maxLength, MOST_BYTES[role]);
    let bytes: Buffer | undefined;
    try {
      if (!this.#missing.has(name)) bytes = await this.read(`metadata/${name}`, mostBytes);
    } catch (error) {
      if (error instanceof AppError) this.fault = error;
      throw error;
    }
    if (bytes !== undefined) return bytes;
    this.#missing.add(name);
    // What ends the chain of roots is no fault (TUF 1.0.34, clause 5.3.3).
    const fault = missing(name);
    if (role !== 'root') this.fault = fault;
    throw new DownloadHTTPError(fault.message, 404);
  }

  /**
   * One file of the repository, whole. @returns undefined where there is none
   * @throws AppError `trust-too-large`, `trust-too-slow`, `trust-unreachable`
   */
  async read(name: string, mostBytes: number): Promise<Buffer | undefined> {
    const abort = new AbortController();
    const tooSlow = Promise.withResolvers<never>();
    const timer = this.#clock.after(this.#mostMs, () => {
      tooSlow.reject(
        new AppError('trust-too-slow', `${name} did not come within ${this.#mostMs / 1000} s`, {
          remedy: 'It is tried again; what is installed stays',
        }),
      );
    });
    try {
      return await Promise.race([this.#pieces(name, mostBytes, abort.signal), tooSlow.promise]);
    } finally {
      timer.cancel();
      abort.abort();
    }
  }

  async #pieces(name: string, mostBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
    const pieces: Uint8Array[] = [];
    let bytes = 0;
    const stream = await this.#source.read(name, signal);
    if (stream === undefined) return undefined;
    for await (const piece of stream) {
      bytes += piece.length;
      if (signal.aborted) break;
      if (bytes > mostBytes) {
        throw new AppError('trust-too-large', `${name} is longer than the ${mostBytes} bytes that it may have`, {
          remedy: 'Whoever serves it is not the repository, or is broken',
        });
      }
      pieces.push(piece);
    }
    return Buffer.concat(pieces);
  }

  /** Of `BaseFetcher`; nothing here goes by it. */
  override fetch(): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
    return Promise.reject(new AppError('trust-refused', 'Files are fetched whole'));
  }

  override downloadFile<T>(): Promise<T> {
    return Promise.reject(new AppError('trust-refused', 'Files are fetched whole'));
  }
}

export function missing(name: string): AppError {
  return new AppError('trust-missing', `${name} is not in the repository`, {
    remedy: 'It is not complete: publish it again',
  });
}

/** `3.snapshot.json` → snapshot. Of a role that we do not have as little is read as of any. */
function roleOf(name: string): Role {
  const role = /^(?:\d+\.)?([a-z]+)\.json$/.exec(name)?.[1] ?? '';
  return Object.hasOwn(MOST_BYTES, role) ? (role as Role) : 'timestamp';
}
