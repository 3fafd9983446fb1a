import { MANAGER_ID, MANAGER_READS, MANAGER_WRITES, topic } from '../../protocol/topics.js';

/** Brokers that are not ours, as Debian has them; both speak MQTT 3.1.1. */
export type PeerKind = 'nats' | 'rabbitmq';

/** Who may connect, by the CN of a certificate, and the topics (as filters) that it may read and write. */
export interface BrokerUser {
  readonly id: string;
  readonly reads: readonly string[];
  readonly writes: readonly string[];
}

export interface PeerPaths {
  /** Folder of its own. */
  readonly dir: string;
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** The same as `mosquittoAcl` says of stations and of the manager. */
export function stationUsers(site: string, stations: readonly string[]): BrokerUser[] {
  const own = stations.map((id) => ({
    id,
    reads: [topic(site, id, 'down', '#')],
    writes: [topic(site, id, 'up', '#')],
  }));
  const manager = {
    id: MANAGER_ID,
    reads: MANAGER_READS.map((path) => topic(site, '+', 'up', path)),
    writes: MANAGER_WRITES.map((kind) => topic(site, '+', 'down', `${kind}/#`)),
  };
  return [...own, manager];
}

/**
 * nats-server.conf: MQTT by TLS alone, everybody by certificate; topics are subjects there, `/` a dot. What JetStream has keeps
 * sessions and retained messages. NATS's own protocol can't be switched off: it is as closed as MQTT.
 */
export function natsConfig(
  ports: { mqtt: number; own: number },
  paths: PeerPaths,
  users: readonly BrokerUser[],
): string {
  const tls = { cert_file: paths.cert, key_file: paths.key, ca_file: paths.ca, verify_and_map: true };
  // `#` of MQTT takes in its own level too, for which NATS subscribes a second time.
  const subjects = (filters: readonly string[]): string[] =>
    filters
      .flatMap((filter) => (filter.endsWith('/#') ? [filter, filter.slice(0, -2)] : [filter]))
      .map((filter) => filter.replaceAll('/', '.').replaceAll('+', '*').replace(/#$/, '>'));
  const config = {
    ...{ server_name: 'entryphone', host: '127.0.0.1', port: ports.own, tls },
    jetstream: { store_dir: `${paths.dir}/jetstream` },
    mqtt: { host: '127.0.0.1', port: ports.mqtt, tls, max_ack_pending: 100 },
    authorization: {
      users: users.map(({ id, reads, writes }) => ({
        user: `CN=${id}`,
        // Where NATS delivers to a session what is of QoS 1.
        permissions: {
          publish: { allow: subjects(writes) },
          subscribe: { allow: [...subjects(reads), '$MQTT.sub.>'] },
        },
      })),
    },
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}

/** rabbitmq.conf: MQTT by TLS alone, everybody by certificate; no AMQP, no management. */
export function rabbitConfig(port: number, { dir, ca, cert, key }: PeerPaths): string {
  return `${[
    'listeners.tcp = none',
    'listeners.ssl = none',
    'mqtt.listeners.tcp = none',
    `mqtt.listeners.ssl.1 = 127.0.0.1:${port}`,
    'mqtt.allow_anonymous = false',
    'mqtt.ssl_cert_login = true',
    'ssl_cert_login_from = common_name',
    `ssl_options.cacertfile = ${ca}`,
    `ssl_options.certfile = ${cert}`,
    `ssl_options.keyfile = ${key}`,
    'ssl_options.verify = verify_peer',
    'ssl_options.fail_if_no_peer_cert = true',
    `load_definitions = ${dir}/definitions.json`,
    'log.console = true',
    'log.console.level = info',
    'log.file = false',
  ].join('\n')}\n`;
}

/** Users without a password, which therefore come by certificate alone; topics are routing keys of `amq.topic`. */
export function rabbitDefinitions(users: readonly BrokerUser[]): string {
  const pattern = (filters: readonly string[]): string =>
    `^(${filters.map((filter) => filter.split('/').map(levelPattern).join('\\.')).join('|')})$`;
  // Its own queue, and what MQTT's messages go through.
  const queues = '^(mqtt-subscription-.*|amq\\.topic)$';
  const definitions = {
    vhosts: [{ name: '/' }],
    users: users.map(({ id }) => ({
      name: id,
      password_hash: '',
      hashing_algorithm: 'rabbit_password_hashing_sha256',
      tags: '',
    })),
    permissions: users.map(({ id }) => ({ user: id, vhost: '/', configure: queues, write: queues, read: queues })),
    topic_permissions: users.map(({ id, reads, writes }) => ({
      ...{ user: id, vhost: '/', exchange: 'amq.topic' },
      ...{ write: pattern(writes), read: pattern(reads) },
    })),
  };
  return `${JSON.stringify(definitions, null, 2)}\n`;
}

/** One level of a filter; of a read also that very filter, `*` and `#` in it, is a key. */
function levelPattern(level: string): string {
  if (level === '#') return '.*';
  if (level === '+') return '[^.]+';
  return level.replace(/[^A-Za-z0-9-]/g, '\\$&');
}
