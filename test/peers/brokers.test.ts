/** Deliveries by brokers that are not ours: NATS and RabbitMQ as Debian has them, by TLS, each user by its certificate. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { type Test, test } from 'tap';
import { PeerBroker } from '../../src/adapters/broker/peer-broker.js';
import { type PeerKind, stationUsers } from '../../src/adapters/broker/peer-config.js';
import { type LinkMessage, MqttLink } from '../../src/adapters/mqtt/mqtt-link.js';
import { ensurePki } from '../../src/adapters/pki/site-pki.js';
import { systemClock } from '../../src/core/clock.js';
import { Counters } from '../../src/core/counters.js';
import { silentLogger } from '../../src/core/logger.js';
import { chunkFile } from '../../src/fleet/manifest.js';
import { PieceServer } from '../../src/manager/piece-server.js';
import { MOST_PIECE_BYTES } from '../../src/protocol/artefact-piece.js';
import { MANAGER_ID, topic } from '../../src/protocol/topics.js';
import { Artefacts } from '../../src/update/artefacts.js';
import { MqttPieces } from '../../src/update/mqtt-pieces.js';
import { Pace } from '../../src/update/pace.js';
import { freePort, until } from '../support/site.js';
import { TcpFront } from '../support/tcp-front.js';

const down = (station: string, path: string): string => topic('home', station, 'down', path);
const up = (station: string, path: string): string => topic('home', station, 'up', path);
const signal = new AbortController().signal;

async function deliveries(t: Test, kind: PeerKind): Promise<void> {
  const dir = t.testdir();
  const pki = await ensurePki({
    ...{ dir: join(dir, 'pki'), owner: 'home', addresses: [] },
    clients: ['door', 'attic', 'stranger', MANAGER_ID],
  });
  const ports = { mqtt: await freePort(), own: await freePort(), other: await freePort() };
  const broker = await PeerBroker.start({
    ...{ kind, dir: join(dir, kind), ports, users: stationUsers('home', ['door', 'attic']) },
    ...{ server: pki.server, probe: pki.credentialsOf('door'), clock: systemClock },
  });
  t.teardown(() => broker.stop());
  const links: MqttLink[] = [];
  t.teardown(() => Promise.all(links.map((link) => link.close())));
  const linkOf = (id: string, port = ports.mqtt): MqttLink => {
    const { ca, cert, key } = pki.credentialsOf(id);
    const pem = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) };
    const link = new MqttLink({
      ...{ url: `mqtts://127.0.0.1:${port}`, ...pem, clientId: id, clock: systemClock, logger: silentLogger },
      backoff: { firstMs: 50, mostMs: 500 },
    });
    links.push(link);
    return link;
  };
  const whole = randomBytes(40 * MOST_PIECE_BYTES + 1);
  const path = chunkFile(createHash('sha256').update(whole).digest('hex'));
  mkdirSync(dirname(join(dir, 'repository', path)), { recursive: true });
  writeFileSync(join(dir, 'repository', path), whole);

  const manager = linkOf(MANAGER_ID);
  const served = new PieceServer({
    ...{ link: manager, site: 'home', dir: join(dir, 'repository'), clock: systemClock, logger: silentLogger },
  });
  t.teardown(() => served.close());
  const front = await TcpFront.start(ports.mqtt);
  t.teardown(() => front.close());
  const door = linkOf('door', front.port);
  const refused = new Counters<string>();
  const pieces = new MqttPieces({ link: door, site: 'home', station: 'door', clock: systemClock, refused });
  const heard: LinkMessage[] = [];
  door.subscribe(down('door', '#'), (message) => {
    const at = message.topic.split('/down/')[1] ?? '';
    if (at.startsWith('chunk/')) pieces.take(at, message.body);
    else heard.push(message);
  });
  const pace = new Pace({ rateBps: Infinity, isHeld: () => false, clock: systemClock });
  const artefacts = new Artefacts({
    ...{ transports: [pieces], job: 'job-1', pace, partials: null, clock: systemClock, refused },
  });
  for (const link of [manager, door]) link.start();
  await until(() => manager.state.connected && door.state.connected);
  t.equal(door.state.protocol, '3.1.1');

  // A cut, a broker that is killed and started again, a cut.
  let restarted: Promise<void> | undefined;
  const faults = [() => front.cut(), () => (restarted = broker.restart()), () => front.cut()];
  const came = await artefacts.fetch(path, {
    ...{ mostBytes: whole.length, signal },
    onProgress: (bytes) => {
      if (bytes >= (4 - faults.length) * 10 * MOST_PIECE_BYTES) faults.shift()?.();
    },
  });
  await restarted;
  t.ok(whole.equals(came), 'whole');
  t.equal(faults.length, 0);
  t.equal(artefacts.cameBytes.get('mqtt'), whole.length, 'no piece was taken twice');

  const say = (link: MqttLink, to: string, retained = false): Promise<unknown> =>
    link.publish({ topic: to, body: to, qos: 1, priority: 'state', retained, expiryS: 5 }).catch(() => {});
  const attic = linkOf('attic');
  const elsewhere: string[] = [];
  attic.subscribe(down('attic', '#'), (message) => elsewhere.push(message.topic));
  attic.start();
  await until(() => attic.state.connected && manager.state.connected && door.state.connected);
  // Brokers of 3.1.1 say nothing of what is forbidden, or hang up: what counts is what is delivered.
  await say(attic, down('door', 'job/forged'));
  await say(attic, up('door', 'job/forged'));
  await until(() => attic.state.connected && manager.state.connected);
  await say(manager, down('door', 'job/job-1'), true);
  await say(manager, down('attic', 'job/job-2'));
  await until(() => heard.length > 0 && elsewhere.length > 0);
  t.same(
    [heard.map((message) => message.topic), elsewhere],
    [[down('door', 'job/job-1')], [down('attic', 'job/job-2')]],
  );
  heard.length = 0;
  front.cut();
  await until(() => !door.state.connected);
  await until(() => door.state.connected);
  await say(manager, down('door', 'job/job-3'));
  await until(() => heard.some((message) => message.topic.endsWith('job-3')));
  // RabbitMQ 3.10 keeps messages for subscriptions without wildcards alone: there a manager says open jobs again.
  if (kind === 'nats')
    t.ok(
      heard.some(({ topic: of, retained }) => of.endsWith('job-1') && retained),
      'a job is kept',
    );
  const stranger = linkOf('stranger');
  stranger.start();
  await until(() => stranger.state.fault !== null);
  t.notOk(stranger.state.connected, 'a certificate of the authority alone lets nobody in');
}

test('NATS', (t) => deliveries(t, 'nats'));
test('RabbitMQ', (t) => deliveries(t, 'rabbitmq'));
