import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { resample } from '../../src/audio/resample.js';
import { readWav } from '../../src/audio/wav.js';
import { similarity } from '../../src/lab/similarity.js';
import { newClipEncoder } from '../../src/palette/record/clip-encoder.js';
import { OpusClip } from '../../src/palette/record/opus-clip.js';

test('a recording as the tools of Opus read it', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ep-opus-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const speech = readWav(readFileSync('/usr/share/sounds/alsa/Front_Center.wav'));
  const speech16k = resample(speech.samples, { fromHz: 48_000, toHz: 16_000 });
  const parts: Uint8Array[] = [];
  const sink = { write: async (bytes: Uint8Array) => void parts.push(bytes) };
  const clip = new OpusClip({ encoder: newClipEncoder(24_000), sink, mostBytes: 45_056 });
  clip.push(speech16k, true);
  const { durationMs } = await clip.end();
  const [file, wav] = [join(dir, 'clip.opus'), join(dir, 'clip.wav')];
  writeFileSync(file, Buffer.concat(parts));
  const told = execFileSync('opusinfo', [file], { encoding: 'utf8' });
  for (const line of ['Pre-skip: 312', 'Channels: 1', 'Original sample rate: 16000 Hz', 'Encoded with Entryphone']) {
    t.match(told, line);
  }
  t.notMatch(told, /warning|error|invalid|missing/i);
  execFileSync('opusdec', ['--quiet', '--rate', '16000', file, wav]);
  const heard = readWav(readFileSync(wav));
  t.ok(Math.abs(heard.samples.length / 16 - durationMs) <= 1, 'as long as it was');
  const { similarity: likeness, lagMs } = similarity(speech16k, heard.samples, 16_000);
  t.ok(likeness > 0.9 && Math.abs(lagMs) <= 1, `${likeness} alike, ${lagMs} ms late`);
});
