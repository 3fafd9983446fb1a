import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Outbox, OutboxEntry } from '../adapters/sqlite/outbox.js';
import type { Clock, Timer } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { StationEvent } from '../protocol/station-event.js';
import { topic } from '../protocol/topics.js';

const BATCH = 8;
const RETRY_AFTER_MS = 5_000;

/** Drains the outbox to `up/evt/{kind}` while there is a connection: in order by batches, each event until acknowledged. */
export class OutboxSender {
  readonly #options: { outbox: Outbox; link: MqttLink; site: string; station: string; clock: Clock; logger: Logger };
  #draining: Promise<void> | null = null;
  #retry: Timer | null = null;
  #closed = false;
  /** Something came while we were draining, perhaps after we had looked. */
  #again = false;

  constructor(options: {
    outbox: Outbox;
    link: MqttLink;
    site: string;
    station: string;
    clock: Clock;
    logger: Logger;
  }) {
    this.#options = options;
    options.link.onState(() => this.#wake());
    this.#wake();
  }

  /** Keeps the event on disk, and sends it when it can. @throws AppError `bad-event` */
  add(kind: string, body: object): void {
    this.#options.outbox.add(kind, body);
    this.#wake();
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

  #send(entry: OutboxEntry): Promise<void> {
    const { link, site, station } = this.#options;
    const data = JSON.parse(entry.body) as Record<string, unknown>;
    const event: StationEvent = { v: 1, id: entry.id, seq: entry.seq, at: entry.atMs, data };
    return link.publish({
      topic: topic(site, station, 'up', `evt/${entry.kind}`),
      body: JSON.stringify(event),
      qos: 1,
      priority: 'state',
    });
  }
}
