import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { stringify } from 'yaml';
import { readModel, readModelFolder } from '../src/adapters/onnx/model-folder.js';
import type { AudioFrame } from '../src/audio/frame.js';
import { Resampler } from '../src/audio/resample.js';
import type { Decision } from '../src/inference/decision.js';
import { FeatureWindow } from '../src/inference/feature-window.js';
import { bandCentresHz, type FeatureFormat, LogMel } from '../src/inference/log-mel.js';
import { checkFile, checkShape, type ModelCard } from '../src/inference/model-card.js';
import { ModelEar } from '../src/inference/model-ear.js';
import { ScoreSmoother, type Smoothing } from '../src/inference/score-smoother.js';
import { VoiceActivity } from '../src/inference/voice-activity.js';
import { humanSpeech } from '../src/lab/speech.js';
import { seededRandom } from './support/random.js';

const RATE_HZ = 16_000;
const HOP = 160;
const format: FeatureFormat = { rateHz: RATE_HZ, windowMs: 25, hopMs: 10, mels: 40, lowestHz: 60, highestHz: 7_800 };
const smoothing: Smoothing = { threshold: 0.7, releaseThreshold: 0.4, meanMs: 0, consecutive: 2, refractoryMs: 1_000 };
const bytes = new Uint8Array(64).fill(7);
const sha256 = createHash('sha256').update(bytes).digest('hex');
const card: ModelCard = {
  name: 'bells',
  version: '1.0.0',
  kind: 'sound',
  licence: 'Apache-2.0',
  file: 'bells.onnx',
  sizeBytes: bytes.length,
  sha256,
  features: format,
  frames: 8,
  everyFrames: 4,
  input: 'features',
  output: 'scores',
  labels: ['quiet', 'bell'],
  decisions: { bell: smoothing },
};

function sine(hz: number, amplitude: number, seconds: number): Int16Array {
  return Int16Array.from({ length: seconds * RATE_HZ }, (_, i) =>
    Math.round(32_767 * amplitude * Math.sin((2 * Math.PI * hz * i) / RATE_HZ)),
  );
}

function* frames(samples: Int16Array): Generator<AudioFrame> {
  for (let at = 0; at + HOP <= samples.length; at += HOP) {
    yield { samples: samples.subarray(at, at + HOP), rateHz: RATE_HZ, capturedAtMs: (1000 * (at + HOP)) / RATE_HZ };
  }
}

/** Log-mel by its definition, from the whole recording and by a plain Fourier sum: what the stream is held against. */
function logMelByDefinition(samples: Int16Array, frame: number): number[] {
  const [length, size] = [400, 512];
  const from = (frame + 1) * HOP - length;
  const windowed = Array.from({ length }, (_, i) => {
    const sample = from + i < 0 ? 0 : (samples[from + i] ?? 0) / 32_768;
    return sample * Math.sin((Math.PI * (i + 0.5)) / length) ** 2;
  });
  const energy = Array.from({ length }, (_, i) => Math.sin((Math.PI * (i + 0.5)) / length) ** 4).reduce(
    (a, b) => a + b,
  );
  const powers = Array.from({ length: size / 2 + 1 }, (_, k) => {
    let [re, im] = [0, 0];
    for (const [i, value] of windowed.entries()) {
      re += value * Math.cos((2 * Math.PI * k * i) / size);
      im -= value * Math.sin((2 * Math.PI * k * i) / size);
    }
    return (2 * (re * re + im * im)) / (energy * size);
  });
  const mel = (hz: number) => 2595 * Math.log10(1 + hz / 700);
  const hz = (one: number) => 700 * (10 ** (one / 2595) - 1);
  const points = Array.from({ length: 42 }, (_, i) => hz(mel(60) + ((mel(7_800) - mel(60)) * i) / 41));
  return Array.from({ length: 40 }, (_, m) => {
    const [low = 0, middle = 0, high = 0] = points.slice(m, m + 3);
    const sum = powers.reduce((total, power, k) => {
      const at = (k * RATE_HZ) / size;
      return total + power * Math.max(0, Math.min((at - low) / (middle - low), (high - at) / (high - middle)));
    }, 1e-8);
    return Math.log(sum);
  });
}

