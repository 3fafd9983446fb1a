/** Sounds that flows have played: on the speaker, into a call, spoken by a child. */
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { speak } from '../src/adapters/speech/espeak.js';
import { readSoundFile } from '../src/adapters/speech/wav-file.js';
import { type AudioFrame, frameSamples } from '../src/audio/frame.js';
import { writeWav } from '../src/audio/wav.js';
import { ManualClock } from '../src/core/clock.js';
import { Clips } from '../src/engine/clips.js';
import type { FrameSource } from '../src/media/frame-source.js';
import { CLIP_PIECE_SAMPLES, CLIP_RATE_HZ, MOST_CLIP_MS, piecesOf } from '../src/protocol/clip-api.js';

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
