import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { TapReceiver } from '../src/adapters/udp/tap-receiver.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { L16_PAYLOAD_TYPE, L16Reader, L16Writer } from '../src/rtp/l16.js';
import { writeRtp } from '../src/rtp/rtp-packet.js';
import { EngineClient } from '../src/station/engine-client.js';
import { StationTaps } from '../src/station/station-taps.js';
import { agreement, RATE_HZ, started } from './support/engine.js';
import { freeUdpPort, until } from './support/site.js';
import { EngineDouble } from './support/station-doubles.js';

const FRAME = 160;

/** Frame `n` of a ramp, so that each sample tells where it belongs. */
const ramp = (n: number): Int16Array => Int16Array.from({ length: FRAME }, (_, i) => n * FRAME + i - 20_000);

test('L16: network byte order, 20 ms to a packet, pauses in timestamp and marker; the reader gets back what was written', async (t) => {
  const writer = new L16Writer({ ssrc: 7, sequence: 65_535, timestamp: 0xffff_ff00 });
  const reader = new L16Reader();
  t.equal(writer.push(ramp(0), 10), null);
  const first = writer.push(ramp(1), 20);
  t.equal(first?.length, 12 + 640);
  t.same(
    [first?.[0], first?.[1], first?.readUInt16BE(2), first?.readUInt32BE(4), first?.readUInt32BE(8)],
    [0x80, 0x80 | L16_PAYLOAD_TYPE, 65_535, 0xffff_ff00, 7],
  );
  t.equal(first?.readInt16BE(12), -20_000, 'the most significant byte comes first');
  const read = reader.read(first as Buffer);
  t.match(read, { ok: true, sound: { endsAtMs: 20, lostPackets: 0, isAfterGap: true } });
  t.same(read.ok && [...read.sound.samples], [...ramp(0), ...ramp(1)]);

  writer.push(ramp(2), 30);
  const second = Buffer.from(writer.push(ramp(3), 40) as Buffer);
  t.same([second[1], second.readUInt16BE(2), second.readUInt32BE(4)], [L16_PAYLOAD_TYPE, 0, 0x40], 'both go round');
  t.match(reader.read(second), { ok: true, sound: { endsAtMs: 40, lostPackets: 0, isAfterGap: false } });
  t.same(reader.read(second), { ok: false, fault: 'l16-late' });

  for (const n of [4, 5]) writer.push(ramp(n), n * 10 + 10);
  writer.push(ramp(6), 70);
  const third = writer.push(ramp(7), 80);
  t.match(reader.read(third as Buffer), { ok: true, sound: { endsAtMs: 80, lostPackets: 1, isAfterGap: true } });

  writer.push(ramp(8), 90);
  writer.push(ramp(9), 1_100);
  const afterPause = writer.push(ramp(10), 1_110);
  t.ok((afterPause?.[1] ?? 0) >= 0x80, 'a marker after a pause');
  t.match(reader.read(afterPause as Buffer), {
    ok: true,
    sound: { endsAtMs: 1_110, lostPackets: 0, isAfterGap: true },
  });

  const another = new L16Writer({ ssrc: 8, sequence: 3, timestamp: 99 });
  another.push(ramp(0), 10);
  t.match(reader.read(another.push(ramp(1), 20) as Buffer), { ok: true, sound: { isAfterGap: true, lostPackets: 0 } });

  const packet = {
    payloadType: L16_PAYLOAD_TYPE,
    marker: false,
    sequence: 5,
    timestamp: 0,
    ssrc: 8,
    csrcs: [],
    extension: null,
  };
  const faults: [string, Uint8Array][] = [
    ['rtp-too-short', Buffer.alloc(11)],
    ['rtp-wrong-version', Buffer.alloc(652)],
    ['l16-payload-type', writeRtp({ ...packet, payloadType: 0, payload: Buffer.alloc(640) })],
    ['l16-length', writeRtp({ ...packet, payload: Buffer.alloc(0) })],
    ['l16-length', writeRtp({ ...packet, payload: Buffer.alloc(639) })],
    ['l16-length', writeRtp({ ...packet, payload: Buffer.alloc(2_240) })],
  ];
  for (const [fault, datagram] of faults) t.same(reader.read(datagram), { ok: false, fault });
});

