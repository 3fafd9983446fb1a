import { createHash, randomUUID } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { PRESENCE_PATH, type Presence } from '../protocol/presence.js';
import { topic } from '../protocol/topics.js';
import type { StationReports } from './station-reports.js';

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

/** Says, each time the link is up, that the station is there; and with which configuration. */
export function announce(options: {
  identity: Identity;
  config: Config;
  link: MqttLink;
  reports: StationReports;
  clock: Clock;
  logger: Logger;
}): void {
  const { identity, config, link, reports, clock, logger } = options;
  const { site, station } = identity;
  const hash = `sha256:${createHash('sha256').update(JSON.stringify(config)).digest('hex')}`;
  reports.runs('config', { hash, sinceMs: clock.wallMs() });
  link.onState(({ connected }) => {
    if (!connected) return;
    link
      .publish({
        topic: topic(site, station, 'up', PRESENCE_PATH),
        body: presence(identity, clock, true),
        retained: true,
        qos: 1,
        priority: 'state',
        expiryS: 30,
      })
      .catch((error: unknown) => logger.warn({ error: errorText(error) }, 'the broker was not told of us'));
  });
}

function presence({ bootId, release }: Identity, clock: Clock, online: boolean): string {
  const body: Presence = { v: 1, id: bootId, online, release, architecture: process.arch, at: clock.wallMs() };
  return JSON.stringify(body);
}
