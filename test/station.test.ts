import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { parseSdp, writeSdp } from '../src/call/sdp.js';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import type { CallMessage } from '../src/protocol/call-message.js';
import { topic } from '../src/protocol/topics.js';
import { startStation } from '../src/station/station.js';
import { freePort, type Heard, Site, until } from './support/site.js';
import { BoardDouble, EngineDouble } from './support/station-doubles.js';
import { configFile, Post } from './support/station-post.js';

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'ep-station-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Waits until the last that was said of a station is that it is online. */
function online(heard: Heard[], id: string): Promise<void> {
  const presence = topic('home', id, 'up', 'presence');
  return until(() => heard.findLast((one) => one.topic === presence)?.text.includes('"online":true') === true);
}

async function sitePosts(
  t: Test,
  more = '',
): Promise<{ site: Site; door: Post; panel: Post; witness: Awaited<ReturnType<Site['connected']>> }> {
  const dir = folder(t);
  const site = await Site.start();
  t.teardown(() => site.stop());
  const post = async (id: string, buttons: string): Promise<Post> => {
    const own = join(dir, id);
    const url = `mqtts://127.0.0.1:${site.port}`;
    return Post.start(t, configFile(own, id, url, site.host.credentialsOf(id), `${buttons}\n${more}`), own);
  };
  const door = await post('door', 'buttons: { bell: { do: call, target: "Wohnung Süd" }, open: { do: hang-up } }');
  const panel = await post('panel', 'buttons: { bell: { do: answer-or-hang-up }, open: { do: open-door } }');
  // Once presence was heard twice, the switchboard, which listens from before, has heard it too.
  const witness = await site.connected('switchboard', [topic('home', '+', 'up', '#')], { clientId: 'witness' });
  await online(witness.heard, 'door');
  await online(witness.heard, 'panel');
  return { site, door, panel, witness };
}

async function talk(door: Post, panel: Post): Promise<string> {
  door.board.press('bell');
  await panel.is('ringing-in');
  panel.board.press('bell');
  await Promise.all([door.is('answered'), panel.is('answered')]);
  await until(() => door.engine.started.length > 0 && panel.engine.started.length > 0);
  return door.call?.callId ?? '';
}

