import { createHash } from 'node:crypto';
import { constants, open } from 'node:fs/promises';
import { join } from 'node:path';
import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import {
  chunkPath,
  jobOfChunkPath,
  type PieceMessage,
  type PieceRequest,
  readPieceRequest,
  writePiece,
} from '../protocol/artefact-piece.js';
import { parseTopic, topic } from '../protocol/topics.js';

export interface PieceServerOptions {
  /** Connected as the fleet manager; nothing else of it hears `chunk-req`. */
  readonly link: Pick<MqttLink, 'publish' | 'subscribe'>;
  /** Whose stations are served; `+` for all of a cloud's broker. */
  readonly site: string;
  /** The published repository. */
  readonly dir: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** What waits of one station, and of all; a request more is dropped, and asked for again by its station. */
const MOST_WAITING_EACH = 16;
const MOST_WAITING = 2_048;
/** Answers on their way to the broker. */
const MOST_SENDING = 4;
const EXPIRY_S = 10;

interface Asked {
  readonly site: string;
  readonly station: string;
  readonly job: string;
  readonly request: PieceRequest;
}

/**
 * Serves stations the files of a repository over MQTT, piece by piece, a piece of each in turn, so that one with a poor line, or one
 * that asks for everything, delays nobody. Keeps no state of a transfer.
 */
export class PieceServer {
  /** `malformed`, `retained`, `too-many`, `missing`, `unreadable`, `unsent`. */
  readonly refused = new Counters<string>();
  readonly #options: PieceServerOptions;
  readonly #warnings: RateLimit;
  /** By station, who has waited longest first. */
  readonly #waiting = new Map<string, Asked[]>();
  #length = 0;
  #sending = 0;
  #pieces = 0;
  #bytes = 0;
  #isClosed = false;

  constructor(options: PieceServerOptions) {
    this.#options = options;
    this.#warnings = new RateLimit({ most: 5, perMs: 10_000, clock: options.clock });
    options.link.subscribe(topic(options.site, '+', 'up', 'chunk-req/+'), (message) => this.#asked(message));
  }

  /** Since the start. */
  figures(): { pieces: number; bytes: number; waiting: number } {
    return { pieces: this.#pieces, bytes: this.#bytes, waiting: this.#length };
  }

  close(): void {
    this.#isClosed = true;
    this.#waiting.clear();
    this.#length = 0;
  }

  #asked(message: LinkMessage): void {
    const address = parseTopic(message.topic);
    const job = jobOfChunkPath(address?.path ?? '');
    const read = readPieceRequest(message.body);
    if (this.#isClosed) return;
    if (address === undefined || job === undefined || !read.ok) {
      this.#refuse('malformed', read.ok ? message.topic : read.fault);
      return;
    }
    // Kept by the broker: nobody waits for it.
    if (message.retained) {
      this.#refuse('retained', message.topic);
      return;
    }
    const { site, station } = address;
    const key = `${site}/${station}`;
    const own = this.#waiting.get(key) ?? [];
    if (own.length >= MOST_WAITING_EACH || this.#length >= MOST_WAITING) {
      this.#refuse('too-many', message.topic);
      return;
    }
    own.push({ site, station, job, request: read.value });
    this.#waiting.set(key, own);
    this.#length += 1;
    this.#pump();
  }

  #pump(): void {
    while (this.#sending < MOST_SENDING) {
      const asked = this.#next();
      if (asked === undefined) return;
      this.#sending += 1;
      void this.#answer(asked).finally(() => {
        this.#sending -= 1;
        this.#pump();
      });
    }
  }

  /** One of the station that waits longest, which then is the last in the row. */
  #next(): Asked | undefined {
    const [first] = this.#waiting;
    if (first === undefined) return undefined;
    const [key, own] = first;
    const asked = own.shift();
    this.#waiting.delete(key);
    if (own.length > 0) this.#waiting.set(key, own);
    this.#length -= 1;
    return asked;
  }

  async #answer({ site, station, job, request }: Asked): Promise<void> {
    const { link, dir } = this.#options;
    const piece = await readPieceOf(dir, request).catch((error: unknown) => {
      this.#refuse('unreadable', errorText(error));
      return { ...none(request), status: 'unreadable' as const };
    });
    if (piece.status === 'missing') this.#refuse('missing', request.path);
    try {
      await link.publish({
        topic: topic(site, station, 'down', chunkPath(job)),
        body: writePiece(piece),
        ...{ qos: 0, priority: 'state', expiryS: EXPIRY_S },
      });
      this.#pieces += 1;
      this.#bytes += piece.data.byteLength;
    } catch (error) {
      this.#refuse('unsent', errorText(error));
    }
  }

  #refuse(fault: string, about: string): void {
    this.refused.count(fault);
    if (this.#warnings.admit() === undefined) return;
    this.#options.logger.warn({ fault, about: about.slice(0, 200) }, 'a request for a piece was not served');
  }
}

function none({ id, seq, offset }: PieceRequest): PieceMessage {
  return { status: 'missing', id, seq, offset, fileBytes: 0, tag: '0'.repeat(16), data: new Uint8Array(0) };
}

/** The path is one of a repository (`isRepositoryPath`); a symbolic link in its place is none. */
async function readPieceOf(dir: string, request: PieceRequest): Promise<PieceMessage> {
  const { id, seq, offset, lengthBytes } = request;
  const file = await open(join(dir, request.path), constants.O_RDONLY | constants.O_NOFOLLOW).catch(
    (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    },
  );
  if (file === undefined) return none(request);
  try {
    const { size, mtimeNs, ino } = await file.stat({ bigint: true });
    const tag = createHash('sha256').update(`${size} ${mtimeNs} ${ino}`).digest('hex').slice(0, 16);
    const fileBytes = Number(size);
    const data = Buffer.alloc(Math.max(0, Math.min(lengthBytes, fileBytes - offset)));
    let at = 0;
    while (at < data.length) {
      const { bytesRead } = await file.read(data, at, data.length - at, offset + at);
      if (bytesRead === 0) throw new Error('the file became shorter');
      at += bytesRead;
    }
    return { status: 'data', id, seq, offset, fileBytes, tag, data };
  } finally {
    await file.close();
  }
}
