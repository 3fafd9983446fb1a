import { execFile } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { resolve } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'tap';
import { DiscordOpusEncoder } from '../src/adapters/opus/discord-opus-encoder.js';
import { WasmOpusDecoder } from '../src/adapters/opus/wasm-opus-decoder.js';
import { readWav, writeWav } from '../src/audio/wav.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { seededRandom } from '../src/core/seeded-random.js';
import { quantile, windowDelays } from '../src/lab/alignment.js';
import { ImpairmentModel, ImpairmentRelay } from '../src/lab/impairment-relay.js';
import { inOwnNetwork, networkToolsEnv } from '../src/lab/own-network.js';
import { similarity } from '../src/lab/similarity.js';
import { SampleTimes } from '../src/lab/sound-device.js';
import { fit, humanSpeech, join, LAB_RATE_HZ, labSpeech, madeSpeech } from '../src/lab/speech.js';

const PACKET = LAB_RATE_HZ / 50;

/** Opus at 24 kbit/s and 20 ms; what is lost comes from the next packet's FEC, or is concealed. */
async function throughOpus(speech: Int16Array, lossPct: number): Promise<Int16Array> {
  const settings = {
    bitrateBps: 24_000,
    complexity: 9,
    inbandFec: true,
    expectedLossPct: Math.max(5, lossPct),
    packetTimeMs: 20,
  } as const;
  const encoder = new DiscordOpusEncoder({ rateHz: LAB_RATE_HZ, settings });
  const decoder = await WasmOpusDecoder.create({ rateHz: LAB_RATE_HZ });
  const network = new ImpairmentModel({ lossPct }, 11);
  const packets: (Uint8Array | undefined)[] = [];
  for (let at = 0; at + PACKET <= speech.length; at += PACKET) {
    const payload = Uint8Array.from(encoder.encode(speech.subarray(at, at + PACKET)));
    packets.push(network.next(0).atMs.length === 0 ? undefined : payload);
  }
  const decoded = packets.map((payload, i) => {
    if (payload !== undefined) return Int16Array.from(decoder.decode(payload));
    const next = packets[i + 1];
    return Int16Array.from(next === undefined ? decoder.conceal(PACKET) : decoder.decodeFec(next, PACKET));
  });
  encoder.free();
  decoder.free();
  return join(decoded);
}

function noise(length: number, smoothing: number): Int16Array {
  const random = seededRandom(5);
  let value = 0;
  return new Int16Array(length).map(() => {
    value = smoothing * value + (1 - smoothing) * (random() - 0.5) * 40_000;
    return value;
  });
}

const silence = (ms: number) => new Int16Array((ms * LAB_RATE_HZ) / 1000);
const score = (reference: Int16Array, heard: Int16Array) => similarity(reference, heard, LAB_RATE_HZ).similarity;

test('similarity tells honest speech from what is not it', async (t) => {
  const recordings = [
    fit(await humanSpeech(['Front_Left.wav', 'Rear_Right.wav']), 3),
    fit(await humanSpeech(['Side_Left.wav', 'Front_Center.wav']), 3),
    fit(await madeSpeech('Good morning, you have reached the second floor.'), 3),
    fit(await madeSpeech('Eleven ships went out before the storm.', 'en-us+f3'), 3),
    fit(await madeSpeech('My grandmother kept bees and sold honey.', 'en-gb-scotland'), 3),
  ];
  for (const [i, reference] of recordings.entries()) {
    const { length } = reference;
    const heard = join([silence(80), await throughOpus(reference, 0)]);
    const found = similarity(reference, heard, LAB_RATE_HZ);
    t.ok(found.similarity >= 0.95, `recording ${i} through Opus: ${found.similarity}`);
    t.ok(found.lagMs >= 75 && found.lagMs <= 100, `and late by ${found.lagMs} ms`);
    const lossy = score(reference, await throughOpus(reference, 10));
    t.ok(lossy >= 0.8, `at 10 % loss: ${lossy}`);
    const halved = score(reference, heard.subarray(0, heard.length / 2));
    t.ok(halved > 0.1 && halved < 0.5, `half of it missing: ${halved}`);
    const controls = {
      silence: silence(3_000),
      'white noise': noise(length, 0),
      'speech-shaped noise': noise(length, 0.93),
      'noise with its loudness': noise(length, 0.93).map((value, at) => (value * Math.abs(reference[at] ?? 0)) / 8_000),
      'its own hum': new Int16Array(length).fill(3_000),
    };
    for (const [name, control] of Object.entries(controls)) {
      const value = score(reference, control);
      t.ok(value <= 0.5, `${name}: ${value}`);
    }
    for (const [j, other] of recordings.entries()) {
      if (i !== j) t.ok(score(reference, other) <= 0.5, `recording ${j} for ${i}: ${score(reference, other)}`);
    }
  }
  const speech = recordings[0] ?? new Int16Array();
  t.equal(score(speech, new Int16Array()), 0, 'nothing heard');
  t.equal(score(new Int16Array(), speech), 0, 'no reference');
  t.equal(score(silence(1_000), silence(1_000)), 0, 'silence is like nothing, not even silence');
  t.equal(score(speech.subarray(0, 100), speech.subarray(0, 100)), 0, 'too short to say');
  t.ok(
    score(
      speech,
      speech.map((sample) => sample / 4),
    ) > 0.95,
    'a quieter speaker costs little',
  );
});