test('log-mel features of a stream are those of the definition, and say where and how loud a tone is', async (t) => {
  const random = seededRandom(1);
  const noise = Int16Array.from({ length: 10 * HOP }, () => Math.round(8_000 * (random() - 0.5)));
  const mel = new LogMel(format);
  const features = new Float32Array(10 * 40);
  for (let i = 0; i < 10; i++) mel.push(noise.subarray(i * HOP, (i + 1) * HOP), features, i * 40);
  for (const frame of [0, 1, 5, 9]) {
    const expected = logMelByDefinition(noise, frame);
    const worst = Math.max(...expected.map((one, m) => Math.abs(one - (features[frame * 40 + m] as number))));
    t.ok(worst < 1e-4, `frame ${frame}: off by ${worst}`);
  }

  const centres = bandCentresHz(format);
  const values = new Float32Array(40);
  for (const m of [10, 22, 37]) {
    mel.reset();
    for (const frame of frames(sine(centres[m] as number, 0.5, 0.1))) mel.push(frame.samples, values);
    t.equal(values.indexOf(Math.max(...values)), m, `a tone in the middle of band ${m}`);
  }
  const loudest = Math.max(...values);
  for (const frame of frames(sine(centres[37] as number, 0.05, 0.1))) mel.push(frame.samples, values);
  t.ok(Math.abs(loudest - Math.max(...values) - Math.log(100)) < 0.05, '20 dB less is a hundredth of the power');
  mel.reset();
  mel.push(new Int16Array(HOP), values);
  t.ok(
    values.every((one) => Math.abs(one - Math.log(1e-8)) < 1e-4),
    'silence is the floor, never minus infinity',
  );
  t.throws(() => mel.push(new Int16Array(80), values), { message: '80 samples where 160 were expected' });
  for (const bad of [{ mels: 128 }, { windowMs: 5 }, { highestHz: 9_000 }, { lowestHz: 7_900 }, { hopMs: 0.03 }]) {
    t.throws(() => new LogMel({ ...format, ...bad }), RangeError, JSON.stringify(bad));
  }
});

test('a window of features is whole, oldest first, and comes as often as asked, without new memory', async (t) => {
  const window = new FeatureWindow({ frames: 4, mels: 2, everyFrames: 3 });
  const seen: number[][] = [];
  const memory = new Set<ArrayBufferLike>();
  for (let i = 0; i < 25; i++) {
    const whole = window.push((into, at) => into.set([i, -i], at));
    if (whole === null) continue;
    memory.add(whole.buffer);
    seen.push([...whole].filter((_, at) => at % 2 === 0));
    t.ok(
      whole.every((one, at) => one === ((at % 2) * -2 + 1) * (i - 3 + Math.floor(at / 2))),
      `after frame ${i}`,
    );
  }
  t.same(seen.slice(0, 3), [
    [0, 1, 2, 3],
    [3, 4, 5, 6],
    [6, 7, 8, 9],
  ]);
  t.equal(seen.length, 8);
  t.equal(memory.size, 1);
  window.reset();
  const after = [1, 2, 3, 4].map((i) => window.push((into, at) => into.set([i, i], at)));
  t.same(
    after.map((one) => one !== null),
    [false, false, false, true],
    'after a gap no window has frames of before',
  );
});

test('scores become decisions: rows, hysteresis, a mean, refractory time', async (t) => {
  const edges = (smoother: ScoreSmoother, scores: number[], fromMs = 0) =>
    scores.map((score, i) => smoother.push(score, fromMs + 100 * i));
  const rows = new ScoreSmoother(smoothing);
  t.same(edges(rows, [0.9, 0.1, 0.9, 0.9, 0.5, 0.41, 0.39]), [null, null, null, 'start', null, null, 'end']);
  t.same(edges(rows, [1, 1, 1], 700), [null, null, null], 'too soon after the last');
  t.same(edges(rows, [1], 1_600), ['start'], 'refractory time over, still there');

  const mean = new ScoreSmoother({ ...smoothing, meanMs: 300, consecutive: 1 });
  edges(mean, [0, 0, 0]);
  t.equal(mean.push(1, 300), null, 'one outlier is averaged away');
  t.ok(Math.abs(mean.score - (1 - Math.exp(-1 / 3))) < 1e-9);
  const rising = edges(mean, [1, 1, 1, 1], 400);
  t.equal(rising.indexOf('start'), 2, '1 - exp(-4/3) is past 0.7');
  t.equal(mean.push(0, 10_000), 'end', 'after a long gap what was before counts no longer');

  const hostile = new ScoreSmoother({ ...smoothing, consecutive: 1 });
  t.same(edges(hostile, [Number.NaN, Number.NEGATIVE_INFINITY, -5, Number.POSITIVE_INFINITY]), [
    null,
    null,
    null,
    null,
  ]);
  t.equal(hostile.score, 0);
  t.equal(hostile.push(1, 400), 'start', 'one NaN has not poisoned the mean');
  for (const bad of [{ releaseThreshold: 0.8 }, { threshold: 1.1 }, { releaseThreshold: 0 }, { consecutive: 0 }]) {
    t.throws(() => new ScoreSmoother({ ...smoothing, ...bad }), RangeError);
  }
});

