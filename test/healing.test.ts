import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { piecesOf } from '../src/protocol/clip-api.js';
import { FLOWS_SOCKET, flowsNotifications, flowsRequests } from '../src/protocol/flows-api.js';
import { LossLadder } from '../src/quality/loss-ladder.js';
import { totalBps } from '../src/quality/protection.js';
import { FlowSounds } from '../src/station/flow-sounds.js';
import { Site, until } from './support/site.js';
import { EngineDouble } from './support/station-doubles.js';
import { configFile, Post } from './support/station-post.js';

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'ep-healing-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const sine = (samples: number, level = 8_000) =>
  Int16Array.from({ length: samples }, (_, i) => Math.round(level * Math.sin(0.3 * i)));

test('a cap bounds what is sent in all, and is lifted', async (t) => {
  const limits = {
    codec: 'opus',
    bitrateBps: 24_000,
    complexity: 9,
    mayFec: true,
    mostCopies: 3,
    packetTimeMs: 20,
    mostPacketTimeMs: 60,
  } as const;
  const ladder = new LossLadder(limits, 0);
  t.equal(totalBps(ladder.step), 40_000);
  const capped = ladder.limit({ ...limits, mostTotalBps: 30_000 }, 1_000);
  t.match(capped, { reason: 'limits' });
  t.ok(totalBps(ladder.step) <= 30_000 && ladder.step.bitrateBps >= 12_000, JSON.stringify(capped));
  ladder.limit({ ...limits, mostTotalBps: 12_000 }, 2_000);
  t.equal(ladder.step.bitrateBps, 9_000, 'the least there is');
  ladder.limit({ ...limits, mostTotalBps: null }, 3_000);
  t.match(ladder.step, { bitrateBps: 24_000, packetTimeMs: 20 });
});

/** Door and panel, each with a media process that could use MQTT; and a client of the door's flows.sock. */
async function site(t: Test) {
  const dir = folder(t);
  const started = await Site.start();
  t.teardown(() => started.stop());
  const post = (id: string, doIt: string): Promise<Post> => {
    const pki = started.host.credentialsOf(id);
    const more = `
buttons: { bell: { do: ${doIt} }, open: { do: hang-up } }
media: { identity: { cert: "${pki.cert}", key: "${pki.key}" } }`;
    const url = `mqtts://127.0.0.1:${started.port}`;
    return Post.start(t, configFile(join(dir, id), id, url, pki, more), join(dir, id));
  };
  const [door, panel] = [await post('door', 'call, target: panel'), await post('panel', 'answer-or-hang-up')];
  const witness = await started.connected('switchboard', ['entryphone/v1/home/d/door/up/evt/action'], {
    clientId: 'witness',
  });
  await Promise.all([door.online(), panel.online()]);
  const told: string[] = [];
  const client = () =>
    connectRpc({
      path: join(door.dir, 'run', FLOWS_SOCKET),
      requests: flowsRequests,
      notifications: flowsNotifications,
      timeoutMs: 8_000,
      onNotification: (name, params) => name === 'sound.ended' && told.push(`${Object.values(params).join(' ')}`),
      onClose: () => {},
    });
  const talk = async (): Promise<string> => {
    await until(async () => {
      if (door.call === undefined || door.call.state === 'ended') door.board.press('bell');
      await new Promise((resolve) => setTimeout(resolve, 50));
      return panel.call?.state === 'ringing-in';
    });
    panel.board.press('bell');
    await Promise.all([door.is('answered'), panel.is('answered')]);
    await until(() => door.engine.started.length > 0 && panel.engine.started.length > 0);
    return door.call?.callId ?? '';
  };
  return { door, panel, client, told, talk, acted: () => witness.heard.map(({ text }) => JSON.parse(text).data) };
}

