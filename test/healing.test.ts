import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { speak } from '../src/adapters/speech/espeak.js';
import { readSoundFile } from '../src/adapters/speech/wav-file.js';
import { type AudioFrame, frameSamples } from '../src/audio/frame.js';
import { writeWav } from '../src/audio/wav.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { Clips } from '../src/engine/clips.js';
import type { FrameSource } from '../src/media/frame-source.js';
import { CLIP_PIECE_SAMPLES, CLIP_RATE_HZ, MOST_CLIP_MS, piecesOf } from '../src/protocol/clip-api.js';
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

function clips(rateHz: 16_000 | 48_000 = CLIP_RATE_HZ) {
  const clock = new ManualClock();
  const sources = new Set<FrameSource>();
  const ended: string[] = [];
  const sent: { frame: Int16Array; alone: Int16Array | null; atMs: number }[] = [];
  const far = { isThere: true };
  const made = new Clips({
    rateHz,
    clock,
    mixer: { add: (source) => sources.add(source), remove: (source) => sources.delete(source) },
    send: (frame, alone) => {
      const copy = (of: AudioFrame | null) => of?.samples.slice() ?? null;
      sent.push({ frame: frame.samples.slice(), alone: copy(alone), atMs: frame.capturedAtMs });
      return far.isThere;
    },
    ended: (clipId, reason) => ended.push(`${clipId} ${reason}`),
  });
  const load = (id: string, samples: Int16Array) => {
    for (const piece of piecesOf(samples)) made.load(id, piece);
  };
  return { made, clock, sources, ended, sent, far, load };
}

test('a sound is played on the speaker once, whole, and a new one replaces it', async (t) => {
  const { made, clock, sources, ended, load } = clips();
  const pull = () => [...sources][0]?.pull(clock.nowMs())?.slice() ?? null;
  const samples = sine(CLIP_PIECE_SAMPLES + 333);
  load('one', samples);
  t.equal(made.play('one', 'speaker').durationMs, (samples.length * 1_000) / CLIP_RATE_HZ);
  const heard: number[] = [];
  for (let frame = pull(); frame !== null; frame = pull()) heard.push(...frame);
  t.same(heard.slice(0, samples.length), [...samples]);
  t.equal(heard.length, Math.ceil(samples.length / 160) * 160);
  t.same(
    heard.slice(samples.length).filter((sample) => sample !== 0),
    [],
    'filled up with silence',
  );
  t.same([ended, sources.size], [['one played'], 0]);
  t.throws(() => made.play('one', 'speaker'), { code: 'clip-unknown' }, 'played once');

  load('two', samples);
  load('three', samples);
  made.play('two', 'speaker');
  pull();
  made.play('three', 'speaker');
  t.equal(sources.size, 1);
  made.stop('three');
  made.stop('nobody');
  t.same(ended.splice(0), ['one played', 'two replaced', 'three stopped']);
  load('four', samples);
  made.play('four', 'speaker');
  clock.advance(10_000);
  t.same(ended.splice(0), ['four not-played'], 'a card that is down pulls nothing');

  for (const id of ['a', 'b', 'c', 'd']) load(id, sine(16));
  t.throws(() => load('e', sine(16)), { code: 'clips-full' });
  made.stopAll();
  t.throws(() => load('long', new Int16Array((MOST_CLIP_MS + 10) * 16)), { code: 'clip-too-long' });
  t.throws(() => made.play('long', 'speaker'), { code: 'clip-unknown' });
  t.equal(clock.timers, 0);

  const wide = clips(48_000);
  wide.load('wide', sine(1_600));
  wide.made.play('wide', 'speaker');
  t.equal([...wide.sources][0]?.pull(0)?.length, frameSamples(48_000), 'at the rate of the station');
});

