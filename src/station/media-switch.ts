import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { ELSEWHERE } from '../call/directory.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import { parseTopic, topic, trunkTopic } from '../protocol/topics.js';

export type MediaRefusal = 'retained' | 'oversized' | 'flood' | 'no-live-call' | 'not-forwarded';

const MOST_BODY_BYTES = 16_384;
/** One end of a call's media inside MQTT: `up/media/{sessionId}` and `down/media/{sessionId}` of that station. */
export interface MediaLeg {
  /** A station of the site, or `ELSEWHERE`. */
  readonly station: string;
  /** The call's id, but for an extension, whose sessions have ids of their own. */
  readonly sessionId: string;
}

/** Messages of one station, or of the trunk, in a second: a station in a call sends some 50. */
const MOST_PER_SECOND = 200;

/**
 * Moves what a station writes to `up/media/{sessionId}` to the `down/media/{sessionId}` of the other party of that call, once it is
 * answered and for as long as it lives; to and from other sites over the trunk. The packets inside are not looked at, and nothing is
 * kept: what can't be sent at once is dropped.
 */
export class MediaSwitch {
  /** What was not moved, by why. */
  readonly refused = new Counters<MediaRefusal>();
  readonly #link: MqttLink;
  readonly #site: string;
  readonly #farLegOf: (near: MediaLeg) => MediaLeg | undefined;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #warnings: RateLimit;
  readonly #floods = new Map<string, RateLimit>();

  /** @param options.link under the switchboard's media identity; to be started by its owner */
  constructor(options: {
    link: MqttLink;
    site: string;
    /** The other end; undefined where there is no answered call. */
    farLegOf: (near: MediaLeg) => MediaLeg | undefined;
    clock: Clock;
    logger: Logger;
  }) {
    this.#link = options.link;
    this.#site = options.site;
    this.#farLegOf = options.farLegOf;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#warnings = new RateLimit({ most: 2, perMs: 10_000, clock: options.clock });
    const take = (message: LinkMessage): void => {
      const fault = this.#move(message);
      if (fault !== null) this.#refuse(fault, message.topic);
    };
    this.#link.subscribe(topic(this.#site, '+', 'up', 'media/+'), take);
    this.#link.subscribe(trunkTopic(this.#site, 'down', 'media/+'), take);
  }

  #move({ topic: name, body, retained }: LinkMessage): MediaRefusal | null {
    const station = parseTopic(name)?.station ?? ELSEWHERE;
    if (retained) return 'retained';
    if (body.byteLength > MOST_BODY_BYTES) return 'oversized';
    const far = this.#farLegOf({ station, sessionId: name.slice(name.lastIndexOf('/') + 1) });
    if (far === undefined) return 'no-live-call';
    if (this.#floodOf(station).admit() === undefined) return 'flood';
    const path = `media/${far.sessionId}`;
    const isOut = far.station === ELSEWHERE;
    const to = isOut ? trunkTopic(this.#site, 'up', path) : topic(this.#site, far.station, 'down', path);
    return this.#link.sendNow(to, body) ? null : 'not-forwarded';
  }

  #floodOf(station: string): RateLimit {
    let flood = this.#floods.get(station);
    if (flood === undefined) {
      flood = new RateLimit({ most: MOST_PER_SECOND, perMs: 1_000, clock: this.#clock });
      this.#floods.set(station, flood);
    }
    return flood;
  }

  #refuse(fault: MediaRefusal, name: string): void {
    this.refused.count(fault);
    const held = this.#warnings.admit();
    if (held !== undefined) this.#logger.warn({ fault, topic: name.slice(0, 200), held }, 'media was not moved');
  }
}
