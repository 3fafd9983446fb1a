import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Clock, Timer } from '../core/clock.js';
import { RateLimit } from '../core/rate-limit.js';
import { type CallMessage, type CallMessageFault, parseBody, readCallMessage } from '../protocol/call-message.js';
import { PRESENCE_PATH, type Presence, presenceSchema } from '../protocol/presence.js';
import { GATEWAY_PRESENCE, trunkTopic } from '../protocol/topics.js';

export type TrunkRefusal = CallMessageFault | 'flood' | 'not-foreign';

const MOST_PER_SECOND = 100;
/** The link to the cloud may break and heal, while speech, which goes its own way, does not notice. */
const LINK_GRACE_MS = 5_000;

export interface TrunkOptions {
  /** The switchboard's. */
  readonly link: MqttLink;
  readonly site: string;
  readonly clock: Clock;
  readonly onMessage: (message: CallMessage) => void;
  readonly onRefused: (fault: TrunkRefusal, topic: string, why?: string) => void;
  /** Whether other sites can be reached now. */
  readonly onState: (up: boolean) => void;
}

/** The site's end of the trunk: what the gateway says, what it is told, and whether it is there. */
export class Trunk {
  readonly #options: TrunkOptions;
  readonly #flood: RateLimit;
  #linkUp = false;
  #gatewayUp = false;
  #isUp = false;
  #grace: Timer | null = null;

  constructor(options: TrunkOptions) {
    this.#options = options;
    const { link, site, clock } = options;
    this.#flood = new RateLimit({ most: MOST_PER_SECOND, perMs: 1_000, clock });
    link.subscribe(trunkTopic(site, 'up', 'link'), ({ body }) => this.#linkIs(Buffer.from(body).toString() === '1'));
    link.subscribe(GATEWAY_PRESENCE, ({ body }) => {
      const parsed = parseBody(presenceSchema, body);
      this.#gatewayIs(parsed.ok && parsed.value.online);
    });
    link.subscribe(trunkTopic(site, 'down', 'call/+'), (message) => this.#call(message));
  }

  get isUp(): boolean {
    return this.#isUp;
  }

  /** @throws as `MqttLink.publish` */
  send(message: CallMessage, expiryS: number): Promise<void> {
    const { link, site } = this.#options;
    const topic = trunkTopic(site, 'up', `call/${message.callId}`);
    return link.publish({ topic, body: JSON.stringify(message), qos: 1, priority: 'call', expiryS });
  }

  /** Whether a station of the site can be called from others. @throws as `MqttLink.publish` */
  tell(station: string, presence: Presence): Promise<void> {
    const { link, site } = this.#options;
    const topic = trunkTopic(site, 'up', `${PRESENCE_PATH}/${station}`);
    return link.publish({ topic, body: JSON.stringify(presence), retained: true, qos: 1, priority: 'state' });
  }

  close(): void {
    this.#grace?.cancel();
  }

  #linkIs(up: boolean): void {
    this.#linkUp = up;
    this.#grace?.cancel();
    this.#grace = null;
    if (!up && this.#isUp) {
      this.#grace = this.#options.clock.after(LINK_GRACE_MS, () => {
        this.#grace = null;
        this.#judge();
      });
    }
    this.#judge();
  }

  #gatewayIs(up: boolean): void {
    this.#gatewayUp = up;
    this.#judge();
  }

  #judge(): void {
    const up = (this.#linkUp || this.#grace !== null) && this.#gatewayUp;
    if (up === this.#isUp) return;
    this.#isUp = up;
    this.#options.onState(up);
  }

  #call(message: LinkMessage): void {
    const { onRefused, onMessage, site } = this.#options;
    const read = readCallMessage(message);
    if (this.#flood.admit() === undefined) onRefused('flood', message.topic);
    else if (!read.ok) onRefused(read.fault, message.topic, read.why);
    else if (isOfSite(read.value.from, site)) onRefused('not-foreign', message.topic);
    else onMessage(read.value);
  }
}

/** Nobody of this site comes in from outside. */
function isOfSite(from: string, site: string): boolean {
  return from.includes('@') ? from.endsWith(`@${site}`) : from !== 'switchboard';
}