test('a model hears its features, and each decision carries time, score and its hash', async (t) => {
  const ear = new ModelEar(card, RATE_HZ);
  const decisions: Decision[] = [];
  const askedAtMs: number[] = [];
  for (const frame of frames(sine(1_000, 0.3, 0.3))) {
    const window = ear.hear(frame);
    if (window === null) continue;
    t.equal(window.length, 8 * 40);
    askedAtMs.push(frame.capturedAtMs);
    decisions.push(...ear.scored(Float32Array.of(0.2, 0.8), frame.capturedAtMs));
  }
  t.same(askedAtMs, [80, 120, 160, 200, 240, 280]);
  t.match(decisions, [{ kind: 'sound', label: 'bell', edge: 'start', atMs: 120, modelSha256: sha256 }]);
  t.ok(Math.abs((decisions[0]?.score ?? 0) - 0.8) < 1e-6);
  t.throws(() => ear.scored(Float32Array.of(1), 0), { message: '1 scores for 2 labels' });
  t.throws(() => ear.hear({ samples: new Int16Array(80), rateHz: 8000, capturedAtMs: 0 }), RangeError);
  const inherited = new ModelEar({ ...card, labels: ['toString', 'bell'] }, RATE_HZ);
  t.equal(inherited.scored(Float32Array.of(1, 1), 0).length + inherited.scored(Float32Array.of(1, 1), 40).length, 1);
});