test('taps of a media process: heard by real UDP, lossy, counted; the microphone is open while one hears it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-taps-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const clock = new ManualClock();
  const door = await started(dir, 'door', clock, await freeUdpPort());
  const heard: number[] = [];
  const refused = new Counters<string>();
  const receiver = await TapReceiver.open({ clock, refused, sound: ({ samples }) => heard.push(...samples) });
  const remote = { address: '127.0.0.1', port: receiver.port } as const;
  const open = (tapId: string, source: 'microphone' | 'speaker' = 'microphone') =>
    door.station.call('tap.open', { tapId, source, remote });
  const taps = async () => (await door.station.call('engine.status', {})).taps;

  const opened = await open('one');
  t.equal(opened.rateHz, RATE_HZ);
  t.same(await open('one'), opened, 'opening again gives the same');
  t.equal(door.microphone.opened, 1);
  await until(() => door.told.includes('capture.changed {"open":true}'));
  const speak = (frames: number, from = 0): void => {
    for (let n = from; n < from + frames; n++) {
      clock.advance(10);
      door.microphone.listener?.frame({ samples: ramp(n), rateHz: RATE_HZ, capturedAtMs: clock.nowMs() });
    }
  };
  speak(20);
  await until(() => heard.length === 20 * FRAME);
  t.same(heard.slice(0, 2 * FRAME), [...ramp(0), ...ramp(1)], 'as the microphone had it');
  t.match(await taps(), [{ tapId: 'one', source: 'microphone', sentFrames: 20, sentBytes: 6_400, dropped: {} }]);

  await open('two', 'speaker');
  await door.station.call('tone.play', { tone: 'busy' });
  heard.length = 0;
  for (let i = 0; i < 20; i++) {
    clock.advance(10);
    door.speaker.listener?.pull();
  }
  await until(() => heard.length === 20 * FRAME);
  t.ok(Math.max(...heard) > 5_000, 'what the speaker plays');
  await door.station.call('tone.stop', {});

  await door.station.call('tap.close', { tapId: 'two' });
  for (const tapId of ['two', 'three', 'four']) await open(tapId);
  await t.rejects(open('five'), { code: 'too-many-taps' });
  for (const tapId of ['two', 'three', 'four']) await door.station.call('tap.close', { tapId });
  await t.rejects(door.station.call('tap.close', { tapId: 'two' }), { code: 'tap-unknown' });
  for (const bad of [
    { address: '192.0.2.1', port: 5_000 },
    { address: '127.0.0.1', port: 0 },
  ]) {
    await t.rejects(
      door.station.call('tap.open', { tapId: 'five', source: 'microphone', remote: bad as typeof remote }),
      { code: 'bad-params' },
      'to this machine alone',
    );
  }

  // Strangers' datagrams are counted, and harm nothing.
  const stranger = createSocket('udp4').bind(0, '127.0.0.1');
  await once(stranger, 'listening');
  stranger.send(Buffer.alloc(3), receiver.port, '127.0.0.1');
  await until(() => refused.get('rtp-too-short') === 1);
  stranger.close();

  // Nobody listens any more: frames are dropped and counted, and the session beside it talks on.
  await door.station.call('session.open', { sessionId: 'session-1' });
  await door.station.call('session.start', {
    sessionId: 'session-1',
    remote: { address: '127.0.0.1', port: 9 },
    ...agreement,
  });
  const before = (await taps())[0]?.sentFrames ?? 0;
  await receiver.close();
  await until(async () => {
    speak(2);
    return ((await taps())[0]?.dropped['nobody-there'] ?? 0) >= 4;
  });
  const [tap] = await taps();
  t.ok((tap?.sentFrames ?? 0) - before <= 2, 'what nobody took is not counted as sent');
  t.ok(((await door.station.call('engine.status', {})).sessions[0]?.sent ?? 0) > 0);
  const figures = await door.station.call('tap.close', { tapId: 'one' });
  t.ok((figures.dropped['nobody-there'] ?? 0) >= 4);
  await door.station.call('session.close', { sessionId: 'session-1' });
  await until(() => door.microphone.listener === null);

  // The station dies: nobody hears on unseen.
  await open('one');
  t.not(door.microphone.listener, null);
  door.station.close();
  await until(() => {
    clock.advance(1_000);
    return door.microphone.listener === null;
  });
  await door.engine.close();
  t.equal(clock.timers, 0, 'nothing is left to be done');

  const fullband = await started(dir, 'fullband', clock, await freeUdpPort(), {
    audio: { capture: 'a', playback: 'b', profile: 'fullband' },
  });
  heard.length = 0;
  const again = await TapReceiver.open({ clock, refused, sound: ({ samples }) => heard.push(...samples) });
  await fullband.station.call('tap.open', {
    tapId: 'one',
    source: 'microphone',
    remote: { address: '127.0.0.1', port: again.port },
  });
  for (let n = 0; n < 10; n++) {
    clock.advance(10);
    const samples = Int16Array.from(
      { length: 480 },
      (_, i) => 10_000 * Math.sin((2 * Math.PI * 1_000 * (n * 480 + i)) / 48_000),
    );
    fullband.microphone.listener?.frame({ samples, rateHz: 48_000, capturedAtMs: clock.nowMs() });
  }
  await until(() => heard.length === 10 * FRAME);
  const crossings = heard.slice(FRAME).filter((one, i, all) => one >= 0 && (all[i - 1] ?? 0) < 0).length;
  t.ok(Math.abs(crossings - 90) <= 1, `1 kHz at 16 kHz: ${crossings} periods in 90 ms`);
  await again.close();
  await fullband.engine.close();
});

