import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Outbox, OutboxEntry } from '../adapters/sqlite/outbox.js';
import type { Clock, Timer } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { StationEvent } from '../protocol/station-event.js';
import { topic } from '../protocol/topics.js';

const BATCH = 8;
const RETRY_AFTER_MS = 5_000;

export interface OutboxSenderOptions {
  readonly outbox: Outbox;
  readonly link: MqttLink;
  readonly site: string;
  readonly station: string;
  readonly clock: Clock;
  readonly logger: Logger;
  /** An event has reached the broker, with a payload of so many bytes; `data` is what was added. */
  readonly onSent?: (kind: string, payloadBytes: number, data: Record<string, unknown>) => void;
}

/** Drains the outbox to `up/evt/{kind}` while there is a connection: in order by batches, each event until acknowledged. */
export class OutboxSender {
  readonly #options: OutboxSenderOptions;
  #draining: Promise<void> | null = null;
  #retry: Timer | null = null;
  #closed = false;
  /** Something came while we were draining, perhaps after we had looked. */
  #again = false;

  constructor(options: OutboxSenderOptions) {
    this.#options = options;
    options.link.onState(() => this.#wake());
    this.#wake();
  }

  /** Keeps the event on disk, and sends it when it can. @returns its id; null where the disk failed @throws AppError `bad-event` */
  add(kind: string, body: object): string | null {
    const id = this.#options.outbox.add(kind, body);
    this.#wake();
    return id;
  }

  /** Touches neither the outbox nor the link after this; close the link first, so that nothing is waited for. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#retry?.cancel();
    await this.#draining;
  }

  #wake(): void {
    if (this.#closed || !this.#options.link.state.connected) return;
    this.#again = this.#draining !== null;
    if (this.#again) return;
    this.#retry?.cancel();
    this.#retry = null;
    this.#draining = this.#drain().finally(() => {
      this.#draining = null;
      if (this.#again) this.#wake();
    });
  }

  async #drain(): Promise<void> {
    const { outbox, link, clock, logger } = this.#options;
    while (!this.#closed && link.state.connected) {
      const entries = outbox.next(BATCH);
      if (entries.length === 0) return;
      const results = await Promise.allSettled(entries.map((entry) => this.#send(entry)));
      const acknowledged = entries
        .filter((_, index) => results[index]?.status === 'fulfilled')
        .map((entry) => entry.seq);
      outbox.done(acknowledged);
      const failure = results.find((result) => result.status === 'rejected');
      if (failure === undefined) continue;
      if (this.#closed) return;
      logger.warn({ waiting: outbox.figures().waiting, error: errorText(failure.reason) }, 'events could not be sent');
      this.#retry = clock.after(RETRY_AFTER_MS, () => this.#wake());
      return;
    }
  }

  async #send(entry: OutboxEntry): Promise<void> {
    const { link, site, station, onSent } = this.#options;
    const data = JSON.parse(entry.body) as Record<string, unknown>;
    const event: StationEvent = { v: 1, id: entry.id, seq: entry.seq, at: entry.atMs, data };
    const body = JSON.stringify(event);
    await link.publish({
      topic: topic(site, station, 'up', `evt/${entry.kind}`),
      body,
      qos: 1,
      priority: 'state',
    });
    onSent?.(entry.kind, Buffer.byteLength(body), data);
  }
}
