import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { test } from 'tap';
import { MqttLink, type Publication, type SendPriority } from '../src/adapters/mqtt/mqtt-link.js';
import { matchesFilter } from '../src/adapters/mqtt/topic-filter.js';
import { ensureSitePki } from '../src/adapters/pki/site-pki.js';
import { Outbox } from '../src/adapters/sqlite/outbox.js';
import { systemClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { stationEventSchema } from '../src/protocol/station-event.js';
import { topic } from '../src/protocol/topics.js';
import { OutboxSender } from '../src/station/outbox-sender.js';
import { freePort, Site, until } from './support/site.js';
import { TcpFront } from './support/tcp-front.js';

const up = (station: string, path: string): string => topic('home', station, 'up', path);
const down = (station: string, path: string): string => topic('home', station, 'down', path);
const EVERYTHING = [topic('home', '+', 'up', '#')];

function message(topicName: string, body: string, priority: SendPriority = 'state', expiryS?: number): Publication {
  return { topic: topicName, body, qos: 1, priority, ...(expiryS === undefined ? {} : { expiryS }) };
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'done',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );
}

let site: Site;
test('a site starts with a broker of its own', async (t) => {
  site = await Site.start();
  t.same(site.host.broker.state, { running: true, fault: null });
});

test('a station reads and writes its own topics, and nobody else can', async (t) => {
  const watch = await site.connected('switchboard', EVERYTHING, { clientId: 'watch' });
  const door = await site.connected('door', [down('door', '#')]);
  const thief = await site.connected('attic', [down('door', '#'), up('door', '#'), '#']);
  t.equal(door.link.state.protocol, '5');

  await watch.link.publish(message(down('door', 'call/x'), 'for the door'));
  await watch.link.publish(message(down('attic', 'call/end'), 'for the attic'));
  await until(() => door.heard.length > 0 && thief.heard.length > 0);
  t.same(
    thief.heard.map((heard) => heard.text),
    ['for the attic'],
    'reads its own alone',
  );

  t.equal(await codeOf(thief.link.publish(message(up('door', 'evt/x'), 'forged'))), 'not-authorised');
  t.equal(await codeOf(thief.link.publish(message(down('door', 'call/x'), 'forged'))), 'not-authorised');
  t.equal(await codeOf(thief.link.publish(message('entryphone/v1/other/d/attic/up/evt/x', 'x'))), 'not-authorised');
  await thief.link.publish(message(up('attic', 'evt/end'), 'own'));
  await watch.link.publish(message(down('door', 'call/end'), 'end'));
  await until(() => watch.heard.some((heard) => heard.text === 'own') && door.heard.length > 1);
  t.notOk([...watch.heard, ...door.heard].some((heard) => heard.text === 'forged'));
  for (const made of [watch, door, thief]) await made.link.close();
});

test('the link itself refuses what can not be sent', async (t) => {
  const { link } = await site.connected('door');
  t.equal(await codeOf(link.publish(message('a/+/b', 'x'))), 'bad-topic');
  t.equal(await codeOf(link.publish(message(up('door', 'evt/x'), 'x'.repeat(65_537)))), 'too-large');
  const mustBeHeard = { ...message(up('door', 'evt/x'), 'is anybody there?'), mustBeHeard: true };
  t.equal(await codeOf(link.publish(mustBeHeard)), 'unheard');
  t.equal(await codeOf(link.publish(message(up('door', 'evt/x'), 'never mind'))), 'done');
  const { link: listener } = await site.connected('switchboard', EVERYTHING, { clientId: 'listener' });
  t.equal(await codeOf(link.publish(mustBeHeard)), 'done');
  await listener.close();
  await link.close();
  t.equal(await codeOf(link.publish(message(up('door', 'evt/x'), 'x'))), 'link-closed');
  t.ok(matchesFilter('a/+/c/#', 'a/b/c/d/e') && matchesFilter('a/#', 'a') && matchesFilter('a/b', 'a/b'));
  t.notOk(matchesFilter('a/+', 'a/b/c') || matchesFilter('a/b', 'a') || matchesFilter('a/+/c', 'a/b'));
});