test('a press rings, is answered, opens the door, hangs up; hostile messages do nothing of it', async (t) => {
  const { site, door, panel, witness } = await sitePosts(t);
  const { link: switchboard, heard } = witness;

  door.board.press('bell');
  door.board.press('bell');
  await panel.is('ringing-in');
  await door.is('ringing-out');
  await until(() => panel.engine.tones.at(-1) === 'bell' && door.engine.tones.at(-1) === 'ringback');
  door.board.press('bell');
  t.equal(door.told.filter((one) => one.params.state === 'inviting').length, 1, 'three presses are one call');
  t.ok(door.board.lights.call && panel.board.lights.call);
  t.notOk(panel.board.lights.microphone, 'ringing opens no microphone');
  t.match(panel.call, { peer: 'door', peerName: 'The door' });
  await t.rejects(door.api.call('call.answer', {}), { code: 'no-call' });
  await t.rejects(panel.api.call('call.place', { target: 'attic' }), { code: 'line-busy' });

  panel.board.press('bell');
  await Promise.all([door.is('answered'), panel.is('answered')]);
  await until(() => door.engine.started.length === 1 && panel.engine.started.length === 1);
  await until(() => door.board.lights.microphone && panel.board.lights.microphone);
  t.equal(panel.engine.tones.at(-1), null, 'the bell is silent');
  const callId = door.call?.callId ?? '';
  const { send: panelSends, receive: panelReceives } = panel.engine.started[0]?.srtp ?? {};
  const keys = [panelReceives, panelSends] as const;
  t.equal(keys[0]?.suite, 'AES_CM_128_HMAC_SHA1_80');
  t.not(keys[0]?.keyAndSalt, keys[1]?.keyAndSalt, 'each end has a key of its own');
  t.same(door.engine.started[0], {
    sessionId: callId,
    path: 'udp',
    provePath: false,
    remote: { address: '127.0.0.1', port: panel.engine.open.get(callId) },
    codec: 'opus',
    sendPayloadType: 96,
    receivePayloadType: 96,
    red: { send: 97, receive: 97, copies: 3 },
    maxPacketTimeMs: 60,
    telephoneEvent: { send: 98, receive: 98 },
    srtp: { send: keys[0], receive: keys[1] },
    peerWantsFec: true,
    packetTimeMs: 20,
    muted: false,
  });
  t.equal(panel.engine.started[0]?.remote.port, door.engine.open.get(callId));
  door.engine.heard(callId, 90);
  await until(() => door.told.some((one) => one.name === 'session.heard'));
  for (let second = 0; second < 3; second++) door.engine.quality(callId);
  await until(() => door.told.filter((one) => one.name === 'quality.report').length === 3);
  const telemetry = () => heard.filter((one) => one.topic === topic('home', 'door', 'up', 'telemetry/quality'));
  await until(() => telemetry().length > 0);
  t.match(JSON.parse(telemetry()[0]?.text ?? ''), {
    v: 1,
    seq: 1,
    data: { callId, path: 'udp', mos: { listening: 4.3 } },
  });

  panel.board.press('open');
  await until(() => door.board.pulses.length === 1);
  t.same(door.board.pulses, [100]);
  t.same(panel.board.pulses, [], "the panel's own door stays shut");
  await until(() => !door.board.doorOpen);
  t.same(await panel.api.call('door.open', {}), { opened: true, reason: 'opened' });
  await until(() => door.told.filter((one) => one.name === 'door.changed').length === 4);
  t.match(door.told.find((one) => one.name === 'door.changed')?.params, { open: true, by: 'panel' });

  const send = (path: string, body: string | CallMessage, retained = false) =>
    switchboard.publish({
      topic: topic('home', 'door', 'down', path),
      body: typeof body === 'string' ? body : JSON.stringify(body),
      qos: 1,
      priority: 'call',
      retained,
    });
  const sent = heard.map((one) => JSON.parse(one.text) as CallMessage & { from?: string });
  const opening = sent.find((one) => one.type === 'door-open' && one.from === 'panel');
  if (opening?.type !== 'door-open') throw new Error('no opening was heard');
  const forged = (type: object): CallMessage =>
    ({ v: 1, id: randomUUID(), seq: 99, callId, from: 'panel', to: 'door', ...type }) as CallMessage;
  const replay: CallMessage = { ...opening, from: 'panel', to: 'door' };
  const otherCall = `${callId.slice(0, -4)}beef`;
  await send(`call/${callId}`, replay);
  await send(`call/${callId}`, { ...replay, id: randomUUID() }, true);
  await send(`call/${callId}`, '', true);
  await send(`call/${callId}`, forged({ type: 'door-open', nonce: 'x'.repeat(24) }));
  await send(`call/${otherCall}`, { ...forged({ type: 'door-open', nonce: opening.nonce }), callId: otherCall });
  await send(`call/${callId}`, { ...forged({ type: 'door-request', request: 'request-1' }), from: 'attic' });
  await send(`call/${callId}`, 'not JSON at all');
  await send(`call/${callId}`, forged({ type: 'bye' }));
  await send(`call/${callId}`, { ...forged({ type: 'bye', reason: 'x' }), from: 'attic' });
  await send(`call/${callId}`, forged({ type: 'bye', reason: 'x' }), true);
  await send(`call/${callId}`, { ...forged({ type: 'bye', reason: 'x' }), to: 'panel' });
  await send(`call/${otherCall}`, forged({ type: 'bye', reason: 'x' }));
  await send(`call/${otherCall}`, { ...forged({ type: 'bye', reason: 'x' }), callId: otherCall });
  await send(`call/${callId}`, forged({ type: 'update', sdp: 'v=0\r\nm=audio 0 RTP/AVP 96\r\n' }));
  await send(`call/${callId}`, forged({ type: 'door-result', nonce: opening.nonce, opened: true, reason: 'opened' }));
  await send('elsewhere', 'x');
  let status = await door.api.call('station.status', {});
  while (status.refused['unknown-topic'] === undefined) status = await door.api.call('station.status', {});
  t.same(status.door.refused, { replayed: 1, retained: 1, 'unknown-nonce': 1, 'no-call': 2 });
  t.match(status.refused, { malformed: 3, 'wrong-peer': 1, retained: 1, 'not-for-us': 1, 'unknown-call': 1 });
  t.match(status.refused, { 'call-id-mismatch': 1, 'sdp-not-sdp': 1 });
  t.equal(status.door.openings, 2);
  t.equal(door.board.pulses.length, 2, 'none of it opened anything');
  t.equal(door.call?.state, 'answered', 'nor ended the call');

  const attic = await site.connected('attic', [topic('home', 'attic', 'down', 'call/+')]);
  const second = randomUUID();
  const sdp = sent.find((one) => one.type === 'invite')?.sdp ?? '';
  await attic.link.publish({
    topic: topic('home', 'attic', 'up', `call/${second}`),
    body: JSON.stringify({
      ...{ v: 1, id: randomUUID(), seq: 0, callId: second, from: 'attic', to: 'door' },
      ...{ type: 'invite', fromName: 'Attic', sdp, ringMs: 30_000 },
    }),
    qos: 1,
    priority: 'call',
  });
  await until(() => attic.heard.length === 1);
  t.match(JSON.parse(attic.heard[0]?.text ?? ''), { type: 'reject', reason: 'busy', from: 'door' });

  const hungUp = await panel.api.call('call.hangUp', {});
  t.match(hungUp, { callId, figures: { sent: 500, received: 499 } });
  await Promise.all([door.is('ended', 'hung-up'), panel.is('ended', 'hung-up')]);
  t.match(door.call, { figures: { lost: 1 } });
  await until(() => !door.board.lights.microphone && !panel.board.lights.microphone);
  t.notOk(door.board.lights.call);
  t.equal(door.engine.open.size + panel.engine.open.size, 0);
  t.same(await panel.api.call('door.open', {}), { opened: true, reason: 'opened' }, 'without a call: its own door');
  t.equal(panel.board.pulses.length, 1);
  await until(() => heard.filter((one) => one.topic === topic('home', 'door', 'up', 'evt/door')).length === 4);
  const reported = heard.find((one) => one.topic === topic('home', 'door', 'up', 'reported/config'));
  t.match(JSON.parse(reported?.text ?? ''), { version: null, error: null, runs: { hash: /^sha256:/ } });
  t.equal(telemetry().length, 1, 'the broker is told of quality every ten seconds alone');
  t.ok(parseSdp(sdp).ok);
  await door.closeStation();
  await until(() =>
    heard.some((one) => one.topic === topic('home', 'door', 'up', 'presence') && one.text.includes('"online":false')),
  );
});

