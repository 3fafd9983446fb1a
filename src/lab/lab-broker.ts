import { join } from 'node:path';
import { PeerBroker } from '../adapters/broker/peer-broker.js';
import { type BrokerUser, type PeerKind, stationUsers } from '../adapters/broker/peer-config.js';
import { ensureSitePki, SWITCHBOARD_ID } from '../adapters/pki/site-pki.js';
import { systemClock } from '../core/clock.js';
import { mediaIdentity, topic } from '../protocol/topics.js';
import { freePort, type ScenarioContext } from './scenario.js';
import { SITE_OF, STATIONS } from './site-config.js';

export const BROKERS = ['mosquitto', 'nats', 'rabbitmq'] as const;
export type BrokerName = (typeof BROKERS)[number];

/** NATS or RabbitMQ in the place of the site's mosquitto, with the certificates that the site host makes. */
export async function startForeignBroker(
  kind: PeerKind,
  context: ScenarioContext,
): Promise<{ port: number; stop(): Promise<void> }> {
  context.log(`starting: ${kind}`);
  const site = SITE_OF.indoor;
  const pki = await ensureSitePki({
    ...{ dir: join(context.dir, 'site/indoor/state/pki'), site, stations: STATIONS, addresses: ['127.0.0.1'] },
  });
  const ports = { mqtt: await freePort(), own: await freePort(), other: await freePort() };
  const broker = await PeerBroker.start({
    ...{ kind, dir: join(context.dir, kind), ports, users: siteUsers(site), clock: systemClock },
    ...{ server: pki.server, probe: pki.credentialsOf('door') },
  });
  return { port: ports.mqtt, stop: () => broker.stop() };
}

/** As `mosquittoAcl` has them. */
function siteUsers(site: string): BrokerUser[] {
  const media = (id: string, station: string, reads: 'up' | 'down', writes: 'up' | 'down'): BrokerUser => ({
    id: mediaIdentity(id),
    reads: [topic(site, station, reads, 'media/+')],
    writes: [topic(site, station, writes, 'media/+')],
  });
  return [
    ...stationUsers(site, STATIONS),
    ...STATIONS.map((id) => media(id, id, 'down', 'up')),
    {
      id: SWITCHBOARD_ID,
      reads: [topic(site, '+', 'up', 'call/+'), topic(site, '+', 'up', 'presence')],
      writes: [topic(site, '+', 'down', 'call/+'), topic(site, '+', 'down', 'presence/+')],
    },
    media(SWITCHBOARD_ID, '+', 'up', 'down'),
  ];
}