test('presence is retained, and the will is said when a station is gone', async (t) => {
  const front = await TcpFront.start(site.port);
  const watch = await site.connected('switchboard', [up('+', 'presence')], { clientId: 'watch' });
  const will = { topic: up('door', 'presence'), body: 'gone' };
  const door = await site.connected('door', [], {
    port: front.port,
    will,
    backoff: { firstMs: 60_000, mostMs: 60_000 },
  });
  await door.link.publish({ ...message(up('door', 'presence'), 'here'), retained: true });
  await until(() => watch.heard.some((heard) => heard.text === 'here'));
  front.cut();
  await until(() => watch.heard.some((heard) => heard.text === 'gone'));
  t.equal(door.link.state.fault?.code, 'broker-unreachable');
  await door.link.close();

  const late = await site.connected('switchboard', [up('door', 'presence')], { clientId: 'late' });
  await until(() => late.heard.length > 0);
  t.same(late.heard, [{ topic: up('door', 'presence'), text: 'gone', retained: true }]);

  const polite = await site.connected('door', [], { will: { ...will, body: 'left' } });
  await polite.link.close();
  await until(() => late.heard.some((heard) => heard.text === 'left'));
  t.pass('a link that closes says its will itself');
  for (const { link } of [watch, late]) await link.close();
  await front.close();
});

test('after an outage subscriptions are there again, and no stale call message is sent', async (t) => {
  const watch = await site.connected('switchboard', EVERYTHING, { clientId: 'watch' });
  const door = await site.connected('door', [down('door', '#')]);
  const before = site.host.broker.pid;
  process.kill(before ?? 0, 'SIGKILL');
  await until(() => !door.link.state.connected && !watch.link.state.connected);
  const call = codeOf(door.link.publish(message(up('door', 'call/aaaaaaaa'), 'stale', 'call', 0.05)));
  const state = codeOf(door.link.publish(message(up('door', 'reported/x'), 'kept')));
  t.equal(await call, 'expired');
  t.equal(await state, 'done', 'sent when the broker was back');
  t.not(site.host.broker.pid, before, 'the broker was started again');
  await until(() => watch.link.state.connected);
  await watch.link.publish(message(down('door', 'call/x'), 'hello again'));
  await door.link.publish(message(up('door', 'evt/end'), 'end'));
  await until(() => door.heard.length > 0 && watch.heard.some((heard) => heard.text === 'end'));
  t.notOk(watch.heard.some((heard) => heard.text === 'stale'));
  t.same(door.link.figures(), { waiting: 0, dropped: { 'call-expired': 1 } });
  for (const { link } of [watch, door]) await link.close();
});

test('calls go before state before telemetry, also on a link that stalls; a full queue drops the least', async (t) => {
  const watch = await site.connected('switchboard', EVERYTHING, { clientId: 'watch' });
  const front = await TcpFront.start(site.port);
  const door = site.link('door', [], { port: front.port, mostWaiting: 5 });
  const send = (text: string, priority: SendPriority): Promise<string> =>
    codeOf(door.link.publish(message(up('door', 'evt/x'), text, priority)));
  const sent = [
    ...['t1', 't2', 't3'].map((text) => send(text, 'telemetry')),
    ...['s1', 's2'].map((text) => send(text, 'state')),
    ...['c1', 'c2'].map((text) => send(text, 'call')),
  ];
  t.same(door.link.figures(), { waiting: 5, dropped: { 'telemetry-queue-full': 2 } });
  door.link.start();
  t.same(await Promise.all(sent), ['queue-full', 'queue-full', 'done', 'done', 'done', 'done', 'done']);
  await until(() => watch.heard.length >= 5);
  t.same(
    watch.heard.map((heard) => heard.text),
    ['c1', 'c2', 's1', 's2', 't3'],
  );

  const wide = await site.connected('door', [], { port: front.port, clientId: 'wide' });
  front.stall();
  watch.heard.length = 0;
  const figures = Array.from({ length: 30 }, (_, n) =>
    wide.link.publish(message(up('door', 'evt/x'), `t${n}`, 'telemetry')),
  );
  await new Promise<void>((resolve) => systemClock.after(250, resolve));
  const urgent = wide.link.publish(message(up('door', 'evt/x'), 'call', 'call'));
  front.release();
  await Promise.all([...figures, urgent]);
  await until(() => watch.heard.length >= 31);
  t.ok(
    watch.heard.findIndex((heard) => heard.text === 'call') <= 4,
    'few telemetry messages are on their way at a time',
  );
  for (const { link } of [watch, door, wide]) await link.close();
  await front.close();
});

