import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { loadGatewayConfig } from '../src/config/gateway-config.js';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { Gateway } from '../src/gateway/gateway.js';
import { WorkerPool, type WorkerPoolOptions } from '../src/gateway/worker-pool.js';
import { callMessageSchema } from '../src/protocol/call-message.js';
import type { Transport } from '../src/protocol/engine-api.js';
import type { HealthView } from '../src/protocol/gateway-api.js';
import { GATEWAY_PRESENCE, topic, trunkTopic } from '../src/protocol/topics.js';
import { writeRtp } from '../src/rtp/rtp-packet.js';
import { Cloud } from './support/cloud.js';
import { freePort, type Heard, Site, until } from './support/site.js';

const LOOPBACK = '127.0.0.1';
const program = resolve(import.meta.dirname, '../src/bin/gateway-worker.js');
const badProgram = resolve(import.meta.dirname, 'support/bad-worker.js');
const common = { clock: systemClock, logger: silentLogger };

function somePorts(): { from: number; to: number } {
  const from = 30_000 + Math.floor(Math.random() * 9_000);
  return { from, to: from + 200 };
}

function somePool(t: Test, more: Partial<WorkerPoolOptions> = {}): WorkerPool {
  const limits = { initMs: 5_000, pingEveryMs: 100, pongWithinMs: 900, memoryBytes: 2 ** 30, ...more.limits };
  const rtp = { address: LOOPBACK, ports: somePorts() };
  const pool = new WorkerPool({ count: 2, program, rtp, ...common, ...more, limits });
  t.teardown(() => pool.stop());
  return pool;
}

/** A station's UDP socket, which notes the sequence numbers that it hears. */
class Party {
  readonly heard: number[] = [];
  #port = 0;
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('message', (datagram) => this.heard.push(datagram.readUInt16BE(2)));
  }

  static async at(t: Test): Promise<Party> {
    const socket = createSocket('udp4').bind(0, LOOPBACK);
    await once(socket, 'listening');
    t.teardown(() => socket.close());
    return new Party(socket);
  }

  get address(): Transport {
    return { address: LOOPBACK, port: this.#socket.address().port };
  }

  towards(port: number): this {
    this.#port = port;
    return this;
  }

  say(sequence: number, text?: Buffer): void {
    const rtp = { payloadType: 96, marker: false, timestamp: 960 * sequence, ssrc: 7, csrcs: [], extension: null };
    this.#socket.send(
      text ?? writeRtp({ ...rtp, sequence, payload: Buffer.alloc(60, sequence) }),
      this.#port,
      LOOPBACK,
    );
  }
}

/** A room of two parties, which both have heard the other. */
async function talking(t: Test, pool: WorkerPool, roomId: string): Promise<[Party, Party]> {
  const [one, two] = [await Party.at(t), await Party.at(t)];
  const legs = await pool.open(roomId, [
    { legId: 'one', remote: one.address },
    { legId: 'two', remote: null },
  ]);
  await pool.towards(roomId, 'two', two.address);
  one.towards(legs[0]?.port ?? 0);
  two.towards(legs[1]?.port ?? 0);
  await until(() => {
    one.say(1);
    two.say(1);
    return one.heard.length > 0 && two.heard.length > 0;
  });
  return [one, two];
}

test('a worker that is killed, or hangs: its rooms are back with their ports, the others do not notice', async (t) => {
  const pool = somePool(t);
  await until(() => pool.workers().every(({ ready }) => ready));
  const rooms = [
    ['room-0001', await talking(t, pool, 'room-0001')],
    ['room-0002', await talking(t, pool, 'room-0002')],
  ] as const;
  const placeOf = (roomId: string) => pool.rooms().find((room) => room.roomId === roomId);
  t.not(placeOf('room-0001')?.worker, placeOf('room-0002')?.worker, 'rooms are spread over workers');
  const pidOf = (roomId: string) => pool.workers()[placeOf(roomId)?.worker ?? -1]?.pid ?? 0;

  for (const [signal, why] of [
    ['SIGKILL', 'exit SIGKILL'],
    ['SIGSTOP', 'ping-lost'],
  ] as const) {
    await until(() => pool.workers().every(({ ready }) => ready));
    const [[hitId, hit], [otherId, other]] =
      (placeOf('room-0001')?.worker ?? 0) === (placeOf('room-0002')?.worker ?? 0) ? [rooms[0], rooms[0]] : rooms;
    const legs = placeOf(hitId)?.legs;
    const since = systemClock.nowMs();
    process.kill(pidOf(hitId), signal);
    if (signal === 'SIGKILL') {
      for (const party of other) party.heard.length = 0;
      const sayings = 20;
      for (let i = 0; i < sayings; i++) {
        other[0].say(100 + i);
        other[1].say(100 + i);
        await until(() => other.every(({ heard }) => heard.at(-1) === 100 + i));
      }
      t.pass(`${otherId} lost nothing`);
    }
    await until(() => pool.ends.get(why) === 1);
    for (const party of hit) party.heard.length = 0;
    await until(() => {
      hit[0].say(500);
      hit[1].say(500);
      return hit.every(({ heard }) => heard.includes(500));
    });
    const backMs = systemClock.nowMs() - since;
    t.ok(backMs < 1_500, `back after ${Math.round(backMs)} ms (${why})`);
    t.same(placeOf(hitId)?.legs, legs, 'the same ports, towards the same parties');
  }
});

