import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { frameSamples } from '../src/audio/frame.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { piecesOf } from '../src/protocol/clip-api.js';
import { agreement, RATE_HZ, started } from './support/engine.js';
import { freeUdpPort } from './support/site.js';

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 2_000; tries++) {
    if (await holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  throw new Error(`it never came to this: ${what}`);
}

test('two engines talk: sessions, cards, tones, and nobody talks on when the station is gone', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-engine-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const clock = new ManualClock();
  const door = await started(dir, 'door', clock, await freeUdpPort());
  const indoor = await started(dir, 'indoor', clock, await freeUdpPort());
  const sessionId = 'session-1';
  const statusOf = (one: typeof door) => one.station.call('engine.status', {});

  const [from, to] = [
    await door.station.call('session.open', { sessionId }),
    await indoor.station.call('session.open', { sessionId }),
  ];
  t.same(await door.station.call('session.open', { sessionId }), from, 'opening again gives the same');
  t.equal(door.microphone.opened, 0, 'an open session opens no microphone');
  const agreed = { ...agreement, telephoneEvent: { send: 98, receive: 98 } };
  await door.station.call('session.start', { sessionId, remote: to.local, ...agreed });
  await indoor.station.call('session.start', { sessionId, remote: from.local, ...agreed, muted: true });
  t.equal(indoor.microphone.opened, 0, 'nor does one that is muted');
  await until('the microphone is told', () => door.told.includes('capture.changed {"open":true}'));

  let loudest = 0;
  for (let i = 0; i < 100; i++) {
    clock.advance(10);
    const at = i * frameSamples(RATE_HZ);
    const samples = Int16Array.from({ length: frameSamples(RATE_HZ) }, (_, k) => 8_000 * Math.sin(0.2 * (at + k)));
    door.microphone.listener?.frame({ samples, rateHz: RATE_HZ, capturedAtMs: clock.nowMs() });
    const packets = Math.floor((i + 1) / 2);
    await until(
      'the packet came',
      async () => ((await statusOf(indoor)).sessions[0]?.received ?? 0) >= (packets > 1 ? packets : 0),
    );
    loudest = Math.max(loudest, ...(indoor.speaker.listener?.pull() ?? []));
  }
  t.ok(loudest > 4_000, `heard, ${loudest} at the loudest`);
  await until('it is told', () => indoor.told.some((line) => line.startsWith('session.heard')));
  const status = await statusOf(indoor);
  t.match(status, {
    pid: process.pid,
    capture: { device: 'indoor-microphone', state: 'closed', fault: null, levelDbfs: null },
    playback: { device: 'indoor-speaker', state: 'up', delayMs: 20 },
    refused: {},
    codec: { encoder: '@discordjs/opus', decoder: 'libopus-wasm', rateHz: RATE_HZ },
    sessions: [{ sessionId, received: 50, lost: 0, concealed: 0, remoteSsrc: from.ssrc, ssrc: to.ssrc }],
  });
  t.ok((status.playback.levelDbfs ?? -96) > -30);

  await indoor.station.call('tone.play', { tone: 'busy' });
  for (let i = 0; i < 40; i++) indoor.speaker.listener?.pull();
  t.ok(Math.max(...(indoor.speaker.listener?.pull() ?? [])) > 5_000, 'a tone sounds');
  await indoor.station.call('tone.stop', {});
  t.equal(Math.max(...(indoor.speaker.listener?.pull() ?? [])), 0);

  // A sound into the call from who is muted, and on the speaker; its end is told.
  const [pcm = ''] = piecesOf(new Int16Array(1_600).fill(9_000));
  for (const clipId of ['clip-into-call', 'clip-on-speaker']) await indoor.station.call('clip.load', { clipId, pcm });
  t.same(await indoor.station.call('clip.play', { clipId: 'clip-into-call', to: 'call' }), { durationMs: 100 });
  await indoor.station.call('clip.play', { clipId: 'clip-on-speaker', to: 'speaker' });
  t.equal(Math.max(...(indoor.speaker.listener?.pull() ?? [])), 9_000);
  for (let i = 0; i < 10; i++) indoor.speaker.listener?.pull();
  clock.advance(200);
  await until('both are over', () => indoor.told.filter((line) => line.startsWith('clip.ended')).length === 2);
  t.ok(indoor.told.every((line) => !line.startsWith('clip.ended') || line.includes('"played"')));
  await until('the muted side was heard', async () => (await statusOf(door)).sessions[0]?.received === 5);
  t.equal(indoor.microphone.opened, 0, 'and no microphone was opened for that');
  await t.rejects(indoor.station.call('clip.play', { clipId: 'clip-into-call', to: 'call' }), { code: 'clip-unknown' });
  await door.station.call('session.limit', { sessionId, bitrateBps: 30_000 });
  const limited = (await statusOf(door)).sessions[0]?.quality.ladder.at(-1);
  t.ok(limited?.reason === 'limits' && limited.bitrateBps < 24_000, JSON.stringify(limited));

  await indoor.station.call('session.dtmf', { sessionId, digits: '3#', durationMs: 60 });
  await until('the digits are told', async () => {
    clock.advance(20);
    await new Promise((resolve) => setTimeout(resolve, 1));
    return door.told.includes(`session.dtmf ${JSON.stringify({ sessionId, digit: '#', durationMs: 60 })}`);
  });
  t.equal(door.told.filter((line) => line.startsWith('session.dtmf')).length, 2, 'each once, of a muted session too');

  await t.rejects(door.station.call('session.close', { sessionId: 'session-9' }), { code: 'session-unknown' });
  for (let i = 2; i <= 8; i++) await door.station.call('session.open', { sessionId: `session-${i}` });
  await t.rejects(door.station.call('session.open', { sessionId: 'session-9' }), AppError);

  const { figures } = await door.station.call('session.close', { sessionId });
  t.match(figures, { sent: 50, refused: {} });
  await until('the microphone is closed', () => door.told.includes('capture.changed {"open":false}'));
  t.equal(door.microphone.listener, null);

  // The indoor station dies with two sessions open, and comes back asking for one of them.
  await indoor.station.call('session.open', { sessionId: 'session-2' });
  await indoor.station.call('session.start', { sessionId, remote: from.local, ...agreement });
  t.not(indoor.microphone.listener, null);
  const sessionsIndoors = async () => (await indoor.station.call('engine.status', {})).sessions.length;
  const stranger = await indoor.connect();
  await stranger.call('engine.status', {});
  for (let second = 0; second < 20; second++) {
    clock.advance(1_000);
    if (second === 10) stranger.close();
    await sessionsIndoors();
  }
  t.equal(await sessionsIndoors(), 2, 'who connects and gives no order ends nothing');
  indoor.station.close();
  indoor.told.splice(0);
  const again = await indoor.connect();
  await until('it is told that the microphone is open', () => indoor.told.includes('capture.changed {"open":true}'));
  await again.call('session.open', { sessionId });
  const left = async () => (await again.call('engine.status', {})).sessions.map((session) => session.sessionId);
  await until('the other is closed', async () => {
    clock.advance(1_000);
    return (await left()).length === 1;
  });
  t.same(await left(), [sessionId]);
  t.not(indoor.microphone.listener, null, 'who is asked for talks on');
  again.close();
  await until('its end is seen', () => {
    clock.advance(1_000);
    return indoor.microphone.listener === null;
  });
  const last = await indoor.connect();
  await until('the session is closed', async () => (await last.call('engine.status', {})).sessions.length === 0);

  // A card that hangs takes the process with it; the supervisor starts another.
  await last.call('session.open', { sessionId });
  await last.call('session.start', { sessionId, remote: from.local, ...agreement });
  t.same(indoor.ended, []);
  indoor.microphone.mustRestart = true;
  const fault = new AppError('card-hung', 'the card hangs');
  indoor.microphone.listener?.stateChanged({ state: 'down', fault });
  t.same(indoor.ended, ['ended']);
  indoor.microphone.mustRestart = false;
  await last.call('engine.restart', {});
  t.equal(indoor.ended.length, 1, 'the answer comes before the end');
  clock.advance(100);
  t.equal(indoor.ended.length, 2, 'by order');

  const linesOf = ({ told }: typeof door) => told.filter((line) => line.startsWith('log.lines'));
  door.logTap.tell('nobody follows');
  const follower = await door.connect();
  await follower.call('log.follow', { on: true });
  door.logTap.tell('followed');
  clock.advance(500);
  await until('the line came', () => linesOf(door).length > 0);
  t.same(linesOf(door), ['log.lines {"lines":["followed"]}'], 'to who follows it alone');
  follower.close();

  await Promise.all([door.engine.close(), indoor.engine.close()]);
  t.same([door.speaker.listener, indoor.speaker.listener, indoor.microphone.listener], [null, null, null]);
  await until('the stations are cut off', () => door.told.includes('closed') && indoor.told.includes('closed'));
  t.equal(clock.timers, 0, 'nothing is left to be done');
  const second = await started(dir, 'door', clock, await freeUdpPort());
  await second.engine.close();
});