test('a broker that has no MQTT 5 is spoken to in 3.1.1, and asked for 5 no more', async (t) => {
  const files = site.host.credentialsOf('door');
  const pem = { ca: readFileSync(files.ca), cert: readFileSync(files.cert), key: readFileSync(files.key) };
  const own = readFileSync(join(site.dir, 'pki/server.pem'));
  const refusals: Record<string, Buffer | null> = {
    'in the words of 3.1.1': Buffer.from([0x20, 2, 0, 1]),
    'in the words of 5': Buffer.from([0x20, 3, 0, 0x84, 0]),
    'by hanging up': null,
  };
  for (const [how, refusal] of Object.entries(refusals)) {
    const asked: number[] = [];
    const sockets = new Set<TLSSocket>();
    const old = createServer({ cert: own, key: own, ca: pem.ca, requestCert: true }, (near) => {
      sockets.add(near);
      near.on('error', () => {});
      near.once('data', (first: Buffer) => {
        // Fixed header of two bytes (a short CONNECT), the name "MQTT" with its length, then the level.
        asked.push(first[8] ?? 0);
        if (first[8] === 5) {
          near.end(refusal ?? Buffer.alloc(0));
          return;
        }
        const far = connect({ host: '127.0.0.1', port: site.port, ...pem });
        far.on('error', () => {});
        far.write(first);
        near.pipe(far).pipe(near);
        near.on('close', () => far.destroy());
      });
    });
    old.listen(0, '127.0.0.1');
    await once(old, 'listening');
    const { port } = old.address() as AddressInfo;
    const door = await site.connected('door', [down('door', '#')], { port });
    t.equal(door.link.state.protocol, '3.1.1', how);
    const expected = refusal === null ? [5, 4, 5, 4, 4] : [5, 4, 4];
    while (asked.length < expected.length) {
      const soFar = asked.length;
      for (const socket of sockets) socket.destroy();
      await until(() => asked.length > soFar && asked.at(-1) === 4 && door.link.state.connected);
    }
    t.same(asked, expected, how);
    const watch = await site.connected('switchboard', EVERYTHING, { clientId: 'watch' });
    await door.link.publish(message(up('door', 'evt/x'), how, 'call', 5));
    await until(() => watch.heard.length > 0);
    t.equal(watch.heard[0]?.text, how);
    for (const { link } of [door, watch]) await link.close();
    old.close();
    for (const socket of sockets) socket.destroy();
  }
});

test('what keeps a link down is named', async (t) => {
  const nowhere = site.link('door', [], { port: await freePort() });
  nowhere.link.start();
  await until(() => nowhere.link.state.fault !== null);
  t.equal(nowhere.link.state.fault?.code, 'broker-unreachable');
  t.ok(nowhere.link.state.fault?.remedy);

  const dir = join(site.dir, 'elsewhere');
  const foreign = (await ensureSitePki({ dir, site: 'other', stations: ['door'], addresses: [] })).credentialsOf(
    'door',
  );
  const forged = { cert: readFileSync(foreign.cert), key: readFileSync(foreign.key) };
  for (const more of [forged, { ca: readFileSync(foreign.ca) }]) {
    const { link } = site.link('door', [], more);
    link.start();
    await until(() => link.state.fault !== null);
    t.equal(link.state.fault?.code, 'certificate-refused');
    await link.close();
  }
  await nowhere.link.close();
});

