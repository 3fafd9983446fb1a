import { createHash, randomUUID } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { PRESENCE_PATH, type Presence } from '../protocol/presence.js';
import { topic } from '../protocol/topics.js';

interface Identity {
  readonly site: string;
  readonly station: string;
  /** Of this start of the process. */
  readonly bootId: string;
  readonly release: string;
}

export function newIdentity(config: Config, release: string): Identity {
  return { site: config.station.site, station: config.station.id, bootId: randomUUID(), release };
}

/** What the broker says in our name once we are gone. */
export function lastWill(identity: Identity, clock: Clock): { topic: string; body: string } {
  const { site, station } = identity;
  return { topic: topic(site, station, 'up', PRESENCE_PATH), body: presence(identity, clock, false) };
}

/** Says, each time the link is up: that the station is there, and with which configuration (`up/reported/config`). */
export function announce(options: {
  identity: Identity;
  config: Config;
  link: MqttLink;
  clock: Clock;
  logger: Logger;
}): void {
  const { identity, config, link, clock, logger } = options;
  const { site, station } = identity;
  const hash = `sha256:${createHash('sha256').update(JSON.stringify(config)).digest('hex')}`;
  const appliedAt = clock.wallMs();
  let seq = 0;
  const say = (path: string, body: string): void => {
    link
      .publish({
        topic: topic(site, station, 'up', path),
        body,
        retained: true,
        qos: 1,
        priority: 'state',
        expiryS: 30,
      })
      .catch((error: unknown) => logger.warn({ path, error: errorText(error) }, 'the broker was not told'));
  };
  link.onState(({ connected }) => {
    if (!connected) return;
    say(PRESENCE_PATH, presence(identity, clock, true));
    say('reported/config', JSON.stringify({ v: 1, id: randomUUID(), seq, hash, appliedAt, error: null }));
    seq += 1;
  });
}

function presence({ bootId, release }: Identity, clock: Clock, online: boolean): string {
  const body: Presence = { v: 1, id: bootId, online, release, architecture: process.arch, at: clock.wallMs() };
  return JSON.stringify(body);
}