test('the loop of speaker and microphone is measured, and gives way to whoever needs the cards', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-engine-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const clock = new ManualClock();
  const door = await started(dir, 'door', clock, await freeUdpPort());
  t.teardown(() => door.engine.close());
  const how = { signalDbfs: -20, leastLevelDb: -40 };
  const size = frameSamples(RATE_HZ);
  /** 10 ms at a time: what the speaker plays the microphone hears `delayFrames` later, a tenth of it. */
  const passes = async (measuring: Promise<unknown>, delayFrames = 5, gain = 0.1): Promise<void> => {
    let isOver = false;
    measuring.then(
      () => (isOver = true),
      () => (isOver = true),
    );
    const air: Int16Array[] = Array.from({ length: delayFrames }, () => new Int16Array(size));
    await until('the microphone is open', () => door.microphone.listener !== null);
    for (let i = 0; i < 400 && !isOver; i++) {
      clock.advance(10);
      air.push(Int16Array.from(door.speaker.listener?.pull() ?? []));
      const heard = (air.shift() ?? new Int16Array(size)).map((sample) => sample * gain + ((i * 7_919) % 13) - 6);
      door.microphone.listener?.frame({ samples: heard, rateHz: RATE_HZ, capturedAtMs: clock.nowMs() });
      await new Promise(setImmediate);
    }
  };
  const measuring = door.station.call('loop.measure', how);
  await passes(measuring);
  const heard = await measuring;
  t.match(heard, {
    verdict: 'heard',
    microphone: { state: 'up', isDead: false, fault: null },
    speaker: { state: 'up', takenPct: 100, xruns: 0 },
  });
  t.ok(Math.abs((heard.delayMs ?? 0) - 50) <= 11, `${heard.delayMs} ms`);
  t.ok(Math.abs((heard.levelDb ?? 0) + 20) < 1, `${heard.levelDb} dB`);
  await until('the microphone is closed', () => door.microphone.listener === null);
  t.same(
    door.told.filter((line) => line.startsWith('capture.changed')),
    ['capture.changed {"open":false}', 'capture.changed {"open":true}', 'capture.changed {"open":false}'],
    'its light is lit meanwhile',
  );

  const deaf = door.station.call('loop.measure', how);
  await passes(deaf, 5, 0);
  t.match(await deaf, { verdict: 'not-heard', microphone: { isDead: false }, delayMs: null });

  const mute = door.station.call('loop.measure', how);
  await until('the microphone is open', () => door.microphone.listener !== null);
  for (let i = 0; i < 12; i++) clock.advance(100);
  t.match(await mute, { verdict: 'not-heard', microphone: { frames: 0, isDead: true }, speaker: { takenPct: 0 } });

  for (const params of [
    { signalDbfs: 0, leastLevelDb: -40 },
    { signalDbfs: -20, leastLevelDb: 'loud' as never },
  ]) {
    await t.rejects(door.station.call('loop.measure', params), { code: 'bad-params' });
  }
  const first = door.station.call('loop.measure', how);
  await t.rejects(door.station.call('loop.measure', how), { code: 'loop-busy' });
  const rung = t.rejects(first, { code: 'interrupted' }, 'a bell ends it');
  await door.station.call('tone.play', { tone: 'bell' });
  await rung;
  await t.rejects(door.station.call('loop.measure', how), { code: 'busy' });
  await door.station.call('tone.stop', {});
  const second = t.rejects(door.station.call('loop.measure', how), { code: 'interrupted' }, 'a call ends it');
  await door.station.call('session.open', { sessionId: 'session-1' });
  await second;
  await t.rejects(door.station.call('loop.measure', how), { code: 'busy' });
  await t.rejects(door.station.call('session.probe', { sessionId: 'session-1' }), { code: 'session-has-cards' });
  await t.rejects(door.station.call('session.probe', { sessionId: 'session-9' }), { code: 'session-unknown' });
});

