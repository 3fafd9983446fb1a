import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { MqttPacketPath } from '../src/adapters/mqtt/mqtt-packet-path.js';
import { frameSamples } from '../src/audio/frame.js';
import { configSchema } from '../src/config/schema.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { silentLogger } from '../src/core/logger.js';
import { topic } from '../src/protocol/topics.js';
import { framePackets } from '../src/rtp/framing.js';
import { isStun, parseStunBinding, writeStunRequest, writeStunResponse } from '../src/rtp/stun.js';
import { readInbox } from '../src/station/call-inbox.js';
import { EngineClient, type EngineEvents, type OpenedSession, type SessionEnd } from '../src/station/engine-client.js';
import { callCheck } from '../src/station/self-test-checks.js';
import { Signalling } from '../src/station/signalling.js';
import { TestCall } from '../src/station/test-call.js';
import { agreement, RATE_HZ, started } from './support/engine.js';
import { seededRandom } from './support/random.js';
import { freeUdpPort, Site, until } from './support/site.js';
import { TcpFront } from './support/tcp-front.js';

const CALL = 'call-0001';
const up = (station: string, path: string): string => topic('home', station, 'up', path);
const down = (station: string, path: string): string => topic('home', station, 'down', path);

async function someSite(t: Test): Promise<Site> {
  const site = await Site.start();
  t.teardown(() => site.stop());
  return site;
}

/** Door and panel are in an answered call, as the switchboard sees it. */
async function inCall(site: Site): Promise<void> {
  const [door, panel] = [
    await site.connected('door', [down('door', 'call/+')]),
    await site.connected('panel', [down('panel', 'call/+')]),
  ];
  const presence = JSON.stringify({ v: 1, id: 'boot-0001', online: true, release: 'test', at: 0 });
  await panel.link.publish({
    topic: up('panel', 'presence'),
    body: presence,
    retained: true,
    qos: 1,
    priority: 'call',
  });
  const say = (from: typeof door, station: string, content: object): Promise<void> => {
    const message = { v: 1, id: 'message-1', seq: 0, callId: CALL, from: station, to: 'panel', sdp: 'v=0', ...content };
    return from.link.publish({
      topic: up(station, `call/${CALL}`),
      body: JSON.stringify(message),
      qos: 1,
      priority: 'call',
    });
  };
  await say(door, 'door', { type: 'invite', fromName: 'Door', ringMs: 30_000 });
  await until(() => panel.heard.length > 0);
  await say(panel, 'panel', { type: 'answer' });
  await until(() => door.heard.length > 0);
}

test('STUN Binding requests and responses (RFC 8489); anything else is refused, nothing throws', async (t) => {
  const transaction = Buffer.from('b7e7a701bc34d686fa87dfae', 'hex');
  const request = writeStunRequest(transaction);
  t.same(parseStunBinding(request), { kind: 'request', transaction });
  // The mapped addresses of RFC 5769, 2.2 and 2.3.
  const mapped = (address: string) =>
    writeStunResponse(transaction, { address, port: 32_853 }).subarray(20).toString('hex');
  t.equal(mapped('192.0.2.1'), '002000080001a147e112a643');
  t.equal(mapped('2001:db8:1234:5678:11:2233:4455:6677'), '002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9');
  const response = writeStunResponse(transaction, { address: '::ffff:192.0.2.1', port: 9 });
  t.same(parseStunBinding(response), { kind: 'response', transaction });
  t.notOk(isStun(Buffer.from([0x80, 96, ...new Array(30).fill(0)])), 'RTP is none');
  const random = seededRandom(8_489);
  for (let round = 0; round < 3_000; round++) {
    const bad = Buffer.from(round % 2 === 0 ? request : response);
    bad[Math.floor(random() * bad.length)] = Math.floor(random() * 256);
    const cut = bad.subarray(0, Math.floor(random() * (bad.length + 1)));
    if (cut.length < bad.length && parseStunBinding(cut) !== null) t.fail(`round ${round}`);
  }
});

