import { randomUUID } from 'node:crypto';
import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { CallRouting, type RoutingFault } from '../call/call-routing.js';
import { Directory, type DirectoryEntry, ELSEWHERE } from '../call/directory.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import { type CallMessage, parseBody, ROUTED_EXPIRY_S, readCallMessage } from '../protocol/call-message.js';
import { PRESENCE_PATH, type Presence, presenceSchema } from '../protocol/presence.js';
import { parseTopic, type TopicAddress, topic } from '../protocol/topics.js';
import { RoutingJournal } from './routing-journal.js';
import { Trunk, type TrunkRefusal } from './trunk.js';

export type SwitchboardRefusal = RoutingFault | TrunkRefusal | 'foreign-topic' | 'malformed-presence' | 'not-forwarded';

type Read = { ok: true; value: CallMessage } | { ok: false; fault: SwitchboardRefusal; why?: string };

/** Call messages of one station in a second. */
const MOST_PER_SECOND = 30;

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
  readonly #trunk: Trunk | undefined;
  /** What the site itself answers for, by its id in the directory. */
  readonly #extensions = new Map<string, (message: CallMessage) => void>();
  #routed = 0;

  /** @param options.link under the switchboard's identity; to be started by its owner */
  constructor(options: {
    link: MqttLink;
    site: string;
    stations: Readonly<Record<string, DirectoryEntry>>;
    /** Further entries of the directory, see `answerFor`. */
    extensions?: Readonly<Record<string, DirectoryEntry>>;
    /** The site's broker is bridged to the cloud's: who is not known here may be of another site. */
    hasTrunk: boolean;
    /** File in which live calls outlast a restart. */
    journalPath: string;
    clock: Clock;
    logger: Logger;
  }) {
    this.#link = options.link;
    this.#site = options.site;
    this.#logger = options.logger;
    this.#warnings = new RateLimit({ most: 5, perMs: 10_000, clock: options.clock });
    const directory = new Directory(
      { ...options.stations, ...options.extensions },
      options.hasTrunk ? ELSEWHERE : undefined,
    );
    this.#routing = new CallRouting({ directory, clock: options.clock });
    this.#journal = new RoutingJournal({ path: options.journalPath, logger: options.logger });
    this.#routing.restore(this.#journal.read());
    for (const station of Object.keys(options.stations)) {
      this.#floods.set(station, new RateLimit({ most: MOST_PER_SECOND, perMs: 1_000, clock: options.clock }));
    }
    // Presence first: the broker sends what it has retained of it before it lets the first call through.
    const read = (path: string): string => topic(this.#site, '+', 'up', path);
    this.#link.subscribe(read(PRESENCE_PATH), (message) => this.#presence(message));
    this.#link.subscribe(read('call/+'), (message) => this.#call(message));
    if (!options.hasTrunk) return;
    this.#trunk = new Trunk({
      link: this.#link,
      site: this.#site,
      clock: options.clock,
      onMessage: (message) => this.#route(ELSEWHERE, message),
      onRefused: (fault, what, why) => this.#refuse(fault, what, why),
      onState: (up) => this.#trunkIs(up),
    });
  }

  /**
   * From now on an extension of the directory can be called.
   * @param take gets what is said to it; must not throw
   * @returns says something in its name
   */
  answerFor(extension: string, take: (message: CallMessage) => void): (message: CallMessage) => void {
    this.#extensions.set(extension, take);
    this.#routing.setOnline(extension, true);
    return (message) => this.#route(extension, message);
  }

  /** `calls`: live now; `routed`: messages since the start. */
  figures(): { calls: number; routed: number; refused: Partial<Record<SwitchboardRefusal, number>> } {
    return { calls: this.#routing.size, routed: this.#routed, refused: this.refused.all() };
  }

  /** Other sites can be called now; null where there is no way to them. */
  get reachesElsewhere(): boolean | null {
    return this.#trunk?.isUp ?? null;
  }

  /** The other party of the answered call that the station is in. */
  peerOf(callId: string, station: string): string | undefined {
    return this.#routing.peerOf(callId, station);
  }

  /** Resolves when the journal is on disk; close the link first. */
  async settled(): Promise<void> {
    this.#trunk?.close();
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
    const { value } = parsed;
    this.#trunk?.tell(address.station, value).catch((error) => this.#notForwarded(message.topic, error));
    // Who talks with it is told: that, and silence, is how a peer that died without a word is noticed.
    for (const peer of this.#routing.peersOf(address.station)) {
      if (peer === ELSEWHERE || this.#extensions.has(peer)) continue;
      this.#publish(topic(this.#site, peer, 'down', `${PRESENCE_PATH}/${address.station}`), value, 10);
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
    this.#route(address.station, read.value);
  }

  /** @param sender a station of this site, or `ELSEWHERE` for what came over the trunk */
  #route(sender: string, message: CallMessage): void {
    const { callId, from, to } = message;
    const before = this.#routing.changes;
    const decision = this.#routing.route(sender, message);
    if (this.#routing.changes !== before) this.#journal.note(this.#routing.live());
    if (decision.kind === 'drop') this.#refuse(decision.fault, `${sender} in ${callId}`);
    else if (decision.kind === 'forward') {
      // Names of other sites are the gateway's to say and to understand.
      const routed = decision.message;
      const isOut = routed.to === ELSEWHERE;
      const named = { ...routed, from: sender === ELSEWHERE ? from : routed.from, to: isOut ? to : routed.to };
      this.#deliver(isOut ? ELSEWHERE : named.to, named);
    } else {
      const { reason } = decision;
      this.#logger.info({ callId, from, to, reason }, 'a call was refused');
      const by = decision.from === undefined || decision.from === ELSEWHERE ? 'switchboard' : decision.from;
      const header = { v: 1, id: randomUUID(), seq: 0, callId, from: by } as const;
      this.#deliver(sender, { ...header, to: sender === ELSEWHERE ? from : sender, type: 'reject', reason });
    }
  }

  /** Calls with other sites end with the way there. */
  #trunkIs(up: boolean): void {
    this.#routing.setOnline(ELSEWHERE, up);
    if (up) {
      this.#logger.info({}, 'other sites can be reached');
      return;
    }
    const ended = this.#routing.endCallsOf(ELSEWHERE);
    this.#logger.warn({ calls: ended.length }, "other sites can't be reached: the gateway, or the way to it, is gone");
    if (ended.length > 0) this.#journal.note(this.#routing.live());
    for (const { callId, peer } of ended) {
      const header = { v: 1, id: randomUUID(), seq: 0, callId, from: 'switchboard' } as const;
      this.#deliver(peer, { ...header, to: peer, type: 'bye', reason: 'gateway-lost' });
    }
  }

  #read(message: LinkMessage, address: TopicAddress): Read {
    const flood = this.#floods.get(address.station);
    if (flood === undefined) return { ok: false, fault: 'unknown-sender' };
    if (flood.admit() === undefined) return { ok: false, fault: 'flood' };
    return readCallMessage(message);
  }

  #addressOf(message: LinkMessage): TopicAddress | undefined {
    const address = parseTopic(message.topic);
    if (address !== undefined && address.site === this.#site && address.direction === 'up') return address;
    this.#refuse('foreign-topic', message.topic);
    return undefined;
  }

  /** @param party a station of this site, or `ELSEWHERE` */
  #deliver(party: string, message: CallMessage): void {
    const extension = this.#extensions.get(party);
    if (extension !== undefined) {
      this.#routed += 1;
      extension(message);
      return;
    }
    const { callId, type } = message;
    if (party !== ELSEWHERE) {
      this.#publish(topic(this.#site, party, 'down', `call/${callId}`), message, ROUTED_EXPIRY_S[type]);
      return;
    }
    this.#trunk?.send(message, ROUTED_EXPIRY_S[type]).then(
      () => {
        this.#routed += 1;
      },
      (error: unknown) => this.#notForwarded(callId, error),
    );
  }

  #publish(to: string, message: CallMessage | Presence, expiryS: number): void {
    this.#link.publish({ topic: to, body: JSON.stringify(message), qos: 1, priority: 'call', expiryS }).then(
      () => {
        this.#routed += 1;
      },
      (error: unknown) => this.#notForwarded(to, error),
    );
  }

  #notForwarded(what: string, error: unknown): void {
    this.#refuse('not-forwarded', what, errorText(error));
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
