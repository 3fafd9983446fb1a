import { createHmac } from 'node:crypto';
import { isIP, connect as openSocket } from 'node:net';
import type { Duplex } from 'node:stream';
import { connect as openSecureSocket } from 'node:tls';
import { type IClientOptions, MqttClient, type Packet } from 'mqtt';
import { writeToStream } from 'mqtt-packet';
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

// It would keep each of the 65,536 numbers that can stand in a packet as a buffer of its own: 7 MB.
(writeToStream as typeof writeToStream & { cacheNumbers: boolean }).cacheNumbers = false;

/**
 * A client that connects to the broker at once. Its stream is opened here: the package's own `connect` loads WebSockets,
 * proxies and node:http with it, which are not used.
 * @param url `mqtt:` or `mqtts:`
 */
export function openClient(url: URL, clientId: string, protocolVersion: 4 | 5, identity: ClientIdentity): MqttClient {
  const options = clientOptions(clientId, protocolVersion, identity);
  return new MqttClient((client) => openStream(url, identity, client), options);
}

function openStream(url: URL, { ca, cert, key }: ClientIdentity, client: MqttClient): Duplex {
  const host = url.hostname.replace(/^\[(.*)\]$/, '$1');
  if (url.protocol === 'mqtt:') return openSocket({ host, port: Number(url.port || 1883) });
  const servername = isIP(host) === 0 ? { servername: host } : {};
  const socket = openSecureSocket({ host, port: Number(url.port || 8883), ca, cert, key, ...servername });
  // The client passes on what sockets fail with, and not what TLS does.
  const fail = (error: Error) => client.emit('error', error);
  socket.on('error', fail).once('secureConnect', () => socket.off('error', fail));
  return socket;
}

/** One clean session, without the client's own reconnects and queues: both are the link's. */
function clientOptions(clientId: string, protocolVersion: 4 | 5, { will }: ClientIdentity): IClientOptions {
  return {
    clientId,
    protocolVersion,
    clean: true,
    keepalive: KEEPALIVE_S,
    connectTimeout: 5_000,
    reconnectPeriod: 0,
    resubscribe: false,
    queueQoSZero: false,
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
