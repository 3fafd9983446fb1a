import { randomUUID } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { QualityReport } from '../protocol/flows-api.js';
import { topic } from '../protocol/topics.js';

const PUBLISH_EVERY_MS = 10_000;
const EXPIRY_S = 30;

/** Tells the broker how calls are heard: `up/telemetry/quality`, each 10 s of a call. Nobody waits for it, and it may get lost. */
export class QualityReports {
  readonly #options: { link: MqttLink; site: string; station: string; clock: Clock; logger: Logger };
  #publishedMs = Number.NEGATIVE_INFINITY;
  #seq = 0;

  constructor(options: { link: MqttLink; site: string; station: string; clock: Clock; logger: Logger }) {
    this.#options = options;
  }

  /** Once a second of each call. */
  report({ callId, path, quality: { ladder, ...figures } }: QualityReport): void {
    const { link, site, station, clock, logger } = this.#options;
    if (!link.state.connected || clock.nowMs() - this.#publishedMs < PUBLISH_EVERY_MS) return;
    this.#publishedMs = clock.nowMs();
    this.#seq += 1;
    const data = { callId, path, ...figures, sent: ladder.at(-1) ?? null };
    const body = JSON.stringify({ v: 1, id: randomUUID(), seq: this.#seq, at: clock.wallMs(), data });
    link
      .publish({
        topic: topic(site, station, 'up', 'telemetry/quality'),
        body,
        qos: 0,
        priority: 'telemetry',
        expiryS: EXPIRY_S,
      })
      .catch((error: unknown) => logger.debug({ error: errorText(error) }, 'quality was not told'));
  }
}
