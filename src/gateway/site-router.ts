import { randomUUID } from 'node:crypto';
import type { LinkMessage, MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { CallRouting, type RoutingFault } from '../call/call-routing.js';
import { Directory, type DirectoryEntry } from '../call/directory.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import {
  type CallMessage,
  type CallMessageFault,
  parseBody,
  ROUTED_EXPIRY_S,
  readCallMessage,
} from '../protocol/call-message.js';
import type { StationView } from '../protocol/gateway-api.js';
import { PRESENCE_PATH, presenceSchema } from '../protocol/presence.js';
import { parseTrunkTopic, trunkTopic } from '../protocol/topics.js';
import type { CallRooms } from './call-rooms.js';

export type RouterRefusal =
  | RoutingFault
  | CallMessageFault
  | 'unknown-site'
  | 'flood'
  | 'malformed-presence'
  | 'no-room'
  | 'not-forwarded'
  | `media-${'retained' | 'oversized' | 'no-live-call' | 'flood' | 'not-forwarded'}`;

/** Messages of one site in a second. */
const MOST_CALL_PER_SECOND = 100;
const MOST_MEDIA_PER_SECOND = 1_000;
const MOST_MEDIA_BYTES = 16_384;
const TIDY_EVERY_MS = 5_000;
const LINK_GRACE_MS = 5_000;
const MOST_CALLS = 1_000;

interface SiteState {
  isUp: boolean;
  /** Stations that were last said to be online; they are, while the site is up. */
  readonly online: Set<string>;
  readonly calls: RateLimit;
  readonly media: RateLimit;
  /** Ends the calls of a site that stays away. */
  farewell: Timer | null;
}

export interface SiteRouterOptions {
  /** For calls and presence, and for media: both under the gateway's identity; to be started by their owner. */
  readonly link: MqttLink;
  readonly mediaLink: MqttLink;
  /** By `{station}@{site}`. */
  readonly directory: Readonly<Record<string, DirectoryEntry>>;
  readonly sites: readonly string[];
  readonly rooms: CallRooms;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The switchboard between sites: reads what each site's trunk brings up, finds the callee by `{station}@{site}`, number or name
 * in the gateway's directory, refuses who may not call, and writes the other site's trunk. Each call gets a room, whose
 * address takes the place of the peers' in what they tell each other. A site is who the cloud's broker says that it is; who
 * speaks within it, its own switchboard has made sure of.
 */
export class SiteRouter {
  readonly refused = new Counters<RouterRefusal>();
  readonly #options: SiteRouterOptions;
  readonly #routing: CallRouting;
  readonly #warnings: RateLimit;
  readonly #sites = new Map<string, SiteState>();
  /** What is being done for each call: its messages keep their order while its room is opened. */
  readonly #chains = new Map<string, Promise<void>>();
  #tidy: Timer | null = null;

