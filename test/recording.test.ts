import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { opusDecoders, opusEncoders } from '../src/adapters/opus/opus-engines.js';
import { resample } from '../src/audio/resample.js';
import { readWav } from '../src/audio/wav.js';
import { OggOpusWriter, oggChecksum } from '../src/codec/ogg-opus.js';
import { ManualClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { similarity } from '../src/lab/similarity.js';
import { newClipEncoder } from '../src/palette/record/clip-encoder.js';
import type { ClipSink } from '../src/palette/record/opus-clip.js';
import { Recorder, type RecorderOptions } from '../src/palette/record/recorder.js';
import { RecordingFile } from '../src/palette/record/recording-file.js';
import type { TapSource } from '../src/palette/station/shared-taps.js';
import { type OggPage, readOgg } from './support/ogg.js';

const SETTINGS = { bitrateBps: 24_000, complexity: 5, inbandFec: false, expectedLossPct: 0, packetTimeMs: 20 } as const;
const speech = readWav(readFileSync('/usr/share/sounds/alsa/Front_Center.wav'));
const speech16k = resample(speech.samples, { fromHz: 48_000, toHz: 16_000 });

test('Ogg Opus: what every encoder makes comes back whole, of the same length, and not a millisecond late', async (t) => {
  for (const choice of ['native', 'discord', 'wasm'] as const) {
    const encoder = await (await opusEncoders(choice, silentLogger)).create({ rateHz: 16_000, settings: SETTINGS });
    const writer = new OggOpusWriter({ serial: 0xdeadbeef, inputRateHz: 16_000, vendor: choice });
    const parts = [writer.head()];
    const soundMs = speech16k.length / 16;
    for (let at = 0; at < speech16k.length + 104; at += 320) {
      const samples = new Int16Array(320);
      samples.set(speech16k.subarray(at, at + 320));
      const page = writer.packet(encoder.encode(samples));
      if (page !== null) parts.push(page);
    }
    parts.push(writer.end(soundMs));
    encoder.free();
    const { pages, packets } = readOgg(Buffer.concat(parts));
    const [head, tags] = packets.splice(0, 2);
    t.equal(head?.toString('latin1', 0, 8), 'OpusHead');
    t.equal(head?.readUInt16LE(10), 312);
    t.equal(head?.readUInt32LE(12), 16_000);
    t.equal(tags?.toString('latin1', 0, 8), 'OpusTags');
    t.ok(tags?.includes(choice));
    t.same(
      pages.map(({ flags }) => flags),
      [2, 0, 0, 4],
      'first, then comment, a second of sound, the rest',
    );
    t.equal(pages.at(-1)?.granules, 312n + BigInt(Math.round(soundMs * 48)));
    t.ok(pages.every(({ serial, sequence }, index) => serial === 0xdeadbeef && sequence === index));
    const decoder = await (await opusDecoders('native', silentLogger)).create({ rateHz: 16_000 });
    const heard = packets.flatMap((packet) => [...decoder.decode(packet)]).slice(104, 104 + speech16k.length);
    decoder.free();
    const { similarity: likeness, lagMs } = similarity(speech16k, Int16Array.from(heard), 16_000);
    t.ok(likeness > 0.9 && Math.abs(lagMs) <= 1, `${choice}: ${likeness} alike, ${lagMs} ms late`);
  }
});

test('Ogg pages: the checksum of the RFC, packets of any length, no page longer than its table', (t) => {
  // CRC-32/MPEG-2 without the initial value and the final one; of "123456789" it is this , what POSIX cksum counts by.
  t.equal(oggChecksum(Buffer.from('123456789')), 0x89a1897f);
  const writer = new OggOpusWriter({ serial: 1, inputRateHz: 16_000, vendor: '' });
  const sizes = [1, 254, 255, 256, 510, 1_275, ...Array<number>(60).fill(1_275)];
  const parts = [writer.head()];
  for (const size of sizes) {
    // 20 ms of wideband SILK, one frame
    const packet = new Uint8Array(size).fill(7);
    packet[0] = 9 << 3;
    const page = writer.packet(packet);
    if (page !== null) parts.push(page);
  }
  parts.push(writer.end(1e9));
  const { pages, packets } = readOgg(Buffer.concat(parts));
  t.same(
    packets.slice(2).map(({ length }) => length),
    sizes,
  );
  t.ok(pages.length > 3);
  const granules = pages.map((page: OggPage) => page.granules);
  t.same(
    granules,
    [...granules].sort((a, b) => Number(a - b)),
  );
  t.equal(granules.at(-1), BigInt(sizes.length * 960), 'never more than there is');
  for (const bad of [new Uint8Array(0), Uint8Array.of(3, 0), new Uint8Array(70_000)]) {
    t.throws(() => writer.packet(bad), RangeError);
  }
  t.end();
});

/** A recorder, and a tap for each source, whose time goes on as it is told. */
function recorder(options: Partial<RecorderOptions> = {}) {
  const clock = new ManualClock();
  const made = new Recorder({
    sources: ['microphone'],
    preRollMs: 500,
    newEncoder: () => newClipEncoder(24_000),
    clock,
    ...options,
  });
  const ends = new Map<TapSource, number>();
  const hear = (samples: Int16Array, source: TapSource = 'microphone', lostPackets = 0): void => {
    for (let at = 0; at + 320 <= samples.length; at += 320) {
      const lost = at === 0 ? lostPackets : 0;
      const endsAtMs = (ends.get(source) ?? 0) + 20 * (lost + 1);
      ends.set(source, endsAtMs);
      made.sound(source, {
        samples: samples.subarray(at, at + 320),
        endsAtMs,
        lostPackets: lost,
        isAfterGap: lost > 0,
      });
    }
  };
  const parts: Buffer[] = [];
  const sink: ClipSink = { write: async (bytes) => void parts.push(Buffer.from(bytes)) };
  const written = () => Buffer.concat(parts.splice(0));
  return { clock, recorder: made, hear, sink, written };
}

async function heardIn(file: Buffer): Promise<Int16Array> {
  const { pages, packets } = readOgg(file);
  mustEnd(pages);
  const decoder = await (await opusDecoders('native', silentLogger)).create({ rateHz: 16_000 });
  const samples = packets.slice(2).flatMap((packet) => [...decoder.decode(packet)]);
  decoder.free();
  return Int16Array.from(samples.slice(104, Number(pages.at(-1)?.granules) / 3));
}

function mustEnd(pages: readonly OggPage[]): void {
  if (pages.at(-1)?.flags !== 4) throw new Error('the last page does not end the stream');
}

const levelOf = (samples: Int16Array) => Math.sqrt(samples.reduce((sum, one) => sum + one * one, 0) / samples.length);
const tone = (ms: number, level = 8_000) =>
  Int16Array.from({ length: ms * 16 }, (_, i) => Math.round(level * Math.sin((i * 2 * Math.PI * 440) / 16_000)));
const MEGABYTE = 1_048_576;

test('a recording has what came before its order, what was lost as silence, and ends at its length', async (t) => {
  const { recorder: made, hear, sink, written, clock } = recorder();
  hear(tone(2_000, 0));
  hear(speech16k.subarray(0, 8_000));
  const recording = made.start({ sink, lengthMs: 1_000, mostBytes: MEGABYTE });
  hear(speech16k.subarray(8_000, 16_000));
  hear(tone(200, 0), 'microphone', 15);
  hear(tone(2_000));
  const figures = await recording.done;
  t.match(figures, { durationMs: 1_500, endedBy: 'length', lostMs: 300, droppedMs: 0 });
  const file = written();
  t.equal(file.length, figures.sizeBytes);
  const heard = await heardIn(file);
  t.equal(heard.length, 24_000);
  const { similarity: likeness, lagMs } = similarity(speech16k.subarray(0, 16_000), heard.subarray(0, 16_000), 16_000);
  t.ok(likeness > 0.9 && Math.abs(lagMs) <= 1, `${likeness} alike, ${lagMs} ms late`);
  t.ok(levelOf(heard.subarray(17_000, 23_000)) < 50, 'silence stands for what was lost');
  t.equal(clock.timers, 0);
  t.equal(made.recordings, 0);
});

test('recordings end by order, by their size, by the clock where no sound comes; four at once', async (t) => {
  const { recorder: made, hear, sink, written, clock } = recorder({ preRollMs: 0 });
  const stopped = made.start({ sink, lengthMs: 10_000, mostBytes: MEGABYTE });
  hear(tone(333 * 20));
  stopped.stop('stopped');
  stopped.stop('closed');
  const told = { durationMs: 5_020, droppedMs: 1_640, endedBy: 'stopped' };
  t.match(await stopped.done, told, 'what comes faster than it can be encoded is dropped, and told');
  written();

  const small = made.start({ sink, lengthMs: 60_000, mostBytes: 4_000 });
  for (let n = 0; n < 50 && made.recordings > 0; n++) {
    hear(tone(200));
    await new Promise((resolve) => setImmediate(resolve));
  }
  const figures = await small.done;
  t.equal(figures.endedBy, 'size');
  t.ok(figures.sizeBytes <= 4_000 && figures.sizeBytes > 3_500, `${figures.sizeBytes} bytes`);
  t.ok(figures.durationMs > 500);
  const file = written();
  t.equal(file.length, figures.sizeBytes);
  t.ok(Math.abs((await heardIn(file)).length / 16 - figures.durationMs) <= 1, 'what it says is what is in it');

  const silent = [1, 2, 3, 4].map(() => made.start({ sink, lengthMs: 2_000, mostBytes: MEGABYTE }));
  t.equal(made.mayStart, false);
  t.throws(() => made.start({ sink, lengthMs: 1, mostBytes: MEGABYTE }), RangeError);
  clock.advance(3_000);
  t.match(await Promise.all(silent.map(({ done }) => done)), Array(4).fill({ durationMs: 0, endedBy: 'length' }));
  t.equal(made.mayStart, true);
  written();

  const broken = made.start({ sink: { write: () => Promise.reject(new Error('no disk')) }, lengthMs: 0, mostBytes: 9 });
  await t.rejects(broken.done, { message: 'no disk' });
  const past = recorder();
  past.hear(tone(1_000));
  const before = past.recorder.start({ sink: past.sink, lengthMs: 0, mostBytes: MEGABYTE });
  t.match(await before.done, { durationMs: 500, endedBy: 'length' }, 'what came before alone');
  const going = past.recorder.start({ sink: past.sink, lengthMs: 5_000, mostBytes: MEGABYTE });
  past.recorder.close();
  t.match(await going.done, { endedBy: 'closed' });
});

test('both directions in one recording; who says nothing holds nobody up', async (t) => {
  const { recorder: made, hear, sink, written } = recorder({ sources: ['microphone', 'speaker'], preRollMs: 0 });
  const recording = made.start({ sink, lengthMs: 3_000, mostBytes: MEGABYTE });
  hear(tone(1_000, 20_000));
  hear(tone(1_000, 20_000));
  for (let n = 0; n < 50; n++) {
    hear(tone(20, 20_000));
    hear(tone(20, 20_000), 'speaker');
  }
  hear(tone(1_000, 0), 'speaker');
  const { durationMs, droppedMs } = await recording.done;
  t.same([durationMs, droppedMs], [3_000, 0]);
  const heard = await heardIn(written());
  const [alone, together] = [levelOf(heard.subarray(0, 16_000)), levelOf(heard.subarray(36_000, 46_000))];
  t.ok(alone > 12_000 && alone < 16_000, `${alone}`);
  t.ok(together > 20_000, `${together}: a sum that does not wrap round`);
});

test('a file of a recording: below its folder and nowhere else, whole or not there', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ep-recordings-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = await RecordingFile.create(dir, 'door/2026-11-26');
  t.equal(file.path, join(dir, 'recordings/door/2026-11-26.opus'));
  await file.write(Buffer.from('one '));
  await file.write(Buffer.from('two'));
  t.same(readdirSync(join(dir, 'recordings/door')), ['2026-11-26.opus.part']);
  await file.finish();
  t.equal(readFileSync(file.path, 'utf8'), 'one two');
  await t.rejects(RecordingFile.create(dir, 'door/2026-11-26.opus'), { code: 'recording-exists' });
  for (const name of [
    '',
    '/etc/passwd',
    '../flows.json',
    'a/../../flows.json',
    'a//b',
    'a/',
    '.npmrc',
    'a/.hidden',
    'a\\b',
    'a\0b',
    'x'.repeat(101),
    'a/b/c/d/e/f',
    'ä',
  ]) {
    await t.rejects(RecordingFile.create(dir, name), { code: 'recording-name' }, name.slice(0, 20));
  }
  mkdirSync(join(dir, 'elsewhere'));
  symlinkSync(join(dir, 'elsewhere'), join(dir, 'recordings/link'));
  await t.rejects(RecordingFile.create(dir, 'link/clip'), { code: 'recording-exists' });
  await t.rejects(RecordingFile.create(dir, 'link/below/clip'), { code: 'recording-exists' });
  t.same(readdirSync(join(dir, 'elsewhere')), [], 'not even a folder is made behind a link');
  const gone = await RecordingFile.create(dir, 'gone');
  await gone.write(Buffer.from('x'));
  await gone.discard();
  t.same(readdirSync(join(dir, 'recordings')), ['door', 'link']);
  for (const left of ['clip', 'door/other']) writeFileSync(join(dir, `recordings/${left}.opus.part`), 'of a crash');
  const again = await RecordingFile.create(dir, 'clip');
  await t.rejects(RecordingFile.create(dir, 'clip'), { code: 'recording-exists' }, 'it is being written');
  const other = await RecordingFile.create(dir, 'door/third');
  t.same(
    readdirSync(join(dir, 'recordings/door')).sort(),
    ['2026-11-26.opus', 'third.opus.part'],
    'what a crash left goes',
  );
  await again.write(Buffer.from('new'));
  await again.finish();
  await other.discard();
  t.equal(readFileSync(again.path, 'utf8'), 'new');
  writeFileSync(join(dir, 'recordings/file'), '');
  await t.rejects(RecordingFile.create(dir, 'file/clip'), { code: 'recording-failed' });
});