test('flows mend a call: less bits, another path, a new media process; each at its pace, and told of', async (t) => {
  const { door, panel, client, talk, acted } = await site(t);
  const flows = await client();
  t.teardown(() => flows.close());
  await t.rejects(flows.call('call.limit', { bitrateBps: 32_000 }), { code: 'no-call' });
  await t.rejects(flows.call('call.path', { path: 'mqtt' }), { code: 'no-call' });
  await t.rejects(flows.call('call.limit', { bitrateBps: 500 }), { code: 'bad-params' });
  const callId = await talk();

  t.same(await flows.call('call.path', { path: 'mqtt' }), { callId }, 'what was refused is not waited for');
  await until(() => [door, panel].every(({ engine }) => engine.started.at(-1)?.path === 'mqtt'));
  for (const { engine } of [door, panel]) t.match(engine.started.at(-1), { provePath: false }, 'it stays there');
  await t.rejects(flows.call('call.path', { path: 'auto' }), { code: 'too-soon', remedy: /in \d s/ });

  t.same(await flows.call('call.limit', { bitrateBps: 32_000 }), { callId });
  t.same(door.engine.limitsBps, [32_000]);
  t.same(await flows.call('service.restart', { service: 'media' }), {});
  t.equal(door.engine.restarts, 1);
  await t.rejects(flows.call('service.restart', { service: 'media' }), { code: 'too-soon' });
  await t.rejects(flows.call('service.restart', { service: 'inference' }), { code: 'service-absent' });
  await t.rejects(flows.call('service.restart', { service: 'station' as never }), { code: 'bad-params' });
  await t.rejects(flows.call('flows.fallBack', {}), { code: 'flows-unreachable' });
  await door.engine.stop();
  door.engine = await EngineDouble.start(join(door.dir, 'run'));
  await until(() => door.engine.started.length > 0 && door.engine.limitsBps.length > 0);
  t.same(door.engine.limitsBps, [32_000], 'the media process that came has it too');
  t.match(door.engine.started.at(-1), { path: 'mqtt', provePath: false });

  await until(async () => {
    const answer = await flows.call('call.path', { path: 'auto' }).catch(() => undefined);
    if (answer === undefined) await new Promise((resolve) => setTimeout(resolve, 100));
    return answer !== undefined;
  });
  await until(() => [door, panel].every(({ engine }) => engine.started.at(-1)?.provePath === true));
  await until(() => acted().length === 4);
  t.match(acted(), [
    { action: 'path', path: 'mqtt', callId, by: 'flows' },
    { action: 'limit', bitrateBps: 32_000 },
    { action: 'restart', service: 'media' },
    { action: 'path', path: 'auto' },
  ]);
  const { flows: status } = await door.api.call('station.status', {});
  t.match(status?.actions, {
    path: 2,
    'path-no-call': 1,
    limit: 1,
    'restart-media': 1,
    'restart-media-too-soon': 1,
    'restart-inference-service-absent': 1,
    'fall-back-flows-unreachable': 1,
  });
  t.equal(door.call?.state, 'answered');

  for (let n = 0; n < 30; n++) await t.rejects(flows.call('call.place', { target: 'panel' }), { code: 'line-busy' });
  await t.rejects(flows.call('call.place', { target: 'panel' }), { code: 'calls-many', remedy: /cool-down/ });
  t.equal(door.call?.state, 'answered');
});