test('nobody there, turned away, no media, no such station: each ends and says why', async (t) => {
  const { door, panel } = await sitePosts(t, 'call: { ringTimeoutMs: 1000 }');
  door.board.press('bell');
  await panel.is('ringing-in');
  await Promise.all([door.is('ended', 'no-answer'), panel.is('ended', 'no-answer')]);
  await until(() => door.engine.tones.includes('busy'));
  await until(() => door.engine.tones.at(-1) === null);

  door.board.press('bell');
  await panel.is('ringing-in');
  await panel.api.call('call.reject', {});
  await Promise.all([door.is('ended', 'rejected'), panel.is('ended', 'rejected')]);

  door.board.press('bell');
  await panel.is('ringing-in');
  door.board.press('open');
  await Promise.all([door.is('ended', 'hung-up'), panel.is('ended', 'hung-up')]);

  const told = door.told.length;
  await door.api.call('call.place', { target: 'nobody at all' });
  await until(() => door.told.length > told && door.call?.reason === 'unknown');
  await door.api.call('call.place', { target: '9' });
  await door.is('ended', 'unreachable');

  panel.engine.fails = true;
  door.board.press('bell');
  await panel.is('ringing-in');
  panel.board.press('bell');
  await Promise.all([door.is('ended', 'media-failed'), panel.is('ended', 'media-failed')]);
  t.equal(panel.board.lights.microphone, false);
  await t.rejects(panel.api.call('call.hangUp', {}), { code: 'no-call' });
});

