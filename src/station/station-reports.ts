import { randomUUID } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { ReleaseKind } from '../fleet/manifest.js';
import { topic } from '../protocol/topics.js';
import { type Reported, reportedPath } from '../protocol/update-job.js';

/** What of a report tells of the release. */
export type ReleaseReport = Omit<Reported, 'v' | 'id' | 'seq' | 'at' | 'runs'>;

const NO_RELEASE: ReleaseReport = { rev: null, knownRev: 0, version: null, hash: null, appliedAt: null, error: null };

/**
 * What a station says of each kind of release (`up/reported/{kind}`), kept by the broker: one body, whoever in the station knows a part of
 * it. Said when any of it changes, and whenever the broker is there again.
 */
export class StationReports {
  readonly #options: { config: Config; link: Pick<MqttLink, 'publish' | 'state'>; clock: Clock; logger: Logger };
  readonly #releases = new Map<ReleaseKind, ReleaseReport>();
  readonly #runs = new Map<ReleaseKind, Record<string, unknown>>();
  /** The last that was said of each. */
  readonly #said = new Map<ReleaseKind, string>();
  #seq = 0;

  constructor(options: {
    readonly config: Config;
    readonly link: Pick<MqttLink, 'publish' | 'state' | 'onState'>;
    readonly clock: Clock;
    readonly logger: Logger;
  }) {
    this.#options = options;
    options.link.onState(({ connected }) => {
      if (!connected) return;
      for (const kind of new Set([...this.#releases.keys(), ...this.#runs.keys()])) this.#say(kind, true);
    });
  }

  /** Which release of a kind is installed. */
  release(kind: ReleaseKind, release: ReleaseReport): void {
    this.#releases.set(kind, release);
    this.#say(kind, false);
  }

  /** How that goes which a release of the kind is taken up by. */
  runs(kind: ReleaseKind, how: Record<string, unknown>): void {
    this.#runs.set(kind, how);
    this.#say(kind, false);
  }

  #say(kind: ReleaseKind, isAgain: boolean): void {
    const { config, link, clock, logger } = this.#options;
    const runs = this.#runs.get(kind);
    const known = { ...(this.#releases.get(kind) ?? NO_RELEASE), ...(runs === undefined ? {} : { runs }) };
    const text = JSON.stringify(known);
    if ((!isAgain && text === this.#said.get(kind)) || !link.state.connected) return;
    this.#said.set(kind, text);
    const body = { v: 1, id: randomUUID(), seq: this.#seq++, at: clock.wallMs(), ...known } satisfies Reported;
    link
      .publish({
        topic: topic(config.station.site, config.station.id, 'up', reportedPath(kind)),
        body: JSON.stringify(body),
        ...{ retained: true, qos: 1, priority: 'state' },
      })
      .catch((error: unknown) => {
        // Else it is told when the broker is there again, or this station ends.
        if (link.state.connected) logger.warn({ kind, error: errorText(error) }, 'the broker was not told what runs');
      });
  }
}