test('into the call a sound goes with the microphone, and alone while that is away or muted', async (t) => {
  const { made, clock, ended, sent, far, load } = clips();
  const microphone = (level: number) => {
    made.frame({ samples: new Int16Array(160).fill(level), rateHz: CLIP_RATE_HZ, capturedAtMs: clock.nowMs() });
    clock.advance(10);
  };
  microphone(5);
  t.same([sent[0]?.frame[7], sent[0]?.alone], [5, null]);
  load('one', new Int16Array(1_600).fill(1_000));
  made.play('one', 'call');
  sent.length = 0;
  microphone(5);
  microphone(32_700);
  t.same(
    sent.map(({ frame, alone }) => [frame[0], alone?.[0]]),
    [
      [1_005, 1_000],
      [32_767, 1_000],
    ],
    'mixed, with saturation; and as it is for who must not hear the microphone',
  );
  sent.length = 0;
  clock.advance(200);
  t.equal(sent.length, 8, 'the microphone is away: the rest of its ten frames goes by the clock');
  t.ok(sent.every(({ frame, alone }) => frame[0] === 1_000 && alone?.[0] === 1_000));
  t.same(new Set(sent.slice(1).map(({ atMs }, i) => atMs - (sent[i]?.atMs ?? 0))), new Set([10]), 'ten ms apart');
  t.same(ended.splice(0), ['one played']);
  t.equal(clock.timers, 0);

  load('two', sine(16_000));
  made.play('two', 'call');
  clock.stall(1_500);
  sent.length = 0;
  clock.advance(10);
  t.ok(sent.length <= 3, 'a process that stood still floods nobody');
  far.isThere = false;
  clock.advance(10);
  t.same(ended, ['two no-call']);
});

test('text is spoken by a child with limits; a file is read with limits', async (t) => {
  const dir = folder(t);
  const speech = await speak({ text: 'Please come in.', voice: 'en' }, CLIP_RATE_HZ);
  t.ok(speech.length > 8_000 && Math.max(...speech) > 3_000, `${speech.length} samples`);
  const sly = await speak({ text: '$(touch pwned) `id` -v xx --help <speak>', voice: 'en' }, CLIP_RATE_HZ);
  t.ok(sly.length > 8_000, 'what looks like an order is said');
  for (const voice of ['', '-x', 'en;ls', '../en', 'EN', `e${'n'.repeat(40)}`]) {
    await t.rejects(speak({ text: 'x', voice }, CLIP_RATE_HZ), { code: 'speech-invalid' }, voice);
  }
  await t.rejects(speak({ text: ' ', voice: 'en' }, CLIP_RATE_HZ), { code: 'speech-invalid' });
  await t.rejects(speak({ text: 'x'.repeat(501), voice: 'en' }, CLIP_RATE_HZ), { code: 'speech-invalid' });
  await t.rejects(speak({ text: 'x', voice: 'zz-nowhere' }, CLIP_RATE_HZ), { code: 'speech-failed' });
  await t.rejects(speak({ text: '9 '.repeat(250), voice: 'en' }, CLIP_RATE_HZ), { code: 'speech-too-long' });
  await t.rejects(speak({ text: 'x', voice: 'en' }, CLIP_RATE_HZ, join(dir, 'absent')), {
    code: 'speech-absent',
    remedy: /apt install/,
  });
  const program = join(dir, 'program');
  const child = (script: string) => {
    writeFileSync(program, `#!/bin/sh\n${script}\n`);
    chmodSync(program, 0o755);
    return speak({ text: 'x', voice: 'en' }, CLIP_RATE_HZ, program);
  };
  await t.rejects(child('echo no WAV'), { code: 'wav-invalid' });
  await t.rejects(child('/usr/bin/yes'), { code: 'speech-too-long' }, 'it floods, and is ended');

  const file = join(dir, 'chime.wav');
  writeFileSync(file, writeWav({ samples: sine(44_100), rateHz: 44_100 }));
  const chime = await readSoundFile(file, CLIP_RATE_HZ);
  t.ok(Math.abs(chime.length - 16_000) < 50);
  writeFileSync(file, writeWav({ samples: new Int16Array(8_000 * 31), rateHz: 8_000 }));
  await t.rejects(readSoundFile(file, CLIP_RATE_HZ), { code: 'sound-too-long' });
  writeFileSync(file, new Uint8Array(6_000_000));
  await t.rejects(readSoundFile(file, CLIP_RATE_HZ), { code: 'sound-too-long' });
  writeFileSync(file, 'no sound');
  await t.rejects(readSoundFile(file, CLIP_RATE_HZ), { code: 'wav-invalid' });
  const pipe = join(dir, 'pipe.wav');
  execFileSync('mkfifo', [pipe]);
  for (const none of [dir, pipe, join(dir, 'none.wav'), '/dev/zero']) {
    await t.rejects(readSoundFile(none, CLIP_RATE_HZ), { code: 'sound-unreadable' }, none);
  }
});

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
