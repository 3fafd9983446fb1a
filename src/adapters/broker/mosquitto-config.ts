import {
  GATEWAY_PRESENCE,
  MANAGER_ID,
  MANAGER_READS,
  MANAGER_WRITES,
  mediaIdentity,
  topic,
  trunkTopic,
} from '../../protocol/topics.js';

export interface BrokerPaths {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly acl: string;
  /** Folder of the database. */
  readonly store: string;
}

/** The way to the cloud's broker, with the site's own certificate of the cloud's authority. */
export interface Bridge {
  readonly site: string;
  readonly host: string;
  readonly port: number;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/**
 * mosquitto.conf of a site: TLS only, a client certificate of the site's authority from everybody, its CN as user name.
 * `user root` has no effect but under root, where mosquitto would otherwise become another user: it could not read keys of
 * mode 0600 then, and the kernel would forget to end it with its parent (prctl(2), PR_SET_PDEATHSIG). It runs without any
 * capability instead. A packet may have 65 KiB: a body of 64 KiB and its topic.
 */
export function mosquittoConfig(
  listen: { address: string; port: number },
  paths: BrokerPaths,
  bridge: Bridge | undefined,
): string {
  return `${[
    'user root',
    'per_listener_settings false',
    'allow_anonymous false',
    `acl_file ${paths.acl}`,
    'persistence true',
    `persistence_location ${paths.store}`,
    'persistence_file mosquitto.db',
    'autosave_interval 60',
    'persistent_client_expiration 1d',
    'max_packet_size 66560',
    'max_inflight_messages 20',
    'max_queued_messages 200',
    'max_queued_bytes 4194304',
    'queue_qos0_messages false',
    'max_keepalive 120',
    'set_tcp_nodelay true',
    'sys_interval 0',
    'log_dest stderr',
    'log_timestamp false',
    'log_type error',
    'log_type warning',
    'log_type notice',
    'log_type information',
    `listener ${listen.port} ${listen.address}`,
    'max_connections 1000',
    `cafile ${paths.ca}`,
    `certfile ${paths.cert}`,
    `keyfile ${paths.key}`,
    'require_certificate true',
    'use_identity_as_username true',
    ...(bridge === undefined ? [] : bridgeConfig(bridge)),
  ].join('\n')}\n`;
}

/**
 * The site's trunk goes to the cloud's broker and comes from it, and what the fleet manager and the stations say to each other;
 * nothing else. Clean, so that no call message outlasts the link: what stations are told to do is retained. Both brokers are told
 * whether the link stands: the cloud's by the bridge's will.
 */
function bridgeConfig({ site, host, port, ca, cert, key }: Bridge): string[] {
  const pattern = (direction: 'up' | 'down', path: string) => trunkTopic(site, direction, path);
  return [
    'connection cloud',
    `address ${host}:${port}`,
    'bridge_protocol_version mqttv50',
    `remote_clientid site-${site}`,
    'cleansession true',
    'keepalive_interval 5',
    'restart_timeout 1 10',
    'notifications true',
    `notification_topic ${pattern('up', 'link')}`,
    `bridge_cafile ${ca}`,
    `bridge_certfile ${cert}`,
    `bridge_keyfile ${key}`,
    `topic ${pattern('up', 'call/+')} out 1`,
    `topic ${pattern('up', 'presence/+')} out 1`,
    `topic ${pattern('up', 'media/+')} out 0`,
    `topic ${pattern('down', 'call/+')} in 1`,
    `topic ${pattern('down', 'media/+')} in 0`,
    `topic ${GATEWAY_PRESENCE} in 1`,
    ...MANAGER_WRITES.map((kind) => `topic ${topic(site, '+', 'down', `${kind}/#`)} in 1`),
    ...MANAGER_READS.map((path) => `topic ${topic(site, '+', 'up', path)} out 1`),
  ];
}

/** CN of the gateway's certificate, and of a site's, both of the cloud's authority. */
export const GATEWAY_ID = 'gateway';
export function siteIdentity(site: string): string {
  return `site-${site}`;
}

/** The fleet manager, of one site or of all (`+`). */
function managerAcl(site: string): string[] {
  return [
    `user ${MANAGER_ID}`,
    ...MANAGER_READS.map((path) => `topic read ${topic(site, '+', 'up', path)}`),
    ...MANAGER_WRITES.map((kind) => `topic write ${topic(site, '+', 'down', `${kind}/#`)}`),
  ];
}

/** What a site's bridge passes on between the manager and the site's stations. */
function managedAcl(site: string): string[] {
  return [
    ...MANAGER_WRITES.map((kind) => `topic read ${topic(site, '+', 'down', `${kind}/#`)}`),
    ...MANAGER_READS.map((path) => `topic write ${topic(site, '+', 'up', path)}`),
  ];
}

/** The cloud's broker: a site reaches its own trunk and stations alone, the gateway every trunk, the manager every station. */
export function cloudAcl(sites: readonly string[]): string {
  const lines = (user: string, site: string, read: 'up' | 'down', write: 'up' | 'down'): string[] => [
    `user ${user}`,
    `topic read ${trunkTopic(site, read, '#')}`,
    `topic write ${trunkTopic(site, write, '#')}`,
  ];
  return `${[
    ...lines(GATEWAY_ID, '+', 'up', 'down'),
    `topic write ${GATEWAY_PRESENCE}`,
    ...sites.flatMap((site) => [
      ...lines(siteIdentity(site), site, 'down', 'up'),
      `topic read ${GATEWAY_PRESENCE}`,
      ...managedAcl(site),
    ]),
    ...managerAcl('+'),
  ].join('\n')}\n`;
}

/**
 * A station reads its own `down/#` and writes its own `up/#`, but for the media there, which is its media process's alone. The
 * switchboard reads all of that and writes to all, but for what the fleet manager alone may say. By
 * name and not by `%u`, so that a station that was taken out of the directory is shut out though its certificate is good.
 */
export function mosquittoAcl(site: string, stations: readonly string[], switchboard: string): string {
  const lines = (user: string, station: string, read: 'up' | 'down', write: 'up' | 'down'): string[] => [
    `user ${user}`,
    `topic deny ${topic(site, station, read, 'media/#')}`,
    `topic deny ${topic(site, station, write, 'media/#')}`,
    `topic read ${topic(site, station, read, '#')}`,
    `topic write ${topic(site, station, write, '#')}`,
    `user ${mediaIdentity(user)}`,
    `topic read ${topic(site, station, read, 'media/+')}`,
    `topic write ${topic(site, station, write, 'media/+')}`,
  ];
  return `${[
    ...lines(switchboard, '+', 'up', 'down'),
    `topic read ${trunkTopic(site, 'down', 'media/+')}`,
    `topic write ${trunkTopic(site, 'up', 'media/+')}`,
    `user ${switchboard}`,
    ...MANAGER_WRITES.map((kind) => `topic deny ${topic(site, '+', 'down', `${kind}/#`)}`),
    `topic read ${trunkTopic(site, 'down', 'call/+')}`,
    `topic read ${trunkTopic(site, 'up', 'link')}`,
    `topic read ${GATEWAY_PRESENCE}`,
    `topic write ${trunkTopic(site, 'up', 'call/+')}`,
    `topic write ${trunkTopic(site, 'up', 'presence/+')}`,
    ...managerAcl(site),
    ...stations.flatMap((station) => lines(station, station, 'down', 'up')),
  ].join('\n')}\n`;
}