test('a worker that never starts, is deaf, babbles or takes too much memory', async (t) => {
  const withMode = (mode: string, make: () => WorkerPool): WorkerPool => {
    process.env.ENTRYPHONE_TEST_WORKER = mode;
    try {
      return make();
    } finally {
      delete process.env.ENTRYPHONE_TEST_WORKER;
    }
  };
  const limits = { initMs: 300, pingEveryMs: 50, pongWithinMs: 300, memoryBytes: 2 ** 30 };
  const mute = withMode('mute', () => somePool(t, { count: 1, program: badProgram, limits }));
  await until(() => mute.ends.get('init-deadline') > 0);
  await t.rejects(mute.open('room-0001', []), { code: 'no-worker', remedy: /again/ });
  mute.stop();

  const patient = { ...limits, initMs: 5_000 };
  const deaf = withMode('deaf', () => somePool(t, { count: 1, program: badProgram, limits: patient }));
  await until(() => deaf.ends.get('ping-lost') > 0);
  deaf.stop();

  const babbling = withMode('babbling', () => somePool(t, { count: 1, program: badProgram, limits: patient }));
  await until(() => (babbling.workers()[0]?.refused ?? 0) >= 8);
  t.same(babbling.workers()[0]?.ready, true, 'what it says beside is counted, and nothing else');
  babbling.stop();

  const fat = somePool(t, { count: 1, limits: { ...patient, memoryBytes: 2 ** 20 } });
  await until(() => fat.ends.get('memory-limit') > 0);
  fat.stop();

  const pool = somePool(t, { count: 1 });
  await until(() => pool.isReady);
  const [one] = await talking(t, pool, 'room-0001');
  for (const rubbish of ['', 'GET / HTTP/1.1', 'x'.repeat(3_000)]) one.say(0, Buffer.from(rubbish));
  await until(async () => {
    const refused = (await pool.figures('room-0001'))[0]?.refused ?? {};
    return (refused['not-media'] ?? 0) >= 2 && (refused['datagram-too-large'] ?? 0) >= 1;
  });
  await t.rejects(pool.open('room-0001', []), { code: 'room-taken' });
  await t.rejects(pool.towards('room-0001', 'nobody', one.address), { code: 'leg-unknown' });
  await pool.close('room-0001');
  await t.rejects(pool.figures('room-0001'), { code: 'room-unknown' });
});

const SITES = {
  gate: { door: { name: 'Front door', numbers: ['1'], mayCall: ['indoor@home'] } },
  home: { indoor: { name: 'Kitchen', numbers: ['2'] }, attic: { name: 'Attic', numbers: [] } },
} as const;

async function gatewayConfig(t: Test, cloud: Cloud) {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-gateway-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const { ca, cert, key } = cloud.pki.credentialsOf('gateway');
  const file = join(dir, 'gateway.yaml');
  const sites = Object.fromEntries(Object.entries(SITES).map(([site, stations]) => [site, { stations }]));
  const rtp = { address: LOOPBACK, ports: somePorts() };
  const config = { http: { port: await freePort() }, rtp, mqtt: { url: cloud.url, ca, cert, key }, sites };
  writeFileSync(file, JSON.stringify(config));
  return { config: loadGatewayConfig(file), file };
}

