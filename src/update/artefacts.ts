import type { Clock } from '../core/clock.js';
import type { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import { MOST_PIECE_BYTES } from '../protocol/artefact-piece.js';
import { type Pace, pause } from './pace.js';
import type { PartialFiles } from './partial-files.js';

export interface PieceAsked {
  /** The job that it is for, or another word that may stand in a topic. */
  readonly job: string;
  /** As `isRepositoryPath` takes it. */
  readonly path: string;
  readonly offset: number;
  readonly lengthBytes: number;
}

export interface Piece {
  /** As many bytes as were asked for, or as the file has from there. */
  readonly data: Uint8Array;
  /** Of the whole file. */
  readonly fileBytes: number;
  /** Another when the file is another one; null where that is not told. */
  readonly tag: string | null;
}

/** A way by which pieces come: HTTPS, MQTT. */
export interface PieceTransport {
  readonly name: string;
  /** @returns undefined where there is no such file. @throws AppError `artefact-unreachable` where another way is to be taken */
  piece(asked: PieceAsked, signal: AbortSignal): Promise<Piece | undefined>;
}

export interface ArtefactsOptions {
  /** The one that is wanted first at the head. */
  readonly transports: readonly PieceTransport[];
  readonly job: string;
  readonly pace: Pace;
  readonly partials: PartialFiles | null;
  readonly clock: Clock;
  /** `artefact-…`. */
  readonly refused: Counters<string>;
}

export interface ReadOptions {
  /** A longer file is refused before it is read. */
  readonly mostBytes: number;
  /** Where to go on. */
  readonly offset?: number;
  readonly signal: AbortSignal;
  readonly onProgress?: (bytes: number, ofBytes: number) => void;
}

/** Pieces that are on their way at a time, of all files together. */
export const MOST_IN_FLIGHT = 8;
/** A way that is not open is tried again after so long; twice as long each time, up to the bound. */
const FIRST_REST_MS = 15_000;
const MOST_REST_MS = 600_000;
/** A file that changes while it comes is begun anew so often. */
const MOST_BEGINNINGS = 3;

/**
 * Brings the files of a repository to a station, in pieces of 64 KiB, eight on their way at a time, by the first way that is open:
 *
 *   read() ──▶ [ 8 in flight ] ──pace──▶ HTTPS range, or MQTT where no URL answers ──▶ in order ──▶ whose hash the reader checks
 *
 * Goes on by its offset after any cut; what came of a file before a restart is kept (`PartialFiles`).
 */
export class Artefacts {
  readonly #options: ArtefactsOptions;
  readonly #rests = new Map<PieceTransport, { untilMs: number; restMs: number }>();
  #inFlight = 0;
  readonly #queue: (() => void)[] = [];
  /** Bytes that came, by way. */
  readonly cameBytes = new Map<string, number>();

  constructor(options: ArtefactsOptions) {
    this.#options = options;
  }

  /**
   * The file's bytes, in their order.
   * @throws AppError `artefact-missing`, `artefact-too-large`, `artefact-changed`, `artefact-unreadable`; the signal's reason
   */
  async *read(path: string, { mostBytes, offset = 0, signal, onProgress }: ReadOptions): AsyncGenerator<Uint8Array> {
    const left = new AbortController();
    const both = AbortSignal.any([signal, left.signal]);
    try {
      const first = await this.#ask(path, offset, Math.max(1, Math.min(MOST_PIECE_BYTES, mostBytes - offset)), both);
      if (first === undefined) throw missing(path);
      const { fileBytes } = first.piece;
      if (fileBytes > mostBytes) throw this.#tooLarge(path, fileBytes, mostBytes);
      const bring = async (from: number): Promise<Uint8Array> => {
        const next = await this.#ask(path, from, Math.min(MOST_PIECE_BYTES, fileBytes - from), both);
        if (next === undefined || isAnother(first, next)) throw this.#changed(path);
        return next.piece.data;
      };
      if (offset > fileBytes) throw this.#changed(path);
      let at = offset + first.piece.data.byteLength;
      let asked = at;
      const ahead: Promise<Uint8Array>[] = [];
      let piece: Uint8Array | undefined = first.piece.data;
      while (piece !== undefined) {
        for (; ahead.length < MOST_IN_FLIGHT && asked < fileBytes; asked += MOST_PIECE_BYTES) {
          const one = bring(asked);
          // Told when its turn comes.
          one.catch(() => {});
          ahead.push(one);
        }
        if (piece.byteLength > 0) yield piece;
        onProgress?.(at, fileBytes);
        piece = await ahead.shift();
        at += piece?.byteLength ?? 0;
      }
    } finally {
      left.abort(new AppError('artefact-left', `nobody reads ${path} any more`));
    }
  }

  /** The whole file; what came of it before a restart is not fetched again. @throws AppError as `read` */
  async fetch(path: string, options: Omit<ReadOptions, 'offset'>): Promise<Uint8Array> {
    for (let beginnings = 1; ; beginnings++) {
      try {
        return await this.#fetch(path, options);
      } catch (error) {
        const isChanged = error instanceof AppError && error.code === 'artefact-changed';
        if (!isChanged || beginnings === MOST_BEGINNINGS) throw error;
        await this.#options.partials?.drop(path);
      }
    }
  }

  async #fetch(path: string, options: Omit<ReadOptions, 'offset'>): Promise<Uint8Array> {
    const { partials } = this.#options;
    const before = (await partials?.read(path, options.mostBytes)) ?? new Uint8Array(0);
    const pieces = [before];
    for await (const piece of this.read(path, { ...options, offset: before.byteLength })) {
      pieces.push(piece);
      await partials?.append(path, piece);
    }
    // If it is not what it should be, it is begun anew.
    await partials?.drop(path);
    return Buffer.concat(pieces);
  }

  /** One piece, by whichever way is open, when its turn has come. */
  async #ask(path: string, offset: number, lengthBytes: number, signal: AbortSignal): Promise<Answer | undefined> {
    await this.#enter(signal);
    try {
      const { job, pace } = this.#options;
      await pace.take(lengthBytes, signal);
      for (;;) {
        const transport = await this.#open(signal);
        try {
          const piece = await transport.piece({ job, path, offset, lengthBytes }, signal);
          this.#rests.delete(transport);
          if (piece === undefined) return undefined;
          this.cameBytes.set(transport.name, (this.cameBytes.get(transport.name) ?? 0) + piece.data.byteLength);
          return { piece, by: transport };
        } catch (error) {
          signal.throwIfAborted();
          if (!(error instanceof AppError) || error.code !== 'artefact-unreachable') throw error;
          this.#rest(transport);
        }
      }
    } finally {
      this.#leave();
    }
  }

  /** The first way that does not rest; where all do, the first that has rested. */
  async #open(signal: AbortSignal): Promise<PieceTransport> {
    const { transports, clock } = this.#options;
    for (;;) {
      const nowMs = clock.nowMs();
      const untilMs = (one: PieceTransport): number => this.#rests.get(one)?.untilMs ?? nowMs;
      const open = transports.find((one) => untilMs(one) <= nowMs);
      if (open !== undefined) return open;
      await pause(clock, Math.max(1, Math.min(...transports.map(untilMs)) - nowMs), signal);
    }
  }

  #rest(transport: PieceTransport): void {
    const { clock, refused } = this.#options;
    refused.count(`artefact-unreachable-${transport.name}`);
    const nowMs = clock.nowMs();
    const before = this.#rests.get(transport);
    // Of eight that fail together one counts.
    if (before !== undefined && before.untilMs > nowMs) return;
    const restMs = Math.min(MOST_REST_MS, before === undefined ? FIRST_REST_MS : 2 * before.restMs);
    this.#rests.set(transport, { untilMs: nowMs + restMs, restMs });
  }

  async #enter(signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    if (this.#inFlight < MOST_IN_FLIGHT) {
      this.#inFlight += 1;
      return;
    }
    await new Promise<void>((resolve, reject) => {
      const enter = (): void => {
        signal.removeEventListener('abort', stop);
        resolve();
      };
      const stop = (): void => {
        const at = this.#queue.indexOf(enter);
        if (at >= 0) this.#queue.splice(at, 1);
        reject(signal.reason as Error);
      };
      this.#queue.push(enter);
      signal.addEventListener('abort', stop, { once: true });
    });
  }

  /** Its place goes to who waits longest. */
  #leave(): void {
    const next = this.#queue.shift();
    if (next === undefined) this.#inFlight -= 1;
    else next();
  }

  #tooLarge(path: string, fileBytes: number, mostBytes: number): AppError {
    this.#options.refused.count('artefact-too-large');
    return new AppError('artefact-too-large', `${path} has ${fileBytes} bytes; at most ${mostBytes}`, {
      remedy: 'Whoever serves it is not the repository, or is broken',
    });
  }

  #changed(path: string): AppError {
    this.#options.refused.count('artefact-changed');
    return new AppError('artefact-changed', `${path} was replaced while it came`, { remedy: 'It is fetched anew' });
  }
}

interface Answer {
  readonly piece: Piece;
  readonly by: PieceTransport;
}

/** Two pieces by one way tell by their tags whether they are of one file; by two ways the reader's hash does. */
function isAnother(first: Answer, next: Answer): boolean {
  if (first.piece.fileBytes !== next.piece.fileBytes) return true;
  return first.by === next.by && first.piece.tag !== next.piece.tag;
}

function missing(path: string): AppError {
  return new AppError('artefact-missing', `${path} is not in the repository`, {
    remedy: 'It is not complete: publish it again',
  });
}
