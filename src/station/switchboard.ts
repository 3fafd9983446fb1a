import { randomUUID } from 'node:crypto';
import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { CallRouting, type RoutingFault } from '../call/call-routing.js';
import { Directory, type DirectoryEntry } from '../call/directory.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import { type CallMessage, type CallMessageType, callMessageSchema, parseBody } from '../protocol/call-message.js';
import { PRESENCE_PATH, type Presence, presenceSchema } from '../protocol/presence.js';
import { parseTopic, type TopicAddress, topic } from '../protocol/topics.js';
import { RoutingJournal } from './routing-journal.js';

export type SwitchboardRefusal =
  | RoutingFault
  | 'foreign-topic'
  | 'retained'
  | 'oversized'
  | 'malformed'
  | 'malformed-presence'
  | 'call-id-mismatch'
  | 'flood'
  | 'not-forwarded';

type Read = { ok: true; value: CallMessage } | { ok: false; fault: SwitchboardRefusal; why?: string };

const MOST_BODY_BYTES = 32_768;
/** Call messages of one station in a second. */
const MOST_PER_SECOND = 30;

/** How long a message is worth delivering. Whoever opens a door must do it now; that a call ended is news for longer. */
const EXPIRY_S: Readonly<Record<CallMessageType, number>> = {
  invite: 10,
  ringing: 10,
  answer: 10,
  reject: 30,
  update: 10,
  bye: 30,
  'door-request': 3,
  'door-challenge': 3,
  'door-open': 3,
  'door-result': 10,
};

/**
 * Reads every station's `up/call/{callId}` and writes the other party's `down/call/{callId}`, so that no station ever writes
 * to another's topics. Says no (`reject`: `unknown`, `not-allowed`, `unreachable`) to an invite that can't be; from the
 * callee's id, or from `switchboard` where there is no such callee.
 */
export class Switchboard {
  readonly #link: MqttLink;
  readonly #site: string;
  readonly #routing: CallRouting;
  readonly #logger: Logger;
  readonly #warnings: RateLimit;
  readonly #floods = new Map<string, RateLimit>();
  /** What was not routed, by class of fault. */
  readonly refused = new Counters<SwitchboardRefusal>();
  readonly #journal: RoutingJournal;
  #routed = 0;