test('flows have sounds played, on the speaker and into the call, and are told when they are over', async (t) => {
  const { door, client, told, talk } = await site(t);
  const { engine } = door;
  const [flows, other] = [await client(), await client()];
  t.teardown(() => flows.close());
  const tone = { kind: 'tone', hz: 880, durationMs: 1_250 } as const;
  const first = await flows.call('sound.play', { to: 'speaker', sound: tone });
  t.equal(first.durationMs, 1_250);
  t.same(engine.clips, ['speaker 1250']);
  engine.clipEnded(first.playId, 'played');
  await until(() => told.length === 1);
  t.same(told, [`${first.playId} played`]);
  await t.rejects(flows.call('sound.play', { to: 'call', sound: tone }), { code: 'no-call' });
  for (const sound of [
    { ...tone, hz: 20 },
    { ...tone, durationMs: 1e9 },
    { kind: 'text', text: '', voice: 'en' },
    { kind: 'text', text: 'x'.repeat(501), voice: 'en' },
    { kind: 'text', text: 'x', voice: 'en; rm' },
    { kind: 'file', path: '/etc/passwd' },
  ]) {
    const bad = flows.call('sound.play', { to: 'speaker', sound: sound as never });
    await t.rejects(bad, { code: 'bad-params' }, JSON.stringify(sound));
  }
  await talk();
  const text = await flows.call('sound.play', { to: 'call', sound: { kind: 'text', text: 'Hello', voice: 'en' } });
  t.match(engine.clips.at(-1), /^call /);
  t.ok(text.durationMs > 300);

  const soundId = randomUUID();
  const [piece = ''] = piecesOf(sine(1_600));
  await flows.call('sound.load', { soundId, pcm: piece });
  t.same(await flows.call('sound.load', { soundId, pcm: piece }), { durationMs: 200 });
  await t.rejects(other.call('sound.load', { soundId, pcm: piece }), { code: 'sound-unknown' });
  await t.rejects(other.call('sound.play', { to: 'call', sound: { kind: 'pcm', soundId } }), { code: 'sound-unknown' });
  await t.rejects(flows.call('sound.load', { soundId, pcm: 'no base64!' }), { code: 'bad-params' });
  await t.rejects(flows.call('sound.load', { soundId, pcm: 'AAAA'.repeat(10_000) }), { code: 'bad-params' });
  t.same(await flows.call('sound.play', { to: 'call', sound: { kind: 'pcm', soundId } }), {
    playId: soundId,
    durationMs: 200,
  });
  await flows.call('sound.stop', { playId: soundId });
  await until(() => told.includes(`${soundId} stopped`));
  await flows.call('sound.stop', { playId: soundId });

  const left = await other.call('sound.play', { to: 'speaker', sound: tone });
  other.close();
  const isStopped = () => engine.stopped.includes(left.playId);
  await until(isStopped);
  const last = await flows.call('sound.play', { to: 'speaker', sound: tone });
  await engine.stop();
  await until(() => told.includes(`${last.playId} media-lost`));
  t.notOk(
    told.some((line) => line.startsWith(left.playId)),
    'nobody is told of what another had played',
  );
});

test('sounds that fail, or are ended before they play, take no place, and play for nobody who has left', async (t) => {
  const stopped: string[] = [];
  const played: string[] = [];
  const told: string[] = [];
  let fails = true;
  const spoken = Promise.withResolvers<Int16Array>();
  const sounds = new FlowSounds({
    engine: {
      loadClip: async () => {
        if (fails) throw new AppError('media-unreachable', 'the media process is away');
        return { durationMs: 100 };
      },
      playClip: async (clipId) => {
        played.push(clipId);
        return { durationMs: 100 };
      },
      stopClip: async (clipId) => void stopped.push(clipId),
    },
    calls: { current: undefined },
    clock: new ManualClock(),
    logger: silentLogger,
    speak: () => spoken.promise,
  });
  const owner = { soundEnded: (playId: string, reason: string) => void told.push(`${playId} ${reason}`) };
  const [piece = ''] = piecesOf(sine(1_600));
  for (let n = 0; n < 40; n++) await t.rejects(sounds.load(owner, `lost-${n}`, piece), { code: 'media-unreachable' });
  fails = false;
  for (let n = 0; n < 40; n++) {
    await sounds.load(owner, `unplayed-${n}`, piece);
    await sounds.stop(owner, `unplayed-${n}`);
  }
  t.match([stopped.length, told.length], [80, 40]);
  await sounds.load(owner, 'twice', piece);
  const playTwice = () => sounds.play(owner, 'speaker', { kind: 'pcm', soundId: 'twice' });
  const first = playTwice();
  await t.rejects(playTwice(), { code: 'sound-plays' });
  await t.rejects(sounds.load(owner, 'twice', piece), { code: 'sound-plays' });
  t.same([await first, stopped.length], [{ playId: 'twice', durationMs: 100 }, 80], 'the first order holds');
  sounds.ended('twice', 'played');
  t.equal(told.at(-1), 'twice played');
  await t.rejects(playTwice(), { code: 'sound-unknown' });
  played.length = 0;
  const text = sounds.play(owner, 'speaker', { kind: 'text', text: 'Hello', voice: 'en' });
  sounds.left(owner);
  spoken.resolve(sine(1_600));
  await t.rejects(text, { code: 'sound-unknown' });
  t.same(played, []);
});
