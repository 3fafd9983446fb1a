import { randomBytes } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Clock, Timer } from '../core/clock.js';
import type { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import {
  chunkRequestPath,
  jobOfChunkPath,
  type PieceMessage,
  type PieceRequest,
  readPiece,
} from '../protocol/artefact-piece.js';
import { topic } from '../protocol/topics.js';
import type { Piece, PieceAsked } from './artefacts.js';

export interface MqttPiecesOptions {
  readonly link: Pick<MqttLink, 'publish' | 'onState' | 'state'>;
  readonly site: string;
  readonly station: string;
  readonly clock: Clock;
  /** `piece-…`: what came and was not taken. */
  readonly refused: Counters<string>;
}

/** An answer is waited for so long before it is asked for again; twice as long each time, up to the bound. */
const FIRST_WAIT_MS = 4_000;
const MOST_WAIT_MS = 30_000;
/** A request that a broker held back for longer is no longer waited for. */
const EXPIRY_S = 20;
/** Ids of answers that came, to tell a second one from a forged one. */
const MOST_DONE = 64;

interface Waiting {
  readonly request: Omit<PieceRequest, 'seq'>;
  readonly job: string;
  readonly done: (piece: Piece | undefined | AppError) => void;
  seq: number;
  waitMs: number;
  timer: Timer | null;
}

/**
 * Pieces of files by MQTT, from the fleet manager that serves the repository. A request is repeated until it is answered, at once
 * when the link is back, or until nobody wants it any more: a station that was away for a day goes on where it was.
 */
export class MqttPieces {
  readonly name = 'mqtt';
  readonly #options: MqttPiecesOptions;
  readonly #waiting = new Map<string, Waiting>();
  readonly #done: string[] = [];

  constructor(options: MqttPiecesOptions) {
    this.#options = options;
    options.link.onState(({ connected }) => {
      if (!connected) return;
      for (const waiting of this.#waiting.values()) {
        waiting.waitMs = FIRST_WAIT_MS;
        this.#ask(waiting);
      }
    });
  }

  /** Requests that are not answered. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * @returns undefined where the repository has no such file
   * @throws AppError `artefact-unreadable`, and the signal's reason
   */
  async piece({ job, path, offset, lengthBytes }: PieceAsked, signal: AbortSignal): Promise<Piece | undefined> {
    signal.throwIfAborted();
    const id = randomBytes(8).toString('hex');
    const { promise, resolve, reject } = Promise.withResolvers<Piece | undefined>();
    const waiting: Waiting = {
      request: { v: 1, id, path, offset, lengthBytes },
      ...{ job, seq: 0, waitMs: FIRST_WAIT_MS, timer: null },
      done: (piece) => (piece instanceof AppError ? reject(piece) : resolve(piece)),
    };
    const stop = (): void => reject(signal.reason as Error);
    signal.addEventListener('abort', stop, { once: true });
    this.#waiting.set(id, waiting);
    this.#ask(waiting);
    try {
      return await promise;
    } finally {
      signal.removeEventListener('abort', stop);
      waiting.timer?.cancel();
      this.#waiting.delete(id);
      this.#done.push(id);
      if (this.#done.length > MOST_DONE) this.#done.shift();
    }
  }

  /** What came at `chunk/{job}` of `down/`. Never throws; what nobody asked for is counted. */
  take(path: string, body: Uint8Array): void {
    const { refused } = this.#options;
    const read = readPiece(body);
    if (!read.ok) {
      refused.count('piece-malformed');
      return;
    }
    const waiting = this.#waiting.get(read.value.id);
    if (waiting === undefined) {
      refused.count(this.#done.includes(read.value.id) ? 'piece-duplicate' : 'piece-unasked');
      return;
    }
    if (waiting.job !== jobOfChunkPath(path) || !answers(read.value, waiting.request)) {
      refused.count('piece-not-as-asked');
      return;
    }
    waiting.done(pieceOf(read.value, waiting.request.path));
  }

  #ask(waiting: Waiting): void {
    const { link, site, station, clock } = this.#options;
    const { request, job } = waiting;
    waiting.timer?.cancel();
    waiting.timer = clock.after(waiting.waitMs, () => {
      waiting.waitMs = Math.min(MOST_WAIT_MS, 2 * waiting.waitMs);
      // Without a link nothing is said: it would be said late, and many times.
      this.#ask(waiting);
    });
    if (!link.state.connected) return;
    const body = JSON.stringify({ ...request, seq: waiting.seq++ } satisfies PieceRequest);
    link
      .publish({
        topic: topic(site, station, 'up', chunkRequestPath(job)),
        body,
        ...{ qos: 1, priority: 'state', expiryS: EXPIRY_S },
      })
      // It is asked for again when its time is up.
      .catch(() => this.#options.refused.count('request-unsent'));
  }
}

/** Whether it is what was asked for: as long as the file allows, from the offset. */
function answers(piece: PieceMessage, { offset, lengthBytes }: Omit<PieceRequest, 'seq'>): boolean {
  if (piece.status !== 'data') return true;
  const length = Math.max(0, Math.min(lengthBytes, piece.fileBytes - offset));
  return piece.offset === offset && piece.data.byteLength === length;
}

function pieceOf({ status, data, fileBytes, tag }: PieceMessage, path: string): Piece | undefined | AppError {
  if (status === 'missing') return undefined;
  if (status === 'data') return { data, fileBytes, tag };
  return new AppError('artefact-unreadable', `the fleet manager can't read ${path}`, {
    remedy: "See the manager's log, and publish the release again",
  });
}