test('the lab has ten seconds of each speech', async (t) => {
  const { human, made, other } = await labSpeech(10);
  for (const speech of [human, made, other]) t.equal(speech.length, 10 * LAB_RATE_HZ);
  t.ok(score(human, other) <= 0.5);
  t.ok(score(made, other) <= 0.5);
});

test('alignment finds the delay of each window, through a codec', async (t) => {
  const speech = fit(await humanSpeech(), 5);
  const decoded = await throughOpus(speech, 5);
  const half = 2 * LAB_RATE_HZ;
  // 137 ms late, from its third second on 180 ms.
  const heard = join([silence(137), decoded.subarray(0, half), silence(43), decoded.subarray(half)]);
  const windows = windowDelays(speech, heard, LAB_RATE_HZ);
  const delaysMs = (keep: (at: number) => boolean) =>
    windows.filter(({ at }) => keep(at)).map(({ delaySamples }) => (delaySamples * 1000) / LAB_RATE_HZ);
  // The codec itself looks ahead by 6.5 ms.
  const early = quantile(
    delaysMs((at) => at < half - LAB_RATE_HZ / 2),
    0.5,
  );
  const late = quantile(
    delaysMs((at) => at > half),
    0.5,
  );
  t.ok(Math.abs(early - 143.5) < 2, `${early} ms`);
  t.ok(Math.abs(late - 186.5) < 2, `${late} ms`);
  t.ok(windows.length >= 8, `${windows.length} windows`);
  t.same(windowDelays(speech, silence(5_000), LAB_RATE_HZ), [], 'nothing in silence');
  t.same(windowDelays(speech, noise(speech.length, 0), LAB_RATE_HZ), [], 'nothing in noise');
  t.same(windowDelays(new Int16Array(), heard, LAB_RATE_HZ), [], 'nothing of nothing');

  const times = new SampleTimes(LAB_RATE_HZ);
  for (let i = 0; i < 50; i++) times.mark(i * 480, 1_000 + i * 10 + (i % 7 === 0 ? 30 : 0));
  t.ok(Math.abs(times.timeOfMs(4_800) - 1_100) < 0.001, 'a mark that the scheduler made late does not count');
  t.ok(Math.abs(times.indexAt(1_100) - 4_800) < 1, 'and back');
  t.ok(Number.isNaN(times.timeOfMs(10_000_000)), 'no time where there is no mark');
});

test('a network is the same for the same seed, and loses what it is told to', (t) => {
  const run = (seed: number, more: object = {}) => {
    const model = new ImpairmentModel({ lossPct: 10, meanBurstPackets: 3, jitterMs: 10, delayMs: 20, ...more }, seed);
    return Array.from({ length: 20_000 }, (_, i) => model.next(i * 20));
  };
  // As text: comparing this many objects one by one, and showing how they differ, takes minutes.
  const text = (value: unknown) => JSON.stringify(value);
  const again = text(run(1));
  t.ok(text(run(1)) === again, 'the same seed');
  t.ok(text(run(1)) !== text(run(2)), 'another seed');
  const isLost = (fates: ReturnType<typeof run>) => fates.map(({ atMs }) => atMs.length === 0);
  const withMore = run(1, { duplicatePct: 5, reorderPct: 5, reorderMs: 50 });
  t.ok(text(isLost(run(1))) === text(isLost(withMore)), 'losses are of the seed alone');

  const lost = isLost(run(3));
  const losses = lost.filter((is) => is).length;
  const bursts = lost.filter((is, i) => is && lost[i - 1] !== true).length;
  t.ok(Math.abs(losses / lost.length - 0.1) < 0.015, `${losses} lost`);
  t.ok(Math.abs(losses / bursts - 3) < 0.4, `bursts of ${losses / bursts}`);
  const arrivals = run(4).flatMap(({ atMs }) => atMs);
  t.same(
    arrivals,
    [...arrivals].sort((a, b) => a - b),
    'jitter alone keeps the order',
  );
  const moved = run(4, { reorderPct: 5, reorderMs: 50, duplicatePct: 5 });
  t.ok(Math.abs(moved.filter(({ reordered }) => reordered).length / 18_000 - 0.05) < 0.01, 'reordered');
  t.ok(Math.abs(moved.filter(({ atMs }) => atMs.length === 2).length / 18_000 - 0.05) < 0.01, 'doubled');

  t.throws(() => new ImpairmentModel({ lossPct: 101 }, 1), { code: 'impairment-invalid' });
  t.throws(() => new ImpairmentModel({ lossPct: Number.NaN }, 1), { code: 'impairment-invalid' });
  t.throws(() => new ImpairmentModel({ meanBurstPackets: 0.5 }, 1), { code: 'impairment-invalid' });
  t.end();
});

