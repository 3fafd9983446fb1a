import { createHmac } from 'node:crypto';
import type { MqttClient } from 'mqtt';
import type { Clock } from '../../core/clock.js';

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
