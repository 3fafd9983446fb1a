import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { loadGatewayConfig } from '../src/config/gateway-config.js';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { Gateway } from '../src/gateway/gateway.js';
import { callMessageSchema } from '../src/protocol/call-message.js';
import type { Transport } from '../src/protocol/engine-api.js';
import type { HealthView } from '../src/protocol/gateway-api.js';
import { GATEWAY_PRESENCE, topic, trunkTopic } from '../src/protocol/topics.js';
import { Cloud } from './support/cloud.js';
import { LOOPBACK, Party, somePorts } from './support/party.js';
import { freePort, type Heard, Site, until } from './support/site.js';

const common = { clock: systemClock, logger: silentLogger };

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
  const figures = await (await fetch(`http://${LOOPBACK}:${gateway.httpPort}/metrics`)).text();
  t.match(figures, new RegExp(`^entryphone_gateway_room\\{call_id="${callId}",worker="[01]"\\} 1$`, 'm'));
  t.match(figures, /^entryphone_gateway_datagrams_forwarded_total\{worker="[01]"\} [1-9]/m);
  t.match(figures, 'entryphone_gateway_stations{online="true"} 3\n');
  t.match(figures, 'entryphone_gateway_mqtt_connected{link="call"} 1\n');
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
    paths: { '/rooms': { post: Object }, '/health': Object, '/metrics': { get: Object } },
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
