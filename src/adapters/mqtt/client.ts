import { createHmac } from 'node:crypto';
import type { IClientOptions, MqttClient, Packet } from 'mqtt';
import type { Clock } from '../../core/clock.js';

/** Of a message's body, whichever way it goes. */
export const MOST_BODY_BYTES = 65_536;
const KEEPALIVE_S = 10;
const NO_MATCHING_SUBSCRIBERS = 0x10;

/** What a connection of ours is made with, beside the address. */
export interface ClientIdentity {
  /** PEM: the authority that the broker must show, and our own certificate and key. */
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  /** Retained, QoS 1; published by the broker when the link is lost, and by `close()`. */
  readonly will?: { readonly topic: string; readonly body: string };
}

/** One clean session, without the client's own reconnects and queues: both are the link's. */
export function clientOptions(clientId: string, protocolVersion: 4 | 5, identity: ClientIdentity): IClientOptions {
  const { ca, cert, key, will } = identity;
  return {
    clientId,
    protocolVersion,
    clean: true,
    keepalive: KEEPALIVE_S,
    connectTimeout: 5_000,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    ...(protocolVersion === 5 ? { properties: { receiveMaximum: 64, maximumPacketSize: 2 * MOST_BODY_BYTES } } : {}),
    ...(will === undefined
      ? {}
      : { will: { topic: will.topic, payload: Buffer.from(will.body), qos: 1, retain: true } }),
  };
}

/**
 * A client id that nobody else at the broker can name, so that nobody can take our session over; the same after a restart,
 * so that we can: an old session's will is then said before our new presence, not after it.
 */
export function ownClientId(name: string, key: string | Buffer | undefined): string {
  if (key === undefined) return name;
  return `${name}-${createHmac('sha256', key).update(name).digest('hex').slice(0, 16)}`;
}

/** DISCONNECT, then the socket's end; within 300 ms. */
export function endClient(client: MqttClient, clock: Clock): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      force.cancel();
      client.stream.destroy();
      resolve();
    };
    const force = clock.after(300, done);
    client.end(!client.connected, {}, done);
  });
}

/** The message that this packet acknowledges and says nobody has heard (MQTT 5, 3.4.2.1); null for any other packet. */
export function unheardIdOf(packet: Packet): number | null {
  return packet.cmd === 'puback' && packet.reasonCode === NO_MATCHING_SUBSCRIBERS ? (packet.messageId ?? null) : null;
}
