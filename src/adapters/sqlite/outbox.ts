import { randomUUID } from 'node:crypto';
import type { DatabaseSync } from 'node:sqlite';
import { type Clock, systemClock } from '../../core/clock.js';
import { AppError, errorText } from '../../core/errors.js';
import { type Logger, silentLogger } from '../../core/logger.js';
import { RateLimit } from '../../core/rate-limit.js';
import { openDatabase } from './open-database.js';

export interface OutboxEntry {
  /** Counts up, never used again; the event's `seq`. */
  readonly seq: number;
  /** Of the event; the same however often it is sent. */
  readonly id: string;
  readonly kind: string;
  /** JSON. */
  readonly body: string;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

/** With its envelope it fits into a message of MQTT, whose body has 64 KiB at most. */
const MOST_BODY_BYTES = 65_024;
/** Of all that waits: clips add up, and a board's disk is a card of a few GB. */
const MOST_BYTES = 32 * 1024 * 1024;
/** With a clip in it. Where bytes are short such go first: calls and the door take next to none. */
const LARGE_BODY_BYTES = 4_096;
const SCHEMA = [
  `CREATE TABLE IF NOT EXISTS event (
      seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, at_ms INTEGER NOT NULL
    ) STRICT`,
  'SELECT seq, id, kind, body, at_ms FROM event LIMIT 1',
];
const KIND = /^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/;

/**
 * Events that must reach the broker, kept on disk until it has acknowledged them; a power cut loses none that `add` took.
 * Bounded: the oldest goes, of clips first, and is counted. A file that is not ours, or damaged, is set aside under another name.
 */
export class Outbox {
  readonly #db: DatabaseSync;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #mostEntries: number;
  readonly #mostBytes: number;
  readonly #rate: RateLimit;
  #waiting: number;
  /** Of their bodies. */
  #waitingBytes: number;
  #dropped = 0;
  #closed = false;
  /** Where a damaged file went to; null where there was none. */
  readonly setAside: string | null;

  /** @throws AppError `outbox-unusable` where the folder can't be written */
  constructor(options: { path: string; mostEntries: number; mostBytes?: number; clock?: Clock; logger?: Logger }) {
    this.#clock = options.clock ?? systemClock;
    this.#logger = options.logger ?? silentLogger;
    this.#mostEntries = options.mostEntries;
    this.#mostBytes = options.mostBytes ?? MOST_BYTES;
    this.#rate = new RateLimit({ most: 3, perMs: 60_000, clock: this.#clock });
    let setAside: string | null = null;
    try {
      const opened = openDatabase({ path: options.path, schema: SCHEMA, clock: this.#clock, logger: this.#logger });
      this.#db = opened.db;
      setAside = opened.setAside;
    } catch (error) {
      throw new AppError('outbox-unusable', `The outbox ${options.path} can't be used: ${errorText(error)}`, {
        remedy: 'Check that its folder can be written and that the disk is not full.',
        cause: error,
      });
    }
    this.setAside = setAside;
    const found = this.#db.prepare('SELECT count(*) AS n, sum(length(CAST(body AS BLOB))) AS size FROM event').get();
    this.#waiting = Number(found?.n ?? 0);
    this.#waitingBytes = Number(found?.size ?? 0);
  }

  /**
   * Keeps an event; on disk when this returns. A disk that fails costs the event, counted as dropped, never the caller.
   * @param kind as in the topic `up/evt/{kind}`
   * @param body JSON of at most 63.5 KiB
   * @returns the event's id; null where the disk failed
   * @throws AppError `bad-event` for a kind or a body that no topic could carry
   */
  add(kind: string, body: object): string | null {
    const text = JSON.stringify(body);
    const sizeBytes = Buffer.byteLength(text);
    if (!KIND.test(kind) || sizeBytes > MOST_BODY_BYTES) {
      throw new AppError('bad-event', `Not an event: kind "${kind.slice(0, 64)}", ${sizeBytes} bytes`);
    }
    const id = randomUUID();
    try {
      this.#db
        .prepare('INSERT INTO event (id, kind, body, at_ms) VALUES (?, ?, ?, ?)')
        .run(id, kind, text, Math.round(this.#clock.wallMs()));
      this.#waiting += 1;
      this.#waitingBytes += sizeBytes;
      this.#makeRoom();
      return id;
    } catch (error) {
      this.#dropped += 1;
      this.#failed(error);
      return null;
    }
  }

  /** The oldest `most` entries; they stay until `done`. Empty where the disk fails. */
  next(most: number): OutboxEntry[] {
    try {
      const rows = this.#db.prepare('SELECT seq, id, kind, body, at_ms FROM event ORDER BY seq LIMIT ?').all(most);
      return rows.map((row) => ({
        seq: Number(row.seq),
        id: String(row.id),
        kind: String(row.kind),
        body: String(row.body),
        atMs: Number(row.at_ms),
      }));
    } catch (error) {
      this.#failed(error);
      return [];
    }
  }

  /** Removes what was acknowledged. */
  done(seqs: readonly number[]): void {
    try {
      this.#remove(seqs);
    } catch (error) {
      this.#failed(error);
    }
  }

  figures(): { waiting: number; dropped: number } {
    return { waiting: this.#waiting, dropped: this.#dropped };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#db.close();
  }

  /** The oldest go until the rest is within both bounds; for too many bytes the oldest that are large. */
  #makeRoom(): void {
    const tooMany = this.#waiting - this.#mostEntries;
    if (tooMany > 0) {
      const oldest = this.#db.prepare('SELECT seq FROM event ORDER BY seq LIMIT ?').all(tooMany);
      this.#dropped += this.#remove(oldest.map(({ seq }) => Number(seq)));
    }
    while (this.#waitingBytes > this.#mostBytes && this.#waiting > 1) {
      const large = this.#db
        .prepare('SELECT seq FROM event WHERE length(CAST(body AS BLOB)) > ? ORDER BY seq LIMIT 1')
        .all(LARGE_BODY_BYTES);
      const oldest = large.length > 0 ? large : this.#db.prepare('SELECT seq FROM event ORDER BY seq LIMIT 1').all();
      this.#dropped += this.#remove(oldest.map(({ seq }) => Number(seq)));
    }
  }

  /** @returns how many there were */
  #remove(seqs: readonly number[]): number {
    const remove = this.#db.prepare('DELETE FROM event WHERE seq = ? RETURNING length(CAST(body AS BLOB)) AS size');
    let count = 0;
    for (const seq of seqs) {
      const gone = remove.get(seq);
      if (gone === undefined) continue;
      count += 1;
      this.#waiting -= 1;
      this.#waitingBytes -= Number(gone.size);
    }
    return count;
  }

  #failed(error: unknown): void {
    if (this.#rate.admit() !== undefined) this.#logger.error({ error: errorText(error) }, 'the outbox failed');
  }
}