test('calls between sites, their rooms, and what is refused; a gateway that vanishes ends them', async (t) => {
  const cloud = await Cloud.start(['gate', 'home', 'other']);
  t.teardown(() => cloud.stop());
  const { config } = await gatewayConfig(t, cloud);
  const gateway = await Gateway.start({ config, ...common });
  t.teardown(() => gateway.close());
  const stations = (site: 'gate' | 'home') =>
    Object.fromEntries(
      Object.entries(SITES[site]).map(([id, { name, numbers }]) => [id, { name, numbers: [...numbers] }]),
    );
  const [gate, home] = await Promise.all(
    (['gate', 'home'] as const).map((site) => Site.start({ site, stations: stations(site), cloud: cloud.of(site) })),
  );
  if (gate === undefined || home === undefined) throw new Error('no sites');
  t.teardown(() => Promise.all([gate.stop(), home.stop()]));
  const station = async (site: Site, at: string, id: string) => {
    const { link, heard } = await site.connected(id, [topic(at, id, 'down', 'call/+')]);
    const online = JSON.stringify({ v: 1, id: 'boot-0001', online: true, release: 'test', at: 0 });
    await link.publish({
      topic: topic(at, id, 'up', 'presence'),
      body: online,
      retained: true,
      qos: 1,
      priority: 'call',
    });
    const say = (content: { callId: string; [key: string]: unknown }) => {
      const message = { v: 1, id: `message-${Math.random()}`, seq: 0, from: id, ...content };
      const to = topic(at, id, 'up', `call/${content.callId}`);
      return link.publish({ topic: to, body: JSON.stringify(message), qos: 1, priority: 'call' });
    };
    return { link, heard, say };
  };
  const [door, indoor, attic] = [
    await station(gate, 'gate', 'door'),
    await station(home, 'home', 'indoor'),
    await station(home, 'home', 'attic'),
  ];
  const next = async ({ heard }: { heard: Heard[] }) => {
    await until(() => heard.length > 0);
    return callMessageSchema.parse(JSON.parse(heard.shift()?.text ?? ''));
  };
  const api = async <T>(path: string): Promise<T> =>
    (await fetch(`http://${LOOPBACK}:${gateway.httpPort}${path}`)).json() as T;
  await until(async () => {
    const online = (await api<{ online: boolean }[]>('/stations')).every((one) => one.online);
    return online && (await api<HealthView>('/health')).ok;
  });

  const parties = [await Party.at(t), await Party.at(t)] as const;
  const sdpOf = ({ port }: Transport) =>
    `v=0\r\no=- 1 1 IN IP4 ${LOOPBACK}\r\ns=-\r\nc=IN IP4 ${LOOPBACK}\r\nt=0 0\r\nm=audio ${port} RTP/AVP 96\r\n` +
    'a=rtpmap:96 opus/48000/2\r\na=rtcp-mux\r\na=x-entryphone-path:udp mqtt\r\n';
  const portIn = (sdp: string) => Number(/m=audio (\d+)/.exec(sdp)?.[1]);
  const invite = { callId: 'call-0001', type: 'invite', fromName: 'Front door', ringMs: 30_000 };
  // A site's switchboard hears of the gateway by the bridge, a moment after the gateway hears of the site.
  let offer: Awaited<ReturnType<typeof next>> | undefined;
  for (let tries = 0; offer === undefined; tries++) {
    await door.say({ ...invite, callId: `call-0001-${tries}`, to: 'KITCHEN', sdp: sdpOf(parties[0].address) });
    await until(() => door.heard.length > 0 || indoor.heard.length > 0);
    if (indoor.heard.length > 0) offer = await next(indoor);
    else door.heard.length = 0;
  }
  t.match(offer, { type: 'invite', from: 'door@gate', to: 'indoor' });
  const { callId } = offer;
  const sdp = 'sdp' in offer ? offer.sdp : '';
  t.ok(portIn(sdp) >= config.rtp.ports.from && portIn(sdp) <= config.rtp.ports.to, "the offer names the room's port");
  t.match(sdp, /a=x-entryphone-path:udp mqtt/);
  await indoor.say({ callId, type: 'answer', to: 'door@gate', sdp: sdpOf(parties[1].address) });
  const answer = await next(door);
  t.match(answer, { type: 'answer', from: 'indoor@home', to: 'door' });
  parties[1].towards(portIn(sdp));
  parties[0].towards(portIn('sdp' in answer ? answer.sdp : ''));
  await until(() => {
    for (const party of parties) party.say(4_711);
    return parties.every(({ heard }) => heard.includes(4_711));
  });
  t.match(await api('/rooms'), [{ roomId: callId, legs: [{ legId: 'door@gate' }, { legId: 'indoor@home' }] }]);

  // Media inside MQTT, from site to site, for this call alone.
  const media = await Promise.all([gate.connected('door--media'), home.connected('indoor--media', ['entryphone/#'])]);
  const [doorMedia, indoorMedia] = media;
  await until(() => {
    doorMedia.link.sendNow(topic('gate', 'door', 'up', 'media/call-9999'), Buffer.from('stray'));
    doorMedia.link.sendNow(topic('gate', 'door', 'up', `media/${callId}`), Buffer.from('packets'));
    return indoorMedia.heard.length > 0;
  });
  t.match(indoorMedia.heard[0], { topic: topic('home', 'indoor', 'down', `media/${callId}`), text: 'packets' });
  t.notOk(indoorMedia.heard.some(({ text }) => text === 'stray'));

  // Who may not call, who is not known, who forges: refused; proved by what is delivered.
  const refusals: [to: string, reason: string][] = [
    ['attic@home', 'not-allowed'],
    ['nobody@home', 'unknown'],
  ];
  for (const [index, [to, reason]] of refusals.entries()) {
    await door.say({ ...invite, callId: `call-100${index}`, to, sdp });
    t.match(await next(door), { type: 'reject', callId: `call-100${index}`, reason }, to);
  }
  const forger = await cloud.connected('site-other', ['entryphone/#']);
  const forged = { v: 1, id: 'message-9', seq: 9, callId, type: 'bye', reason: 'forged' };
  const forge = (name: string, message: object) =>
    forger.link.publish({ topic: name, body: JSON.stringify(message), qos: 1, priority: 'call' }).catch(() => {});
  await forge(trunkTopic('home', 'down', `call/${callId}`), { ...forged, from: 'door@gate', to: 'indoor' });
  await forge(trunkTopic('gate', 'up', `call/${callId}`), { ...forged, from: 'door', to: 'indoor@home' });
  await forge(GATEWAY_PRESENCE, { v: 1, id: 'boot-0002', online: false, release: 'forged', at: 0 });
  await forge(trunkTopic('other', 'up', `call/${callId}`), { ...forged, from: 'door', to: 'indoor@home' });
  await forge(trunkTopic('other', 'up', `call/${callId}`), { ...forged, from: 'door@gate', to: 'indoor@home' });
  await attic.say({ ...forged, to: 'door@gate' });
  await until(async () => ((await api<HealthView>('/health')).refused['unknown-site'] ?? 0) >= 2);
  await indoor.say({ callId, type: 'update', to: 'door@gate', sdp: sdpOf(parties[1].address) });
  t.match(await next(door), { type: 'update', from: 'indoor@home' }, 'the call goes on, and nothing forged came');
  t.same(indoor.heard, []);
  t.notOk(
    forger.heard.some(({ topic: name }) => !name.includes('/gateway/')),
    'a foreign site hears no trunk but its own',
  );
  t.match(home.host.switchboard.figures().refused, { 'not-a-party': 1 });

  await indoor.say({ callId, type: 'bye', to: 'door@gate', reason: 'hung-up' });
  t.match(await next(door), { type: 'bye', from: 'indoor@home' });
  await until(async () => (await api<object[]>('/rooms')).length === 0);

  // A call within the site and one between sites, as the gateway vanishes.
  await door.say({ ...invite, callId: 'call-2000', to: '2', sdp });
  t.match(await next(indoor), { type: 'invite' });
  await indoor.say({ callId: 'call-2000', type: 'answer', to: 'door@gate', sdp });
  t.match(await next(door), { type: 'answer' });
  await attic.say({ ...invite, callId: 'call-3000', to: 'Kitchen', sdp });
  t.match(await next(indoor), { type: 'invite', callId: 'call-3000', from: 'attic' });
  await gateway.close();
  t.match(await next(door), { type: 'bye', callId: 'call-2000', from: 'switchboard', reason: 'gateway-lost' });
  t.match(await next(indoor), { type: 'bye', callId: 'call-2000', reason: 'gateway-lost' });
  await indoor.say({ callId: 'call-3000', type: 'answer', to: 'attic', sdp });
  t.match(await next(attic), { type: 'answer', callId: 'call-3000' }, 'within the site nobody notices');
  await door.say({ ...invite, callId: 'call-4000', to: 'Kitchen', sdp });
  t.match(await next(door), { type: 'reject', reason: 'unreachable' });

  const again = await Gateway.start({ config, ...common });
  t.teardown(() => again.close());
  await until(() => again.router.stations().every(({ online }) => online) && again.pool.isReady);
  await until(() => gate.host.switchboard.reachesElsewhere === true);
  await door.say({ ...invite, callId: 'call-5000', to: '2', sdp });
  t.match(await next(indoor), { type: 'invite', callId: 'call-5000' }, 'a gateway that is back takes calls again');
  await Promise.all([indoor.link.close(), attic.link.close()]);
  await home.stop();
  t.match(await next(door), { type: 'bye', callId: 'call-5000', reason: 'site-lost' });
});