test('a session that probes hears itself through one that echoes; no card has a part in it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-engine-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const clock = new ManualClock();
  const [door, host] = [
    await started(dir, 'door', clock, await freeUdpPort()),
    await started(dir, 'host', clock, await freeUdpPort()),
  ];
  t.teardown(() => Promise.all([door.engine.close(), host.engine.close()]));
  const probe = { sessionId: 'probe-0001' };
  const echo = { sessionId: 'echo-0001' };
  const from = await door.station.call('session.open', { ...probe, end: 'probe' });
  const to = await host.station.call('session.open', { ...echo, end: 'echo' });
  t.match(await door.station.call('session.probe', probe), { correlation: 0, roundTripMs: null });
  await door.station.call('session.start', { ...probe, remote: to.local, ...agreement });
  await host.station.call('session.start', { ...echo, remote: from.local, ...agreement });
  let heard = await door.station.call('session.probe', probe);
  for (let i = 0; i < 900 && (i < 300 || heard.roundTripMs === null); i++) {
    clock.advance(10);
    await new Promise((resolve) => setTimeout(resolve, 1));
    if (i % 50 === 0) heard = await door.station.call('session.probe', probe);
    if (i === 0) t.equal(heard.roundTripMs, null, 'not yet a whole sweep');
  }
  t.ok((heard.roundTripMs ?? 0) > 20 && (heard.roundTripMs ?? 999) < 800, `${heard.roundTripMs} ms`);
  t.same([door.microphone.opened, host.microphone.opened], [0, 0]);
  t.equal(Math.max(...(host.speaker.listener?.pull() ?? [])), 0);
  t.equal(Math.max(...(door.speaker.listener?.pull() ?? [])), 0);
  const { figures } = await door.station.call('session.close', probe);
  t.ok(figures.received > 20 && figures.lost === 0, `${figures.received} received`);
  t.ok((figures.quality.mos.listening ?? 0) > 3.5);
  t.notOk(
    [...door.told, ...host.told].some((line) => line.startsWith('session.')),
    'nobody is told of it',
  );
  await host.station.call('session.close', echo);
});