test('where UDP is blocked two engines talk inside MQTT, in the same session', async (t) => {
  const site = await someSite(t);
  await inCall(site);
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-media-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const clock = new ManualClock();
  const engineOf = async (id: string) => {
    const mqtt = { url: `mqtts://127.0.0.1:${site.port}`, ca: 'none', cert: 'none', key: 'none' };
    return started(dir, id, clock, await freeUdpPort(), { mqtt });
  };
  const [door, panel] = [await engineOf('door'), await engineOf('panel')];
  t.teardown(() => Promise.all([door.engine.close(), panel.engine.close()]));
  // Somebody who takes packets and never answers, as a firewall does.
  const blocked = createSocket('udp4').bind(0, '127.0.0.1');
  await once(blocked, 'listening');
  t.teardown(() => blocked.close());
  const nowhere = { address: '127.0.0.1', port: blocked.address().port };
  const both = [door, panel];
  const sessionId = CALL;
  const start = (one: typeof door, more: object) =>
    one.station.call('session.start', { sessionId, remote: nowhere, ...agreement, ...more });
  const figures = async (one: typeof door) => (await one.station.call('engine.status', {})).sessions[0];
  const talk = async (frames: number) => {
    for (let i = 0; i < frames; i++) {
      clock.advance(10);
      for (const { microphone } of both) {
        const samples = Int16Array.from(
          { length: frameSamples(RATE_HZ) },
          (_, k) => 8_000 * Math.sin(0.2 * (i * 160 + k)),
        );
        microphone.listener?.frame({ samples, rateHz: RATE_HZ, capturedAtMs: clock.nowMs() });
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  };

  const turning = async (what: () => Promise<boolean>) => {
    while (!(await what())) await talk(10);
  };
  const areOn = (path: 'udp' | 'mqtt') => async () => {
    const [a, b] = [await figures(door), await figures(panel)];
    return a?.path === path && b?.path === path;
  };
  const moves = ({ told }: typeof door) => told.filter((text) => text.startsWith('session.path'));
  const moved = (path: string, reason: string) => `session.path ${JSON.stringify({ sessionId, path, reason })}`;

  for (const one of both) {
    await one.station.call('session.open', { sessionId });
    await start(one, { path: 'udp', provePath: true });
  }
  for (const one of both) await t.rejects(start(one, { path: 'mqtt' }), { code: 'credentials-missing' });
  for (const [id, one] of Object.entries({ door, panel })) {
    await start(one, { path: 'udp', provePath: true });
    t.match(await figures(one), { path: 'udp', migrations: 0 }, 'without an identity there is UDP alone');
    const { ca, cert, key } = site.host.credentialsOf(`${id}--media`);
    const pem = (path: string) => readFileSync(path, 'utf8');
    await one.station.call('mqtt.identity', { ca: pem(ca), cert: pem(cert), key: pem(key) });
    await start(one, { path: 'udp', provePath: true });
  }
  await turning(areOn('mqtt'));
  await until(() => both.every((one) => moves(one).length === 1));
  for (const one of both) t.same(moves(one), [moved('mqtt', 'unproved')], 'it moves by itself');
  const before = await figures(door);
  for (const one of both) {
    await turning(async () => ((await figures(one))?.received ?? 0) >= 50);
    t.match(await figures(one), { path: 'mqtt', migrations: 1, probeRoundTripMs: { udp: null, mqtt: Number } });
    t.same((await figures(one))?.refused, {});
  }
  t.match(await figures(door), { ssrc: before?.ssrc, remoteSsrc: (await figures(panel))?.ssrc });
  t.ok(((await figures(door))?.sent ?? 0) > (before?.sent ?? 0), 'the figures go on');
  t.same(site.host.mediaSwitch.refused.all(), {}, 'the switch moved all of it');

  for (const one of both) await start(one, { path: 'mqtt', provePath: true });
  const offers = await Promise.all(both.map(({ station }) => station.call('session.open', { sessionId })));
  await start(door, { path: 'mqtt', provePath: true, remote: offers[1]?.local });
  await start(panel, { path: 'mqtt', provePath: true, remote: offers[0]?.local });
  await turning(areOn('udp'));
  await talk(50);
  for (const one of both) {
    one.told.length = 0;
    t.match(
      await figures(one),
      { path: 'udp', probeRoundTripMs: { udp: Number } },
      'UDP that goes both ways is proved',
    );
  }

  await start(panel, { path: 'mqtt', provePath: true, remote: offers[0]?.local });
  t.match(await figures(panel), { path: 'mqtt' }, 'told that the far end hears it no longer, it leaves at once');
  await turning(areOn('udp'));
  await until(() => moves(panel).length === 2);
  t.same(moves(panel), [moved('mqtt', 'far-end'), moved('udp', 'returned')], 'and comes back when UDP has proved good');
  // What the slower path still carries arrives; a machine that is busy may stall TCP, and then the oldest go.
  const share = async (one: typeof door) => {
    const { lost = 1, received = 0 } = (await figures(one)) ?? {};
    return lost / (lost + received);
  };
  for (const one of both) await turning(async () => (await share(one)) < 0.02);
  t.match(await figures(panel), { ssrc: offers[1]?.ssrc, remoteSsrc: offers[0]?.ssrc });
  t.match(await figures(door), { ssrc: offers[0]?.ssrc, remoteSsrc: offers[1]?.ssrc });

  // A station that comes back just when its session is given up, while its connection to the broker still ends.
  const [closed, again] = await Promise.all([
    door.station.call('session.close', { sessionId }),
    door.station.call('session.open', { sessionId }),
    start(door, { path: 'udp', provePath: true, remote: offers[1]?.local }),
  ]);
  t.not(again.ssrc, closed.figures.ssrc, 'what is asked for while it is being closed is another session');
  t.match(await figures(door), { ssrc: again.ssrc });
  await turning(async () => ((await figures(door))?.received ?? 0) >= 10);
  for (const one of both) await one.station.call('session.close', { sessionId });
  for (const one of both)
    await t.rejects(one.station.call('session.close', { sessionId }), { code: 'session-unknown' });
  await Promise.all(both.map(({ engine }) => engine.close()));
  t.equal(clock.timers, 0, 'nothing is left to be done');
});

/** A station's end of its media process, behind a firewall: it is told a port that takes packets and never answers. */
class WalledEngine extends EngineClient {
  wall: { readonly address: string; readonly port: number } | null = null;

  override async openSession(sessionId: string, end: SessionEnd): Promise<OpenedSession> {
    const opened = await super.openSession(sessionId, end);
    return this.wall === null ? opened : { ...opened, local: this.wall };
  }
}

test('a test call goes inside MQTT where UDP is blocked, as any call; the host calls its own echo so', {
  timeout: 60_000,
}, async (t) => {
  const site = await Site.start({ echo: { enabled: true, number: '*9' } });
  t.teardown(() => site.stop());
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-echo-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const blocked = createSocket('udp4').bind(0, '127.0.0.1');
  await once(blocked, 'listening');
  t.teardown(() => blocked.close());
  const common = { clock: systemClock, logger: silentLogger };

  const stationOf = async (id: 'door' | 'panel') => {
    const mqtt = { url: `mqtts://127.0.0.1:${site.port}`, ca: 'none', cert: 'none', key: 'none' };
    const { engine: process, station } = await started(dir, id, systemClock, await freeUdpPort(), { mqtt });
    const { ca, cert, key } = site.host.credentialsOf(`${id}--media`);
    const pem = (path: string) => readFileSync(path, 'utf8');
    const calls: TestCall[] = [];
    const moves: string[] = [];
    const events: EngineEvents = {
      ...{ onCapture: () => {}, onHeard: () => {}, onSilent: () => {}, onSlow: () => {}, onQuality: () => {} },
      ...{ onDigit: () => {}, onClipEnded: () => {}, onLog: () => {}, onLost: () => {} },
      onMoved: (sessionId, path, reason) => {
        moves.push(`${path} ${reason}`);
        for (const call of calls) call.moved(sessionId, path);
        if (id === 'panel') site.host.moved(sessionId, path);
      },
    };
    const identity = { ca: pem(ca), cert: pem(cert), key: pem(key) };
    const engine = new WalledEngine({ path: join(dir, id, 'media.sock'), identity, ...common, events });
    const config = configSchema.parse({
      station: { id, name: id, site: 'home' },
      ...{ board: 'none', audio: { capture: 'none', playback: 'none' }, rtp: { address: '127.0.0.1' }, mqtt },
      ...{ media: { identity: { cert: 'none', key: 'none' } }, state: 'none', run: 'none' },
    });
    const { link } = site.link(id);
    const signalling = new Signalling({ link, site: 'home', station: id, clock: systemClock });
    readInbox({
      ...{ link, site: 'home', station: id, refused: new Counters<string>(), ...common },
      onCall: (message) => void calls.some((call) => call.take(message)),
      ...{ onPresence: () => {}, onCommand: () => {} },
    });
    link.start();
    await until(() => link.state.connected);
    t.teardown(async () => {
      engine.close();
      station.close();
      await process.close();
    });
    const testCall = async () => {
      const call = new TestCall({ config, signalling, engine, target: '*9', ...common });
      calls.push(call);
      return callCheck(await call.done);
    };
    return { id, engine, config, testCall, moves };
  };
  const [door, panel] = [await stationOf('door'), await stationOf('panel')];
  site.host.offerEcho({ config: panel.config, engine: panel.engine, ...common });

  const wall = { address: '127.0.0.1', port: blocked.address().port };
  for (const { engine } of [door, panel]) engine.wall = wall;
  const both = await Promise.all([door.testCall(), panel.testCall()]);
  for (const check of both) {
    t.match(check, { outcome: 'pass', reason: 'heard', text: /inside MQTT, not by UDP/, figures: { path: 'mqtt' } });
    t.ok(Number(check.figures.mos) > 3.5, `MOS ${check.figures.mos}`);
  }
  const all = [...door.moves, ...panel.moves];
  t.same(
    all.filter((move) => !/^mqtt (unproved|far-end)$/.test(move)),
    [],
  );
  t.same([door.moves.length, panel.moves.length], [1, 3], 'two echoes and its own call');
});

test('when TCP stalls the oldest packets go, counted, and the delay is bounded afterwards', async (t) => {
  const site = await someSite(t);
  const front = await TcpFront.start(site.port);
  t.teardown(() => front.close());
  const clock = new ManualClock();
  const { link } = site.link('door--media', [], { port: front.port, clock });
  link.start();
  const far = await site.connected('switchboard--media');
  const agesMs: number[] = [];
  const ignore = { refused: new Counters<string>(), clock, topic: '' };
  const listener = {
    datagram: (datagram: Uint8Array) => agesMs.push(clock.nowMs() - Buffer.from(datagram).readUInt32BE(0)),
    expects: () => true,
  };
  const arriving = new MqttPacketPath({ ...ignore, link: far.link, listener });
  far.link.subscribe(up('door', 'media/+'), ({ body }) => arriving.message(body, 0));
  const refused = new Counters<string>();
  const path = new MqttPacketPath({
    link,
    topic: up('door', `media/${CALL}`),
    clock,
    refused,
    listener: { datagram: () => {}, expects: () => true },
  });
  await until(() => link.state.connected);
  const say = () => {
    const datagram = Buffer.alloc(80);
    datagram.writeUInt32BE(clock.nowMs(), 0);
    path.send(datagram);
    clock.advance(20);
  };
  /** A packet that was just said has come: all that was under way has, too. */
  const caughtUp = () =>
    until(() => {
      say();
      return (agesMs.at(-1) ?? Infinity) <= 100;
    });
  await caughtUp();
  t.same(refused.all(), {});

  front.stall();
  for (let i = 0; i < 500; i++) {
    say();
    await new Promise((resolve) => setImmediate(resolve));
  }
  const dropped = refused.get('stalled');
  t.ok(dropped >= 450, `${dropped} of 500 were dropped: those of the last second at most are still to come`);
  agesMs.length = 0;
  front.release();
  await caughtUp();
  t.ok(agesMs.length > 1, 'what was in the sockets and what waited came first');
  t.ok(agesMs.filter((ageMs) => ageMs > 1_000).length < 50);
  await path.close();
});

test('media identities reach media topics alone, and media is theirs alone: proved by delivery', async (t) => {
  const site = await someSite(t);
  await inCall(site);
  const switchboard = await site.connected('switchboard', ['entryphone/#'], { clientId: 'witness' });
  const mediaBoard = await site.connected('switchboard--media', ['entryphone/#'], { clientId: 'media-witness' });
  const panel = await site.connected('panel', ['entryphone/#'], { clientId: 'panel-2' });
  const panelMedia = await site.connected('panel--media', ['entryphone/#']);
  const { link: door } = await site.connected('door', [], { clientId: 'door-2' });
  const { link: doorMedia } = await site.connected('door--media');
  const message = framePackets([Buffer.alloc(20, 0x80)]);
  const quietly = (link: typeof door, name: string) =>
    link.publish({ topic: name, body: message, qos: 1, priority: 'call' }).catch(() => {});

  for (const [link, names] of [
    [door, [up('door', `media/${CALL}`), down('panel', `media/${CALL}`), up('panel', `media/${CALL}`)]],
    [
      doorMedia,
      [
        up('door', 'call/call-0002'),
        up('door', 'presence'),
        up('panel', `media/${CALL}`),
        down('panel', `media/${CALL}`),
      ],
    ],
    [switchboard.link, [down('panel', `media/${CALL}`)]],
  ] as const) {
    for (const name of names) await quietly(link, name);
  }
  for (const session of ['call-0009', 'call-0008']) doorMedia.sendNow(up('door', `media/${session}`), message);
  doorMedia.sendNow(up('door', `media/${CALL}`), message);
  await until(() => panelMedia.heard.length > 0);
  // Acknowledged and delivered in order: what was to come before would have come.
  await door.publish({ topic: up('door', 'evt/last'), body: '{}', qos: 1, priority: 'call' });
  await until(() => switchboard.heard.some(({ topic: name }) => name.endsWith('evt/last')));
  const media = (heard: typeof panel.heard) => heard.map((one) => one.topic).filter((name) => name.includes('/media/'));
  t.same(media(panelMedia.heard), [down('panel', `media/${CALL}`)], 'one message, of the live call');
  t.same(panelMedia.heard.length, 1, 'and nothing but media');
  t.same(media(panel.heard), [], 'the station process hears no media');
  t.same(media(switchboard.heard), [], 'nor does the switchboard');
  t.same(
    [...new Set(mediaBoard.heard.map((one) => one.topic))].sort(),
    [CALL, 'call-0008', 'call-0009'].map((session) => up('door', `media/${session}`)),
    'the switch hears what the media identity sent, and nothing in its name',
  );
  t.notOk(switchboard.heard.some(({ topic: name }) => name === up('door', 'call/call-0002')));
  t.same(site.host.mediaSwitch.refused.all(), { 'no-live-call': 2 });
});