test('events outlive the process, and reach the broker once', async (t) => {
  const path = join(site.dir, 'outbox.db');
  const module = resolve(import.meta.dirname, '../src/adapters/sqlite/outbox.js');
  const script = `import { Outbox } from ${JSON.stringify(module)};
    const outbox = new Outbox({ path: ${JSON.stringify(path)}, mostEntries: 10 });
    for (const n of [1, 2, 3]) outbox.add('pressed', { n });
    process.kill(process.pid, 'SIGKILL');`;
  const { signal } = spawnSync(process.execPath, ['--input-type=module', '-e', script]);
  t.equal(signal, 'SIGKILL');

  const outbox = new Outbox({ path, mostEntries: 10 });
  t.same(outbox.figures(), { waiting: 3, dropped: 0 });
  const watch = await site.connected('switchboard', EVERYTHING, { clientId: 'watch' });
  const door = site.link('door');
  const sent: string[] = [];
  const sender = new OutboxSender({
    outbox,
    link: door.link,
    site: 'home',
    station: 'door',
    clock: systemClock,
    logger: silentLogger,
    onSent: (kind, payloadBytes) => sent.push(`${kind} ${payloadBytes > 90}`),
  });
  const idOfFour = sender.add('pressed', { n: 4 });
  door.link.start();
  await until(() => outbox.figures().waiting === 0);
  sender.add('pressed', { n: 5 });
  await until(() => outbox.figures().waiting === 0);
  await door.link.close();
  await sender.close();
  const again = await site.connected('door');
  const second = new OutboxSender({
    outbox,
    link: again.link,
    site: 'home',
    station: 'door',
    clock: systemClock,
    logger: silentLogger,
  });
  await again.link.publish(message(up('door', 'reported/end'), 'end'));
  await until(() => watch.heard.some((heard) => heard.text === 'end'));
  const events = watch.heard
    .filter((heard) => heard.topic === up('door', 'evt/pressed'))
    .map((heard) => JSON.parse(heard.text));
  t.same(
    events.map((event) => stationEventSchema.parse(event).data.n),
    [1, 2, 3, 4, 5],
  );
  t.equal(events[3]?.id, idOfFour);
  t.same(sent, Array(5).fill('pressed true'), 'told as they reach the broker');
  t.same(
    events.map((event) => event.seq),
    [1, 2, 3, 4, 5],
  );
  for (const { link } of [watch, again]) await link.close();
  await second.close();
  outbox.close();
});

test('an outbox is bounded, and a damaged file is set aside', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-outbox-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'outbox.db');
  const small = new Outbox({ path, mostEntries: 3 });
  t.equal(small.setAside, null);
  for (const n of [1, 2, 3, 4, 5]) small.add('pressed', { n });
  t.same(small.figures(), { waiting: 3, dropped: 2 });
  t.same(
    small.next(10).map((entry) => entry.body),
    ['{"n":3}', '{"n":4}', '{"n":5}'],
  );
  t.throws(() => small.add('a/b', {}), { code: 'bad-event' });
  t.throws(() => small.add('big', { text: 'x'.repeat(65_100) }), { code: 'bad-event' });
  small.close();

  const clips = { path: join(dir, 'clips.db'), mostEntries: 100, mostBytes: 200_000 };
  const heavy = new Outbox(clips);
  for (const n of [1, 2, 3, 4, 5]) t.ok(heavy.add('alert', { n, clip: 'x'.repeat(60_000) }) !== null);
  t.same(heavy.figures(), { waiting: 3, dropped: 2 }, 'bounded in bytes as well');
  heavy.done([3]);
  heavy.close();
  const reopened = new Outbox(clips);
  for (const n of [6, 7]) reopened.add('alert', { n, clip: 'ü'.repeat(30_000) });
  t.same(
    reopened.next(10).map(({ body }) => JSON.parse(body).n),
    [5, 6, 7],
    'what was there counts, in bytes',
  );
  reopened.close();

  const mixed = new Outbox({ ...clips, path: join(dir, 'mixed.db') });
  mixed.add('door', { open: true });
  for (const n of [1, 2, 3, 4]) mixed.add('alert', { n, clip: 'x'.repeat(60_000) });
  t.same(
    mixed.next(10).map(({ kind }) => kind),
    ['door', 'alert', 'alert', 'alert'],
    'clips drive no event of the door out',
  );
  mixed.close();

  const whole = readFileSync(path);
  for (const damaged of [
    Buffer.from('this was never a database, nor will it be'),
    whole.subarray(0, whole.length - 4_096),
  ]) {
    writeFileSync(path, damaged);
    const fresh = new Outbox({ path, mostEntries: 3 });
    t.ok(fresh.setAside !== null && existsSync(fresh.setAside), 'named');
    fresh.add('pressed', {});
    t.same(fresh.figures(), { waiting: 1, dropped: 0 });
    fresh.close();
  }
  t.throws(() => new Outbox({ path: join(path, 'below-a-file.db'), mostEntries: 3 }), { code: 'outbox-unusable' });
});

test('the site ends', async (t) => {
  const link = new MqttLink({
    url: `mqtts://127.0.0.1:${site.port}`,
    clientId: 'x',
    clock: systemClock,
    logger: silentLogger,
  });
  await link.close();
  await site.stop();
  t.notOk(existsSync(site.dir));
});