test('the station grants taps as its configuration says, ends them with their holder, and tells of each', async (t) => {
  const opened: string[] = [];
  const noted: object[] = [];
  const fails: { now?: AppError } = {};
  const engine = {
    openTap: async ({ tapId }: { tapId: string }) => {
      if (fails.now !== undefined) throw fails.now;
      opened.push(tapId);
      return 7;
    },
    closeTap: async (tapId: string) => void opened.splice(opened.indexOf(tapId), 1),
  };
  const clock = new ManualClock();
  const taps = (flows: boolean) =>
    new StationTaps({
      engine,
      isGranted: { flows, inference: true },
      clock,
      logger: silentLogger,
      note: (_kind, body) => noted.push(body),
    });
  const [one, other] = [{}, {}];
  const order = { owner: 'flows', holder: one, source: 'microphone', port: 5_000 } as const;
  await t.rejects(taps(false).open(order), { code: 'tap-not-granted', remedy: /taps\.flows: true/ });
  t.same([opened, noted], [[], []]);

  const granted = taps(true);
  t.equal(await granted.open(order), 7);
  await granted.open(order);
  await t.rejects(granted.open({ ...order, holder: other }), { code: 'tap-taken' });
  granted.close({ ...order, holder: other });
  t.same(opened, ['flows-microphone-5000', 'flows-microphone-5000'], 'who does not hold it does not end it');
  t.same(noted, [{ owner: 'flows', source: 'microphone', open: true }], 'told once');
  opened.length = 1;
  await granted.open({ ...order, source: 'speaker' });
  await granted.open({ ...order, port: 5_001 });
  await t.rejects(granted.open({ ...order, port: 5_002 }), { code: 'too-many-taps' });
  await granted.open({ owner: 'inference', holder: other, source: 'microphone', port: 6_000 });
  granted.release(one);
  t.same(opened, ['inference-microphone-6000'], 'its holder left');
  fails.now = new AppError('socket-failed', 'no');
  await t.rejects(granted.open(order), { code: 'socket-failed' });
  delete fails.now;
  t.equal(await granted.open(order), 7, 'and may try again');

  const rounds = async (): Promise<number> => {
    for (let round = 0; round < 100; round++) {
      granted.close(order);
      const code = await granted.open(order).then(
        () => null,
        (error: AppError) => error.code,
      );
      if (code !== null) return round;
    }
    return 100;
  };
  t.ok((await rounds()) < 30, 'a flow that opens and closes in circles fills no outbox');
  await t.rejects(granted.open(order), { code: 'too-soon' });
  t.equal(await granted.open({ owner: 'inference', holder: other, source: 'speaker', port: 6_001 }), 7);
  clock.advance(60_000);
  t.equal(await granted.open(order), 7);
});

test('a tap that a media process opens and is too slow to tell of is closed again', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-taps-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const media = await EngineDouble.start(dir);
  t.teardown(() => media.stop());
  const nothing = (): void => {};
  const engine = new EngineClient({
    path: join(dir, 'media.sock'),
    identity: null,
    clock: systemClock,
    logger: silentLogger,
    events: {
      ...{ onCapture: nothing, onHeard: nothing, onSilent: nothing, onSlow: nothing, onMoved: nothing },
      ...{ onQuality: nothing, onDigit: nothing, onClipEnded: nothing, onLog: nothing, onLost: nothing },
    },
  });
  t.teardown(() => engine.close());
  await engine.reached(5_000);
  const order = { tapId: 'one', source: 'microphone', remote: { address: '127.0.0.1', port: 5_000 } } as const;
  media.fails = true;
  await t.rejects(engine.openTap(order), { code: 'timeout' });
  await until(() => media.taps.size === 0);
  media.fails = false;
  t.equal(await engine.openTap(order), 35_000);
  media.fails = true;
  await t.rejects(engine.openTap(order), { code: 'timeout' });
  t.equal(media.taps.size, 1, 'one that was open before stays');
});
