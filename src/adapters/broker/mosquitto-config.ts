import { mediaIdentity, topic } from '../../protocol/topics.js';

export interface BrokerPaths {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
  readonly acl: string;
  /** Folder of the database. */
  readonly store: string;
}

/**
 * mosquitto.conf of a site: TLS only, a client certificate of the site's authority from everybody, its CN as user name.
 * `user root` has no effect but under root, where mosquitto would otherwise become another user: it could not read keys of
 * mode 0600 then, and the kernel would forget to end it with its parent (prctl(2), PR_SET_PDEATHSIG). It runs without any
 * capability instead. A packet may have 65 KiB: a body of 64 KiB and its topic.
 */
export function mosquittoConfig(listen: { address: string; port: number }, paths: BrokerPaths): string {
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
  ].join('\n')}\n`;
}

/**
 * A station reads its own `down/#` and writes its own `up/#`, but for the media there, which is its media process's alone. By
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
    ...stations.flatMap((station) => lines(station, station, 'down', 'up')),
  ].join('\n')}\n`;
}