test('the HTTP API: rooms, an OpenAPI description, and every fault by name', async (t) => {
  const cloud = await Cloud.start(['gate', 'home']);
  t.teardown(() => cloud.stop());
  const { config, file } = await gatewayConfig(t, cloud);
  const gateway = await Gateway.start({ config, ...common });
  t.teardown(() => gateway.close());
  const base = `http://${LOOPBACK}:${gateway.httpPort}`;
  const ask = async (path: string, init: RequestInit = {}) => {
    const response = await fetch(`${base}${path}`, init);
    return { status: response.status, body: (await response.json()) as Record<string, unknown> };
  };
  const post = (body: string, type = 'application/json') =>
    ask('/rooms', { method: 'POST', body, headers: { 'content-type': type } });
  await until(async () => (await ask('/health')).body.ok === true);

  const legs = [{ legId: 'one', remote: { address: LOOPBACK, port: 9_000 } }, { legId: 'two' }];
  const made = await post(JSON.stringify({ legs }));
  t.match(made, { status: 200, body: { worker: Number, legs: [{ legId: 'one', port: Number }, { remote: null }] } });
  const { roomId } = made.body;
  t.match(await ask(`/rooms/${roomId}`), { status: 200, body: { roomId, legs: [{ forwarded: 0 }, { legId: 'two' }] } });
  t.match(await ask(`/rooms/${roomId}`, { method: 'DELETE' }), { status: 200, body: { roomId } });
  t.match(await ask(`/rooms/${roomId}`), { status: 404, body: { code: 'room-unknown' } });

  const faults: [name: string, body: string][] = [
    ['not JSON', '{"legs":['],
    ['nothing', ''],
    ['one leg', JSON.stringify({ legs: legs.slice(1) })],
    ['a leg twice', JSON.stringify({ legs: [legs[0], legs[0]] })],
    [
      'a name for an address',
      JSON.stringify({ legs: [legs[1], { legId: 'x', remote: { address: 'host', port: 1 } }] }),
    ],
    ['a key that is not known', JSON.stringify({ legs, admin: true })],
    ['a number for a list', '{"legs":7}'],
  ];
  for (const [name, body] of faults) t.match(await post(body), { status: 400, body: { code: 'bad-request' } }, name);
  t.match(await post(`{"legs":"${'x'.repeat(100_000)}"}`), { status: 413 });
  t.match(await post('<xml/>', 'text/xml'), { status: 415 });
  t.match(await ask('/rooms/UP..'), { status: 400 });
  t.match(await ask('/nothing'), { status: 404, body: { code: 'route-unknown' } });
  t.match((await ask('/openapi.json')).body, {
    openapi: '3.1.0',
    paths: { '/rooms': { post: Object }, '/health': Object },
  });
  t.match(
    await new Promise((resolve, reject) => {
      get(`${base}/health`, { headers: { host: 'evil.example' } }, (response) => resolve(response.statusCode)).on(
        'error',
        reject,
      );
    }),
    403,
    'a foreign name in Host',
  );
  await t.rejects(Gateway.start({ config, ...common }), { code: 'port-taken' });
  writeFileSync(
    file,
    'rtp: { address: nowhere }\nmqtt: {}\nsites: { gate: { stations: { door: { mayCall: [x] } } } }\n',
  );
  t.throws(() => loadGatewayConfig(file), { code: 'config-invalid', faults: { length: 7 } });
});