  constructor(options: SiteRouterOptions) {
    const { clock, link, mediaLink } = options;
    this.#options = options;
    this.#routing = new CallRouting({
      directory: new Directory(options.directory),
      clock,
      mostCalls: MOST_CALLS,
    });
    this.#warnings = new RateLimit({ most: 5, perMs: 10_000, clock });
    for (const site of options.sites) {
      this.#sites.set(site, {
        isUp: false,
        online: new Set(),
        calls: new RateLimit({ most: MOST_CALL_PER_SECOND, perMs: 1_000, clock }),
        media: new RateLimit({ most: MOST_MEDIA_PER_SECOND, perMs: 1_000, clock }),
        farewell: null,
      });
    }
    link.subscribe(trunkTopic('+', 'up', 'link'), (message) => this.#linkOf(message));
    link.subscribe(trunkTopic('+', 'up', `${PRESENCE_PATH}/+`), (message) => this.#presence(message));
    link.subscribe(trunkTopic('+', 'up', 'call/+'), (message) => this.#call(message));
    mediaLink.subscribe(trunkTopic('+', 'up', 'media/+'), (message) => this.#media(message));
    this.#tidyLater();
  }

  stations(): StationView[] {
    return Object.entries(this.#options.directory).map(([station, { name, numbers }]) => {
      const [id = '', site = ''] = station.split('@');
      const state = this.#sites.get(site);
      return { station, name, numbers: [...numbers], online: state?.isUp === true && state.online.has(id) };
    });
  }

  /** Both parties are told that the call is over. */
  endCall(callId: string, reason: string): void {
    const call = this.#routing.live().find((one) => one.callId === callId);
    if (call === undefined) return;
    for (const party of [call.caller, call.callee]) this.#sayBye(callId, party, reason);
    // As if its caller had hung up.
    this.#routing.route(call.caller, { type: 'bye', callId, from: call.caller, to: call.callee });
    void this.#options.rooms.close(callId);
  }

  close(): void {
    this.#tidy?.cancel();
    for (const { farewell } of this.#sites.values()) farewell?.cancel();
  }

  #linkOf({ topic, body }: LinkMessage): void {
    const site = parseTrunkTopic(topic)?.site ?? '';
    const state = this.#sites.get(site);
    const isUp = Buffer.from(body).toString() === '1';
    if (state === undefined) this.#refuse('unknown-site', topic);
    else if (state.isUp !== isUp) this.#siteIs(site, state, isUp);
  }

  #siteIs(site: string, state: SiteState, isUp: boolean): void {
    const { clock, logger, directory, rooms } = this.#options;
    state.isUp = isUp;
    state.farewell?.cancel();
    logger.info({ site }, isUp ? 'the site is there' : 'the site is gone');
    for (const station of state.online) this.#routing.setOnline(`${station}@${site}`, isUp);
    if (isUp) return;
    // The link may break and heal while speech, which goes its own way, does not notice.
    state.farewell = clock.after(LINK_GRACE_MS, () => {
      const stations = Object.keys(directory).filter((station) => station.endsWith(`@${site}`));
      for (const { callId, peer } of stations.flatMap((station) => this.#routing.endCallsOf(station))) {
        this.#sayBye(callId, peer, 'site-lost');
        void rooms.close(callId);
      }
    });
  }

  #presence({ topic, body }: LinkMessage): void {
    const { site = '', path = '' } = parseTrunkTopic(topic) ?? {};
    const station = path.slice(PRESENCE_PATH.length + 1);
    const state = this.#sites.get(site);
    if (state === undefined || this.#options.directory[`${station}@${site}`] === undefined) {
      this.#refuse('unknown-site', topic);
      return;
    }
    const parsed = body.byteLength === 0 ? null : parseBody(presenceSchema, body);
    if (parsed !== null && !parsed.ok) this.#refuse('malformed-presence', topic, parsed.fault);
    const isOnline = parsed?.ok === true && parsed.value.online;
    if (isOnline) state.online.add(station);
    else state.online.delete(station);
    this.#routing.setOnline(`${station}@${site}`, isOnline && state.isUp);
  }

  #call(message: LinkMessage): void {
    const site = parseTrunkTopic(message.topic)?.site ?? '';
    const state = this.#sites.get(site);
    const read = readCallMessage(message);
    if (state === undefined) this.#refuse('unknown-site', message.topic);
    else if (state.calls.admit() === undefined) this.#refuse('flood', message.topic);
    else if (!read.ok) this.#refuse(read.fault, message.topic, read.why);
    else this.#route(`${read.value.from}@${site}`, read.value);
  }

  #route(sender: string, message: CallMessage): void {
    const { callId, to } = message;
    const decision = this.#routing.route(sender, message);
    if (decision.kind === 'drop') {
      this.#refuse(decision.fault, `${sender} in ${callId}`);
    } else if (decision.kind === 'reject') {
      const { reason, from } = decision;
      this.#options.logger.info({ callId, from: sender, to, reason }, 'a call was refused');
      this.#reject(callId, sender, from ?? 'switchboard', reason);
    } else {
      const routed = decision.message;
      this.#next(callId, () => this.#forward(sender, routed.to, routed));
    }
  }

  async #forward(from: string, to: string, message: CallMessage): Promise<void> {
    const { rooms, logger } = this.#options;
    const { callId, type } = message;
    try {
      const described = await rooms.describe(message, from, to);
      await this.#send(to, described);
    } catch (error) {
      this.#refuse(error instanceof AppError && error.code === 'queue-full' ? 'not-forwarded' : 'no-room', callId);
      logger.warn({ callId, type, error: errorText(error) }, 'a call message could not be passed on');
      if (type === 'invite') {
        this.#routing.route(to, { type: 'reject', callId, from: to, to: from });
        this.#reject(callId, from, to, 'media-failed');
      }
    }
    if (type === 'bye' || type === 'reject') await rooms.close(callId);
  }

  #reject(callId: string, to: string, from: string, reason: string): void {
    const header = { v: 1, id: randomUUID(), seq: 0, callId, from, to } as const;
    this.#send(to, { ...header, type: 'reject', reason }).catch(() => this.#refuse('not-forwarded', callId));
  }

  #sayBye(callId: string, to: string, reason: string): void {
    const header = { v: 1, id: randomUUID(), seq: 0, callId, from: 'switchboard', to } as const;
    this.#send(to, { ...header, type: 'bye', reason }).catch(() => this.#refuse('not-forwarded', callId));
  }

  /** @param party `{station}@{site}` */
  #send(party: string, message: CallMessage): Promise<void> {
    const [station = '', site = ''] = party.split('@');
    return this.#options.link.publish({
      topic: trunkTopic(site, 'down', `call/${message.callId}`),
      body: JSON.stringify({ ...message, to: station }),
      qos: 1,
      priority: 'call',
      expiryS: ROUTED_EXPIRY_S[message.type],
    });
  }

  #next(callId: string, step: () => Promise<void>): void {
    const chain = (this.#chains.get(callId) ?? Promise.resolve()).then(step);
    this.#chains.set(callId, chain);
    void chain.finally(() => {
      if (this.#chains.get(callId) === chain) this.#chains.delete(callId);
    });
  }

  #media({ topic, body, retained }: LinkMessage): void {
    const { site = '', path = '' } = parseTrunkTopic(topic) ?? {};
    const callId = path.slice('media/'.length);
    const peer = this.#peerSite(callId, site);
    const state = this.#sites.get(site);
    if (retained) this.#refuse('media-retained', topic);
    else if (body.byteLength > MOST_MEDIA_BYTES) this.#refuse('media-oversized', topic);
    else if (peer === undefined || state === undefined) this.#refuse('media-no-live-call', topic);
    else if (state.media.admit() === undefined) this.#refuse('media-flood', topic);
    else if (!this.#options.mediaLink.sendNow(trunkTopic(peer, 'down', path), body)) {
      this.#refuse('media-not-forwarded', topic);
    }
  }

  /** The site of the other party of an answered call that the site has a party in. */
  #peerSite(callId: string, site: string): string | undefined {
    const peers = Object.keys(this.#options.directory)
      .filter((station) => station.endsWith(`@${site}`))
      .map((station) => this.#routing.peerOf(callId, station));
    return peers.find((peer) => peer !== undefined)?.split('@')[1];
  }

  /** Rooms of calls that are over, though nobody said so. */
  #tidyLater(): void {
    this.#tidy = this.#options.clock.after(TIDY_EVERY_MS, () => {
      const live = new Set(this.#routing.live().flatMap(({ callId, leftMs }) => (leftMs > 0 ? [callId] : [])));
      for (const callId of this.#options.rooms.callIds()) {
        if (!live.has(callId) && !this.#chains.has(callId)) void this.#options.rooms.close(callId);
      }
      this.#tidyLater();
    });
  }

  #refuse(fault: RouterRefusal, what: string, why?: string): void {
    this.refused.count(fault);
    const held = this.#warnings.admit();
    if (held === undefined) return;
    const fields = { fault, about: what.slice(0, 200), held, ...(why === undefined ? {} : { why }) };
    this.#options.logger.warn(fields, 'a message was not routed');
  }
}