async function openSocket(): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.bind(0, '127.0.0.1');
  await once(socket, 'listening');
  return socket;
}

test('the relay passes, counts, bounds and closes', async (t) => {
  const [a, b, stranger] = await Promise.all([openSocket(), openSocket(), openSocket()]);
  t.teardown(() => {
    for (const socket of [a, b, stranger]) socket.close();
  });
  const clock = new ManualClock();
  const ends = {
    a: { address: '127.0.0.1', port: a.address().port },
    b: { address: '127.0.0.1', port: b.address().port },
  };
  const relay = await ImpairmentRelay.open({
    ...ends,
    aToB: { delayMs: 100, duplicatePct: 100 },
    bToA: {},
    seed: 1,
    clock,
    mostInFlight: 6,
  });
  const until = async (holds: () => boolean) => {
    const deadlineMs = systemClock.nowMs() + 5_000;
    while (!holds() && systemClock.nowMs() < deadlineMs) await new Promise((resolve) => setImmediate(resolve));
    t.ok(holds());
  };
  const heard: string[] = [];
  b.on('message', (packet) => heard.push(packet.toString()));
  for (let i = 0; i < 4; i++) a.send(String(i), relay.towardsA.port, relay.towardsA.address);
  stranger.send('stray', relay.towardsA.port, relay.towardsA.address);
  await until(() => relay.counts.aToB.get('received') === 4 && relay.counts.aToB.get('stray') === 1);
  t.equal(relay.inFlight, 6);
  t.equal(relay.counts.aToB.get('full'), 2);
  clock.advance(99);
  t.equal(relay.counts.aToB.get('passed'), 0, 'not before its time');
  clock.advance(1);
  await until(() => heard.length === 6);
  t.same(heard, ['0', '0', '1', '1', '2', '2']);

  const answered = once(a, 'message');
  b.send('back', relay.towardsB.port, relay.towardsB.address);
  t.equal(String((await answered)[0]), 'back');
  a.send('never', relay.towardsA.port, relay.towardsA.address);
  await until(() => relay.inFlight === 2);
  await relay.close();
  await relay.close();
  t.equal(relay.inFlight, 0);
  await t.rejects(
    ImpairmentRelay.open({ ...ends, a: { address: '192.0.2.1', port: 9 }, aToB: {}, bToA: {}, seed: 1, clock }),
    {
      code: 'port-taken',
    },
  );
});

test('WAV files are read back, and bad ones refused by name', (t) => {
  const samples = Int16Array.from([0, 1, -1, 32_767, -32_768]);
  const wav = writeWav({ samples, rateHz: 16_000 });
  t.same(readWav(wav), { samples, rateHz: 16_000 });
  const changed = (offset: number, ...bytes: number[]) => {
    const file = Uint8Array.from(wav);
    file.set(bytes, offset);
    return file;
  };
  t.same(readWav(changed(40, 0xff, 0xff, 0xff, 0xff)).samples, samples, 'a streamed file reaches to its end');
  t.equal(readWav(changed(22, 2)).samples.length, 2, 'of stereo the left channel');
  const bad: Record<string, Uint8Array> = {
    wav_empty: new Uint8Array(),
    wav_truncated_header: wav.subarray(0, 10),
    wav_truncated_format: wav.subarray(0, 30),
    wav_truncated_data: wav.subarray(0, 50),
    wav_without_data: wav.subarray(0, 36),
    wav_not_riff: changed(0, 0x58),
    wav_format_size_small: changed(16, 4),
    wav_format_size_huge: changed(16, 0xff, 0xff, 0xff, 0xff),
    wav_float: changed(20, 3),
    wav_24_bit: changed(34, 24),
    wav_no_channels: changed(22, 0),
    wav_many_channels: changed(22, 9),
    wav_rate_zero: changed(24, 0, 0, 0, 0),
  };
  for (const [name, file] of Object.entries(bad)) t.throws(() => readWav(file), { code: 'wav-invalid' }, name);
  t.end();
});

test('a poor network between two stations: the stations see each other, less what it loses; then it is gone', async (t) => {
  const probe = resolve(import.meta.dirname, 'support/network-probe.js');
  const inside = inOwnNetwork([process.execPath, probe, '25']);
  const { stdout } = await promisify(execFile)('unshare', inside, { env: networkToolsEnv(), timeout: 20_000 });
  const told = JSON.parse(stdout) as Record<'atDoor' | 'atIndoor', string[]> & Record<'lost' | 'carried', number>;
  t.match(told, { carried: 400, from: [[41_020], [41_000]] });
  t.equal(told.atDoor.length + told.atIndoor.length, 400 - told.lost + 1, 'one more came when it was gone');
  t.ok(told.lost > 60 && told.lost < 140, `${told.lost} of 400 lost`);
  t.ok(told.atDoor.every((text) => text.startsWith('b')) && told.atIndoor.at(-1) === 'straight');
});