test('the media process restarts in mid-call: the call goes on', async (t) => {
  const { door, panel, witness } = await sitePosts(t);
  const callId = await talk(door, panel);
  await until(() => door.board.lights.microphone);
  const oldPort = door.engine.open.get(callId);
  await door.engine.stop();
  await until(() => !door.board.lights.microphone);
  t.equal(door.call?.state, 'answered');
  door.engine = await EngineDouble.start(join(door.dir, 'run'), true);
  await until(() => door.engine.started.length === 1 && panel.engine.started.length === 2);
  t.ok(door.board.lights.microphone, 'lit while the microphone is wanted, though its card is still away');
  const newPort = door.engine.open.get(callId);
  t.not(newPort, oldPort);
  t.equal(panel.engine.started[1]?.remote.port, newPort, 'the peer sends to the new port');
  t.equal(door.engine.started[0]?.remote.port, panel.engine.open.get(callId));
  const [keys, after] = panel.engine.started.map(({ srtp }) => srtp);
  t.ok(keys);
  t.same(after, keys, 'under the same keys; the new process has another source');
  t.same(door.engine.started[0]?.srtp, { send: keys?.receive, receive: keys?.send });

  const before = systemClock.nowMs();
  await panel.closeStation();
  t.comment(`closed in mid-call in ${Math.round(systemClock.nowMs() - before)} ms`);
  t.ok(panel.board.closed);
  t.notOk(existsSync(join(panel.dir, 'run', 'station.sock')));
  await door.is('ended', 'station-stopped');
  t.notOk(existsSync(join(panel.dir, 'state', 'call.json')), 'nothing is left behind');
  witness.heard.length = 0;
  await panel.startStation();
  await online(witness.heard, 'panel');
  await talk(door, panel);
  t.ok(door.watchdogs.length > 0);
});

test('a station that was killed in mid-call tells its peer at its next start', async (t) => {
  const { site, door, panel, witness } = await sitePosts(t);
  await door.closeStation();
  const callId = randomUUID();
  const asDoor = await site.connected('door', [topic('home', 'door', 'down', 'presence/+')], {
    clientId: 'killed-run',
  });
  const sdp = writeSdp({
    sessionId: 1,
    version: 1,
    hosts: [{ address: '127.0.0.1', port: 40_001 }],
    direction: 'sendrecv',
    formats: [{ codec: 'opus', payloadType: 96, useInbandFec: true }],
    security: {
      isRequired: true,
      keys: [{ tag: 1, suite: 'AEAD_AES_128_GCM', keyAndSalt: Buffer.alloc(28).toString('base64') }],
    },
    others: [],
    audioAt: 0,
  });
  await asDoor.link.publish({
    topic: topic('home', 'door', 'up', `call/${callId}`),
    body: JSON.stringify({
      ...{ v: 1, id: randomUUID(), seq: 0, callId, from: 'door', to: 'panel' },
      ...{ type: 'invite', fromName: 'Door', sdp, ringMs: 30_000 },
    }),
    qos: 1,
    priority: 'call',
  });
  await panel.is('ringing-in');
  panel.board.press('bell');
  await panel.is('answered');
  await until(() => existsSync(join(panel.dir, 'state', 'call.json')));
  t.match(JSON.parse(readFileSync(join(panel.dir, 'state', 'call.json'), 'utf8')), { callId, peer: 'door' });
  const asPanel = await site.connected('panel', [], { clientId: 'another-panel' });
  for (const isOnline of [false, true]) {
    await asPanel.link.publish({
      topic: topic('home', 'panel', 'up', 'presence'),
      body: JSON.stringify({ v: 1, id: randomUUID(), online: isOnline, release: '0', at: 0 }),
      qos: 1,
      priority: 'state',
      retained: true,
    });
  }
  await until(() => asDoor.heard.length === 2);
  t.equal(asDoor.heard[0]?.topic, topic('home', 'door', 'down', 'presence/panel'), 'a peer that goes is told of');
  t.match(JSON.parse(asDoor.heard[0]?.text ?? ''), { online: false });
  await asDoor.link.close();
  writeFileSync(join(door.dir, 'state', 'call.json'), JSON.stringify({ v: 1, callId, peer: 'panel' }));
  await door.startStation();
  await panel.is('ended', 'station-restarted');
  await until(() => !existsSync(join(door.dir, 'state', 'call.json')));
  await door.closeStation();
  writeFileSync(join(door.dir, 'state', 'call.json'), '{"v":1,"callId":');
  witness.heard.length = 0;
  await door.startStation();
  await online(witness.heard, 'door');
  await talk(door, panel);
});

