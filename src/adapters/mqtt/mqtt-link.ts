import type { IPublishPacket, MqttClient } from 'mqtt';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { Counters } from '../../core/counters.js';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { type ClientIdentity, endClient, MOST_BODY_BYTES, openClient, ownClientId, unheardIdOf } from './client.js';
import { isProtocolRefusal, linkFault } from './link-fault.js';
import { RoundTrip } from './round-trip.js';
import { type SendPriority, SendQueue, type Waiting } from './send-queue.js';
import { isTopicName, matchesFilter } from './topic-filter.js';

export type { SendPriority } from './send-queue.js';

export interface LinkMessage {
  readonly topic: string;
  /** At most 64 KiB. */
  readonly body: Uint8Array;
  /** Published as retained; of a 3.1.1 broker: kept by it from before we subscribed. */
  readonly retained: boolean;
  readonly duplicate: boolean;
  /** By the link's clock. */
  readonly receivedAtMs: number;
}

export interface LinkState {
  readonly connected: boolean;
  readonly protocol: '5' | '3.1.1' | null;
  /** Why there is no connection: `broker-unreachable`, `certificate-refused`, `not-authorised`, `identity-in-use`, `broker-refused`. */
  readonly fault: AppError | null;
}

export interface Publication {
  readonly topic: string;
  /** At most 64 KiB. */
  readonly body: string | Uint8Array;
  readonly retained?: boolean;
  readonly qos: 0 | 1;
  readonly priority: SendPriority;
  /** Not sent later than so many seconds from now; the broker keeps to the rest of it (MQTT 5, 3.3.2.3.3). */
  readonly expiryS?: number;
  /** It is an error (`unheard`) if nobody subscribes to the topic, as far as the broker says so (MQTT 5, 3.4.2.1). QoS 1. */
  readonly mustBeHeard?: boolean;
}

export interface MqttLinkOptions extends ClientIdentity {
  /** `mqtts://host:port` (`mqtt://` for a broker without TLS). */
  readonly url: string;
  readonly clientId: string;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly backoff?: { readonly firstMs: number; readonly mostMs: number };
  /** Bound of what waits to be sent; 1000 messages, and 4 MiB always. */
  readonly mostWaiting?: number;
}

/** A connection that lived so long starts the backoff afresh. */
const STABLE_AFTER_MS = 5_000;
/** Unacknowledged messages at which each priority must wait: the last places are kept for what is more urgent. */
const WINDOW: Readonly<Record<SendPriority, number>> = { call: 16, state: 12, telemetry: 4 };

interface Outgoing extends Waiting {
  readonly topic: string;
  readonly body: Buffer;
  readonly retained: boolean;
  readonly qos: 0 | 1;
  readonly mustBeHeard: boolean;
  readonly resolve: () => void;
  readonly reject: (error: AppError) => void;
}

type Dropped =
  | `${SendPriority}-queue-full`
  | `${SendPriority}-expired`
  | 'incoming-too-large'
  | 'listener-failed'
  | 'subscription-refused';

/**
 * The one connection to the broker: MQTT 5, or 3.1.1 where the broker has no more; kept up with backoff; subscriptions
 * survive. What is published waits in a queue of the link's own, by priority and with an expiry, so that nothing stale is
 * sent after an outage. Sessions are clean: an unacknowledged message is sent again by us, within its expiry, and its
 * reader tells a second copy by the body's `id`.
 */
export class MqttLink {
  readonly #options: MqttLinkOptions;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #broker: string;
  readonly #clientId: string;
  readonly #backoff: Backoff;
  readonly #queue: SendQueue<Outgoing>;
  readonly #roundTrip: RoundTrip;
  readonly #inFlight = new Set<Outgoing>();
  readonly #subscriptions: { filter: string; listener: (message: LinkMessage) => void }[] = [];
  readonly #stateListeners: ((state: LinkState) => void)[] = [];
  readonly #dropped = new Counters<Dropped>();
  #state: LinkState = { connected: false, protocol: null, fault: null };
  #client: MqttClient | null = null;
  #retry: Timer | null = null;
  #wake: { atMs: number; timer: Timer } | null = null;
  #closed = false;
  /** The broker has refused MQTT 5, in words or by hanging up twice. */
  #only311 = false;
  #hungUpOn5 = 0;
  #tryNext: 4 | 5 = 5;
  #upSinceMs = Infinity;
  #sending = false;
  #unheardId: number | null = null;