  /** @param options.link under the switchboard's identity; to be started by its owner */
  constructor(options: {
    link: MqttLink;
    site: string;
    stations: Readonly<Record<string, DirectoryEntry>>;
    /** File in which live calls outlast a restart. */
    journalPath: string;
    clock: Clock;
    logger: Logger;
  }) {
    this.#link = options.link;
    this.#site = options.site;
    this.#logger = options.logger;
    this.#warnings = new RateLimit({ most: 5, perMs: 10_000, clock: options.clock });
    this.#routing = new CallRouting({ directory: new Directory(options.stations), clock: options.clock });
    this.#journal = new RoutingJournal({ path: options.journalPath, logger: options.logger });
    this.#routing.restore(this.#journal.read());
    for (const station of Object.keys(options.stations)) {
      this.#floods.set(station, new RateLimit({ most: MOST_PER_SECOND, perMs: 1_000, clock: options.clock }));
    }
    // Presence first: the broker sends what it has retained of it before it lets the first call through.
    const read = (path: string): string => topic(this.#site, '+', 'up', path);
    this.#link.subscribe(read(PRESENCE_PATH), (message) => this.#presence(message));
    this.#link.subscribe(read('call/+'), (message) => this.#call(message));
  }

  /** `calls`: live now; `routed`: messages since the start. */
  figures(): { calls: number; routed: number; refused: Partial<Record<SwitchboardRefusal, number>> } {
    return { calls: this.#routing.size, routed: this.#routed, refused: this.refused.all() };
  }

  /** The other party of the answered call that the station is in. */
  peerOf(callId: string, station: string): string | undefined {
    return this.#routing.peerOf(callId, station);
  }

  /** Resolves when the journal is on disk; close the link first. */
  async settled(): Promise<void> {
    await this.#journal.settled();
  }

  #presence(message: LinkMessage): void {
    const address = this.#addressOf(message);
    if (address === undefined) return;
    // An empty retained message is how one is taken back (MQTT 5, 3.3.1.3).
    const parsed = message.body.byteLength === 0 ? null : parseBody(presenceSchema, message.body);
    if (parsed !== null && !parsed.ok) this.#refuse('malformed-presence', message.topic, parsed.fault);
    const isNews = this.#routing.setOnline(address.station, parsed?.ok === true && parsed.value.online);
    if (!isNews || parsed?.ok !== true) return;
    // Who talks with it is told: that, and silence, is how a peer that died without a word is noticed.
    for (const peer of this.#routing.peersOf(address.station)) {
      this.#publish(topic(this.#site, peer, 'down', `${PRESENCE_PATH}/${address.station}`), parsed.value, 10);
    }
  }

  #call(message: LinkMessage): void {
    const address = this.#addressOf(message);
    if (address === undefined) return;
    const read = this.#read(message, address);
    if (!read.ok) {
      this.#refuse(read.fault, message.topic, read.why);
      return;
    }
    const { callId, to } = read.value;
    const before = this.#routing.changes;
    const decision = this.#routing.route(address.station, read.value);
    if (this.#routing.changes !== before) this.#journal.note(this.#routing.live());
    if (decision.kind === 'drop') this.#refuse(decision.fault, message.topic);
    else if (decision.kind === 'forward') this.#deliver(decision.message);
    else {
      const { reason } = decision;
      this.#logger.info({ callId, from: address.station, to, reason }, 'a call was refused');
      const header = { v: 1, id: randomUUID(), seq: 0, callId, from: decision.from ?? 'switchboard' } as const;
      this.#deliver({ ...header, to: address.station, type: 'reject', reason });
    }
  }

  #read(message: LinkMessage, address: TopicAddress): Read {
    const flood = this.#floods.get(address.station);
    if (flood === undefined) return { ok: false, fault: 'unknown-sender' };
    if (flood.admit() === undefined) return { ok: false, fault: 'flood' };
    if (message.retained) return { ok: false, fault: 'retained' };
    if (message.body.byteLength > MOST_BODY_BYTES) return { ok: false, fault: 'oversized' };
    const parsed = parseBody(callMessageSchema, message.body);
    if (!parsed.ok) return { ok: false, fault: 'malformed', why: parsed.fault };
    if (address.path !== `call/${parsed.value.callId}`) return { ok: false, fault: 'call-id-mismatch' };
    return parsed;
  }

  #addressOf(message: LinkMessage): TopicAddress | undefined {
    const address = parseTopic(message.topic);
    if (address !== undefined && address.site === this.#site && address.direction === 'up') return address;
    this.#refuse('foreign-topic', message.topic);
    return undefined;
  }

  #deliver(message: CallMessage): void {
    this.#publish(topic(this.#site, message.to, 'down', `call/${message.callId}`), message, EXPIRY_S[message.type]);
  }

  #publish(to: string, message: CallMessage | Presence, expiryS: number): void {
    this.#link.publish({ topic: to, body: JSON.stringify(message), qos: 1, priority: 'call', expiryS }).then(
      () => {
        this.#routed += 1;
      },
      (error: unknown) => this.#refuse('not-forwarded', to, errorText(error)),
    );
  }

  #refuse(fault: SwitchboardRefusal, what: string, why?: string): void {
    this.refused.count(fault);
    const held = this.#warnings.admit();
    if (held === undefined) return;
    const fields = {
      fault,
      topic: what.slice(0, 200),
      ...(why === undefined ? {} : { why }),
      ...(held > 0 ? { held } : {}),
    };
    this.#logger.warn(fields, 'a message was not routed');
  }
}