test('a model that is not as its card says is refused with the reason, and keeps no other from loading', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'models-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const put = (name: string, text: string) => writeFile(join(folder, name), text);
  const other = (changes: object) => stringify({ ...card, ...changes });
  await writeFile(join(folder, 'bells.onnx'), bytes);
  await writeFile(join(folder, 'cut-off.onnx'), bytes.subarray(0, 40));
  await writeFile(join(folder, 'another.onnx'), new Uint8Array(64));
  const faults: [string, string, RegExp][] = [
    ['cut-off', other({ file: 'cut-off.onnx' }), /cut-off.onnx is cut off: 40 of 64 bytes/],
    ['another', other({ file: 'another.onnx' }), /another file than its card was written for/],
    ['absent', other({ file: 'absent.onnx' }), /absent.onnx can't be read/],
    ['rate', other({ features: { ...format, rateHz: 8_000, highestHz: 3_900 } }), /hears 8000 Hz .* has 16000 Hz/],
    ['hop', other({ features: { ...format, hopMs: 20 } }), /hop is 20 ms/],
    ['bands', other({ features: { ...format, mels: 120 } }), /too many/],
    ['labels', other({ labels: ['bell', 'bell'] }), /twice/],
    ['decision', other({ decisions: { gong: smoothing } }), /gong is none of its labels/],
    ['deaf', other({ decisions: {} }), /no decision/],
    ['release', other({ decisions: { bell: { ...smoothing, releaseThreshold: 0.9 } } }), /end above/],
    ['never-asked', other({ everyFrames: 9 }), /asked each 9 frames/],
    ['path', other({ file: '../bells.onnx' }), /file: must be a file's name/],
    ['hash', other({ sha256: 'AB' }), /sha256: must be 64/],
    ['unknown-key', other({ thresholds: 1 }), /thresholds/],
    ['no-yaml', 'name: [', /no YAML/],
    ['aliases', `a: &a [1]\nb: [*a, *a]\n`, /no YAML/],
    ['empty', '', /expected object/],
    ['huge', `# ${'x'.repeat(70_000)}`, /more than 65536/],
  ];
  await put('bells.card.yaml', stringify(card));
  for (const [name, text] of faults) await put(`${name}.card.yaml`, text);
  await put('notes.txt', 'no card');
  const { models, refused } = await readModelFolder(folder, RATE_HZ);
  t.same(models, [{ card, bytes: Buffer.from(bytes) }]);
  t.equal(refused.length, faults.length);
  for (const [name, , reason] of faults) {
    t.match(refused.find((one) => one.card.endsWith(`/${name}.card.yaml`))?.reason, reason, name);
  }
  await t.rejects(readModel(join(folder, 'rate.card.yaml'), RATE_HZ), { code: 'model-refused' });
  await t.rejects(readModelFolder(join(folder, 'nowhere'), RATE_HZ), { code: 'models-absent' });
  t.throws(() => checkFile(card, { sizeBytes: 65, sha256: '0'.repeat(64) }), { code: 'model-refused' });

  const input = { name: 'features', type: 'float32', dimensions: [null, 8, 40] };
  const output = { name: 'scores', type: 'float32', dimensions: [1, 2] };
  checkShape(card, { inputs: [input], outputs: [output, { ...output, name: 'more' }] });
  const shapes: [object, object, RegExp][] = [
    [{ name: 'sound' }, {}, /no input features \(it has sound\)/],
    [{ dimensions: [1, 8, 32] }, {}, /input features is float32 \[1, 8, 32\], not float32 \[1, 8, 40\]/],
    [{ type: 'float64' }, {}, /is float64/],
    [{}, { dimensions: [1, 3] }, /output scores is float32 \[1, 3\], not float32 \[1, 2\]/],
    [{}, { dimensions: [2] }, /output scores/],
  ];
  for (const [changedInput, changedOutput, message] of shapes) {
    const shape = { inputs: [{ ...input, ...changedInput }], outputs: [{ ...output, ...changedOutput }] };
    t.throws(() => checkShape(card, shape), { code: 'model-refused', message });
  }
  t.throws(() => checkShape(card, { inputs: [input, { ...input, name: 'state' }], outputs: [output] }), /2 inputs/);
});

test('voice activity hears people in noise, and neither noise, hum, beeps nor clicks', async (t) => {
  const speech = new Resampler({ fromHz: 48_000, toHz: RATE_HZ }).resample(await humanSpeech());
  const random = seededRandom(3);
  const background = (seconds: number, amplitude: number) =>
    Float64Array.from({ length: seconds * RATE_HZ }, () => amplitude * (random() + random() + random() + random() - 2));
  const mix = (seconds: number, noise: number, sound: Int16Array, atS: number) => {
    const sum = background(seconds, noise);
    for (let i = 0; i < sound.length; i++)
      sum[atS * RATE_HZ + i] = (sum[atS * RATE_HZ + i] ?? 0) + (sound[i] as number);
    return Int16Array.from(sum, (one) => Math.max(-32_768, Math.min(32_767, Math.round(one))));
  };
  const listen = (samples: Int16Array) => {
    const voice = new VoiceActivity(RATE_HZ);
    const decisions: Decision[] = [];
    let onFrames = 0;
    for (const frame of frames(samples)) {
      const decision = voice.push(frame);
      if (decision !== null) decisions.push(decision);
      if (voice.isOn) onFrames += 1;
    }
    return { decisions, onMs: 10 * onFrames };
  };
  const seconds = Math.ceil(speech.length / RATE_HZ);
  for (const noise of [0, 30, 300]) {
    const { decisions, onMs } = listen(mix(seconds + 6, noise, speech, 3));
    const [first] = decisions;
    t.match(first, { kind: 'voice', label: 'voice', edge: 'start', modelSha256: null }, `noise ${noise}`);
    t.ok((first?.atMs ?? 0) > 3_000 && (first?.atMs ?? 0) < 3_600, `starts with the speech: ${first?.atMs} ms`);
    t.equal(decisions.at(-1)?.edge, 'end');
    t.ok((decisions.at(-1)?.atMs ?? 0) < 1000 * (3 + seconds) + 500, 'ends with it');
    t.ok(onMs > 700 * seconds, `${onMs} ms of ${seconds} s`);
  }
  const hum = sine(100, 0.2, 4);
  for (const [i, one] of sine(150, 0.1, 4).entries()) hum[i] = (hum[i] as number) + one;
  const click = Int16Array.from({ length: 80 }, (_, i) => (i < 20 ? 20_000 * (i % 2 === 0 ? 1 : -1) : 0));
  const unheard: [string, Int16Array][] = [
    ['noise', mix(6, 1_000, new Int16Array(0), 0)],
    ['silence', new Int16Array(4 * RATE_HZ)],
    ['hum from the start', hum],
    ['a beep', mix(6, 30, sine(1_000, 0.3, 0.5), 3)],
    ['a click', mix(6, 30, click, 3)],
  ];
  for (const [what, samples] of unheard) t.same(listen(samples).decisions, [], what);
  t.throws(
    () => new VoiceActivity(RATE_HZ).push({ samples: new Int16Array(80), rateHz: 8000, capturedAtMs: 0 }),
    RangeError,
  );
});