test('no broker: a press fails fast, says so, and the station is free; a site host brings its own', async (t) => {
  const dir = folder(t);
  const port = await freePort();
  const url = `mqtts://127.0.0.1:${port}`;
  const pki = join(dir, 'state', 'pki');
  const own = {
    ca: join(pki, 'ca.pem'),
    cert: join(pki, 'clients', 'door.pem'),
    key: join(pki, 'clients', 'door.pem'),
  };
  const buttons = 'buttons: { bell: { do: call, target: panel }, open: { do: open-door } }';
  const hosting = `siteHost: { listen: { address: 127.0.0.1, port: ${port} }, stations: { door: { name: Door } } }`;
  const missing = configFile(dir, 'door', url, own, buttons);
  await t.rejects(
    startStation({
      ...missing,
      clock: systemClock,
      logger: silentLogger,
      notify: { watchdog: () => {}, restart: () => {} },
      openPins: new BoardDouble().open,
    }),
    { code: 'credentials-missing' },
  );
  const host = await Post.start(t, configFile(dir, 'door', url, own, `${buttons}\n${hosting}`), dir);
  await host.online();
  t.match(await host.api.call('station.status', {}), {
    role: 'site-host',
    broker: { connected: true, protocol: '5' },
    siteHost: { broker: { running: true, fault: null }, calls: 0, refused: {} },
  });
  await host.stop();

  const main = join(import.meta.dirname, '../src/bin/station.js');
  const program = (file: string) =>
    spawn(process.execPath, [main, '--config', file], { stdio: ['ignore', 'ignore', 'pipe', 'ipc'] });
  const child = program(join(dir, 'station.yaml'));
  const log: string[] = [];
  child.stderr?.on('data', (chunk) => log.push(String(chunk)));
  const notices: string[] = [];
  child.on('message', ({ notice }: { notice: string }) => notices.push(notice));
  await until(() => notices.includes('ready') && notices.filter((one) => one === 'watchdog').length >= 2);
  const askedAtMs = systemClock.nowMs();
  child.kill('SIGTERM');
  t.same(await once(child, 'exit'), [0, null], log.join(''));
  t.comment(`ended in ${Math.round(systemClock.nowMs() - askedAtMs)} ms`);
  t.notOk(existsSync(join(dir, 'run', 'station.sock')));
  writeFileSync(join(dir, 'wrong.yaml'), 'station: { id: "No Such Id" }');
  t.same(await once(program(join(dir, 'wrong.yaml')), 'exit'), [2, null]);

  const alone = await Post.start(t, configFile(dir, 'door', url, own, buttons), dir);
  alone.board.press('bell');
  await alone.is('ended', 'unreachable');
  await until(() => alone.engine.tones.includes('busy'));
  alone.board.press('open');
  t.equal(alone.board.pulses.length, 1, 'the own door opens without any broker');
  const again = await alone.api.call('call.place', { target: 'panel' });
  t.ok(again.callId, 'it is free again');
  const status = await alone.api.call('station.status', {});
  t.equal(status.broker.connected, false);
  t.ok(status.outbox.waiting > 0, 'what happened waits for the broker');
});