  constructor(options: MqttLinkOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#broker = new URL(options.url).host;
    this.#clientId = ownClientId(options.clientId, options.key);
    this.#logger = options.logger.child({ broker: this.#broker });
    this.#backoff = new Backoff(options.backoff ?? { firstMs: 250, mostMs: 10_000 });
    this.#roundTrip = new RoundTrip(options.clock);
    this.#queue = new SendQueue({ mostMessages: options.mostWaiting ?? 1_000, mostBytes: 4 * 1024 * 1024 });
  }

  get state(): LinkState {
    return this.#state;
  }

  /** `waiting`: queued or unacknowledged; `dropped`: by kind, what was not sent or not taken in. */
  figures(): { waiting: number; dropped: Partial<Record<string, number>> } {
    return { waiting: this.#queue.length + this.#inFlight.size, dropped: this.#dropped.all() };
  }

  onState(listener: (state: LinkState) => void): void {
    this.#stateListeners.push(listener);
  }

  /** Begins to connect, and goes on until `close()`. */
  start(): void {
    if (this.#client === null && this.#retry === null && !this.#closed) this.#connect();
  }

  /**
   * Kept over reconnects; retained messages of the filter come again after each. Filters of one link must not overlap: a
   * broker may send a message once for each that takes it in. A listener's exception is counted.
   */
  subscribe(filter: string, listener: (message: LinkMessage) => void): void {
    this.#subscriptions.push({ filter, listener });
    if (this.#client?.connected === true) this.#subscribeAt(this.#client, [filter], () => {});
  }

  /**
   * Resolves when the broker has acknowledged (QoS 1) or the socket has taken it (QoS 0).
   * @throws AppError `queue-full`, `expired`, `unheard`, `link-closed`, `not-authorised`, `broker-refused`, `too-large`,
   * `bad-topic` (as a rejection)
   */
  publish(publication: Publication): Promise<void> {
    const body = Buffer.from(publication.body as Uint8Array);
    if (this.#closed) return Promise.reject(linkClosed());
    if (body.byteLength > MOST_BODY_BYTES) {
      return Promise.reject(
        new AppError('too-large', `A message of ${body.byteLength} bytes; at most ${MOST_BODY_BYTES}`),
      );
    }
    if (!isTopicName(publication.topic)) {
      return Promise.reject(new AppError('bad-topic', `Not the name of a topic: "${publication.topic.slice(0, 100)}"`));
    }
    const nowMs = this.#clock.nowMs();
    return new Promise((resolve, reject) => {
      const dropped = this.#queue.add({
        topic: publication.topic,
        body,
        sizeBytes: body.byteLength + publication.topic.length,
        retained: publication.retained ?? false,
        qos: publication.qos,
        mustBeHeard: publication.mustBeHeard ?? false,
        priority: publication.priority,
        queuedAtMs: nowMs,
        expiresAtMs: publication.expiryS === undefined ? Infinity : nowMs + publication.expiryS * 1_000,
        resolve,
        reject,
      });
      for (const item of dropped) {
        this.#dropped.count(`${item.priority}-queue-full`);
        item.reject(new AppError('queue-full', `Too much waits to be sent to ${this.#broker}`));
      }
      this.#pump();
    });
  }

  /** To the broker and back, as measured last; null before. */
  get roundTripMs(): number | null {
    return this.#roundTrip.lastMs;
  }

  /**
   * For media: QoS 0, at once and past the queue. @returns false where it was not sent: there is no connection, or what was
   * sent of late is still on its way (see `RoundTrip`), so that nothing piles up where nobody can take it back.
   */
  sendNow(topic: string, body: Uint8Array): boolean {
    const client = this.#client;
    if (client === null || !this.#state.connected || this.#roundTrip.isStalled) return false;
    client.publish(topic, Buffer.from(body.buffer, body.byteOffset, body.byteLength), { qos: 0 });
    this.#roundTrip.measure(client);
    return true;
  }

  /** Says the will, where there is one, and disconnects. What still waits is rejected with `link-closed`. */
  async close(): Promise<void> {
    if (this.#closed) return;
    const client = this.#client;
    const will = this.#options.will;
    if (client !== null && this.#state.connected) {
      if (will !== undefined) {
        await Promise.race([
          this.publish({ ...will, retained: true, qos: 1, priority: 'call' }).catch(() => {}),
          new Promise<void>((resolve) => this.#clock.after(300, resolve)),
        ]);
      }
    }
    this.#closed = true;
    this.#retry?.cancel();
    this.#wake?.timer.cancel();
    for (const item of [...this.#inFlight, ...this.#queue.takeAll()]) item.reject(linkClosed());
    this.#inFlight.clear();
    this.#client = null;
    if (client !== null) await endClient(client, this.#clock);
    this.#become({ connected: false, protocol: null, fault: null });
  }

  #connect(): void {
    this.#retry = null;
    const protocolVersion = this.#only311 ? 4 : this.#tryNext;
    const client = openClient(new URL(this.#options.url), this.#clientId, protocolVersion, this.#options);
    let failure: unknown;
    let welcomed = false;
    this.#client = client;
    this.#roundTrip.watch(client);
    client.on('error', (error) => {
      failure ??= error;
      if (!client.connected) client.stream.destroy();
    });
    client.on('disconnect', (packet) => {
      failure ??= Object.assign(new Error('the broker ended the connection'), { code: packet.reasonCode ?? 0 });
    });
    client.on('connect', () => {
      welcomed = true;
      if (protocolVersion === 5) this.#hungUpOn5 = 0;
      else if (this.#hungUpOn5 >= 2) this.#only311 = true;
      this.#subscribeAt(
        client,
        this.#subscriptions.map((subscription) => subscription.filter),
        () => this.#connected(protocolVersion),
      );
    });
    client.on('message', (topic, body, packet) => this.#received(topic, body, packet));
    // The client's own word of an acknowledgement leaves its reason out; this comes just before it.
    client.on('packetreceive', (packet) => {
      this.#unheardId = unheardIdOf(packet);
    });
    client.on('close', () => {
      if (this.#client !== client) return;
      this.#client = null;
      client.end(true);
      this.#lost(protocolVersion, welcomed, failure);
    });
  }

  #connected(protocolVersion: 4 | 5): void {
    this.#upSinceMs = this.#clock.nowMs();
    this.#logger.info({ protocol: protocolVersion }, 'connected to the broker');
    this.#become({ connected: true, protocol: protocolVersion === 5 ? '5' : '3.1.1', fault: null });
    this.#pump();
  }

  #lost(protocolVersion: 4 | 5, welcomed: boolean, failure: unknown): void {
    this.#queue.putBack([...this.#inFlight]);
    this.#inFlight.clear();
    if (this.#clock.nowMs() - this.#upSinceMs >= STABLE_AFTER_MS) this.#backoff.reset();
    this.#upSinceMs = Infinity;
    const hungUp = failure === undefined;
    const fallBack = protocolVersion === 5 && !welcomed && (hungUp || isProtocolRefusal(failure));
    if (fallBack && hungUp) this.#hungUpOn5 += 1;
    else if (fallBack) this.#only311 = true;
    this.#tryNext = fallBack ? 4 : 5;
    if (!fallBack) {
      const fault = linkFault(failure ?? new Error('it hung up'), this.#broker);
      if (this.#state.fault?.code !== fault.code) this.#logger.warn({ code: fault.code }, errorText(fault));
      this.#become({ connected: false, protocol: null, fault });
    }
    this.#retry = this.#clock.after(fallBack ? 0 : this.#backoff.nextDelayMs(), () => this.#connect());
    this.#pump();
  }

  #subscribeAt(client: MqttClient, filters: string[], done: () => void): void {
    if (filters.length === 0) {
      done();
      return;
    }
    client.subscribe(filters, { qos: 1, rap: true }, (error, _, suback) => {
      const refused = filters.filter((_, at) => Number(suback?.granted[at] ?? 0) >= 128);
      if (refused.length > 0) {
        this.#dropped.count('subscription-refused', refused.length);
        this.#logger.warn({ refused }, 'the broker refused subscriptions');
      }
      if (this.#client === client && client.connected && (error === null || refused.length > 0)) done();
    });
  }

  #received(topic: string, body: Buffer, packet: IPublishPacket): void {
    if (body.byteLength > MOST_BODY_BYTES) {
      this.#dropped.count('incoming-too-large');
      return;
    }
    const message = { topic, body, retained: packet.retain, duplicate: packet.dup, receivedAtMs: this.#clock.nowMs() };
    for (const { filter, listener } of this.#subscriptions) {
      if (!matchesFilter(filter, topic)) continue;
      try {
        listener(message);
      } catch (error) {
        this.#dropped.count('listener-failed');
        this.#logger.error({ topic, error: errorText(error) }, 'a message could not be handled');
      }
    }
  }

  readonly #maySend = (priority: SendPriority): boolean => this.#inFlight.size < WINDOW[priority];

  /** Sends what is due, rejects what is too old, and arranges to be back in time for the rest. */
  #pump(): void {
    const nowMs = this.#clock.nowMs();
    for (const item of this.#queue.takeExpired(nowMs)) {
      this.#dropped.count(`${item.priority}-expired`);
      item.reject(new AppError('expired', `Not sent within its time: ${item.topic}`));
    }
    const client = this.#client;
    if (client !== null && this.#state.connected && this.#queue.dueAtMs(this.#maySend) <= nowMs)
      this.#send(client, nowMs);
    const dueAtMs = this.#state.connected ? this.#queue.dueAtMs(this.#maySend) : Infinity;
    this.#wakeAt(Math.min(dueAtMs, this.#queue.expiresAtMs()));
  }

  /** Whatever the window lets through, in one write. */
  #send(client: MqttClient, nowMs: number): void {
    this.#sending = true;
    client.stream.cork();
    for (;;) {
      const item = this.#queue.take(this.#maySend);
      if (item === undefined) break;
      this.#inFlight.add(item);
      const expiry = Number.isFinite(item.expiresAtMs)
        ? { properties: { messageExpiryInterval: Math.ceil((item.expiresAtMs - nowMs) / 1_000) } }
        : {};
      client.publish(item.topic, item.body, { qos: item.qos, retain: item.retained, ...expiry }, (error, packet) => {
        if (this.#client === client) this.#settle(item, error, packet?.messageId);
      });
    }
    process.nextTick(() => client.stream.uncork());
    this.#sending = false;
  }

  /** An error without a reason code is the connection's end: `#lost` follows and puts the message back. */
  #settle(item: Outgoing, error: Error | undefined, messageId: number | undefined): void {
    const code = (error as { code?: unknown } | undefined)?.code;
    if (error && typeof code !== 'number') return;
    if (!this.#inFlight.delete(item)) return;
    if (error) item.reject(linkFault(error, this.#broker));
    else if (item.mustBeHeard && messageId === this.#unheardId)
      item.reject(new AppError('unheard', `Nobody listens to ${item.topic}`));
    else item.resolve();
    if (!this.#sending) this.#pump();
  }

  #wakeAt(atMs: number): void {
    if (this.#wake?.atMs === atMs) return;
    this.#wake?.timer.cancel();
    this.#wake = null;
    if (atMs === Infinity || this.#closed) return;
    const timer = this.#clock.after(Math.max(0, atMs - this.#clock.nowMs()), () => {
      this.#wake = null;
      this.#pump();
    });
    this.#wake = { atMs, timer };
  }

  #become(state: LinkState): void {
    const before = this.#state;
    this.#state = state;
    if (before.connected === state.connected && before.fault?.code === state.fault?.code) return;
    for (const listener of this.#stateListeners) {
      try {
        listener(state);
      } catch (error) {
        this.#logger.error({ error: errorText(error) }, 'a listener of the link failed');
      }
    }
  }
}

function linkClosed(): AppError {
  return new AppError('link-closed', 'The connection to the broker was closed on purpose');
}
