import { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { MqttPacketPath } from '../adapters/mqtt/mqtt-packet-path.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import type { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { MqttIdentity } from '../protocol/engine-api.js';
import { mediaIdentity, parseTopic, topic } from '../protocol/topics.js';
import type { PacketListener } from '../rtp/packet-path.js';

/** The media process's own connection to the broker: there while a session uses it, or may have to. */
export class MqttPaths {
  readonly #config: Config;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #paths = new Map<string, MqttPacketPath>();
  #link: MqttLink | null = null;
  #identity: MqttIdentity | undefined;

  constructor(options: { config: Config; clock: Clock; logger: Logger }) {
    this.#config = options.config;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** Who this process is from the next connection on. */
  identify(identity: MqttIdentity): void {
    this.#identity = identity;
  }

  get isUp(): boolean {
    return this.#link?.state.connected === true;
  }

  /** A path to the far end of the session; nothing where it has one. @throws AppError `credentials-missing` */
  open(sessionId: string, options: { refused: Counters<string>; listener: PacketListener }): void {
    if (this.#paths.has(sessionId)) return;
    this.#link ??= this.#connect();
    const { site, id } = this.#config.station;
    const upTopic = topic(site, id, 'up', `media/${sessionId}`);
    const path = new MqttPacketPath({ link: this.#link, topic: upTopic, clock: this.#clock, ...options });
    this.#paths.set(sessionId, path);
  }

  /** Takes the datagram over. */
  send(sessionId: string, datagram: Uint8Array): void {
    this.#paths.get(sessionId)?.send(datagram);
  }

  /** What was sent still leaves; the last one takes the connection with it. */
  async close(sessionId: string): Promise<void> {
    const path = this.#paths.get(sessionId);
    if (path === undefined) return;
    this.#paths.delete(sessionId);
    await path.close();
    if (this.#paths.size > 0) return;
    const link = this.#link;
    this.#link = null;
    await link?.close();
  }

  #connect(): MqttLink {
    const { mqtt, station } = this.#config;
    if (this.#identity === undefined) {
      throw new AppError('credentials-missing', 'The media process was given no certificate for MQTT', {
        remedy: 'The station gives it the files of media.identity; its log says what became of them',
      });
    }
    const link = new MqttLink({
      url: mqtt.url,
      ...this.#identity,
      clientId: mediaIdentity(station.id),
      clock: this.#clock,
      logger: this.#logger,
      backoff: { firstMs: 100, mostMs: 2_000 },
    });
    link.subscribe(topic(station.site, station.id, 'down', 'media/+'), ({ topic: name, body, receivedAtMs }) => {
      const sessionId = parseTopic(name)?.path.slice('media/'.length) ?? '';
      this.#paths.get(sessionId)?.message(body, receivedAtMs);
    });
    link.start();
    return link;
  }
}
