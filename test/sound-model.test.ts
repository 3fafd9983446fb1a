import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { stringify } from 'yaml';
import { readModelFolder } from '../src/adapters/onnx/model-folder.js';
import { type LoadedModel, loadModel } from '../src/adapters/onnx/onnx-model.js';
import { resample } from '../src/audio/resample.js';
import { packageRoot } from '../src/core/package-root.js';
import type { Decision } from '../src/inference/decision.js';
import { ModelEar } from '../src/inference/model-ear.js';
import type { Smoothing } from '../src/inference/score-smoother.js';
import { humanSpeech } from '../src/lab/speech.js';
import { Dice } from '../src/sounds/dice.js';
import { EVENT_LABELS, SEEDS } from '../src/sounds/made-sound.js';
import { sceneOf } from '../src/sounds/scene.js';
import { LabelledFeatures } from '../training/labelled-features.js';
import { Network } from '../training/network.js';
import { writeOnnx } from '../training/onnx-writer.js';
import { sharedVoices } from '../training/scene-plan.js';
import { NAME } from '../training/sound-events.js';
import { type TrainingOptions, train } from '../training/train.js';
import { cardedAs, tinyGraph, tinyModel } from './support/tiny-model.js';

const RATE_HZ = 16_000;
const HOP = 160;

/** What a model says of a recording that begins at 0 ms. */
async function decisionsOf(model: LoadedModel, samples: Int16Array): Promise<Decision[]> {
  const ear = new ModelEar(model.card, RATE_HZ);
  const decisions: Decision[] = [];
  for (let at = 0; at + HOP <= samples.length; at += HOP) {
    const capturedAtMs = (1000 * (at + HOP)) / RATE_HZ;
    const window = ear.hear({ samples: samples.subarray(at, at + HOP), rateHz: RATE_HZ, capturedAtMs });
    if (window !== null) decisions.push(...ear.scored(await model.run(window), capturedAtMs));
  }
  return decisions;
}

/** Tones of 100 ms, one after the other; 0 is silence. */
function tones(...pitchesHz: number[]): Int16Array {
  const each = RATE_HZ / 10;
  return Int16Array.from({ length: pitchesHz.length * each }, (_, i) =>
    Math.round(6_000 * Math.sin((2 * Math.PI * (pitchesHz[Math.floor(i / each)] ?? 0) * i) / RATE_HZ)),
  );
}

test('any model of the contract is loaded from the folder and runs: a keyword', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'models-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const made = tinyModel();
  await writeFile(join(folder, made.card.file), made.bytes);
  await writeFile(join(folder, 'two-tone.card.yaml'), stringify(made.card));
  const { models, refused } = await readModelFolder(folder, RATE_HZ);
  t.same(refused, []);
  const model = await loadModel(models[0] ?? made);
  t.teardown(() => model.close());
  const decisions = await decisionsOf(model, tones(0, 0, 1_000, 2_000, 0, 0, 0, 2_000, 1_000, 0, 0, 0, 1_000, 2_000));
  t.match(decisions, [
    { kind: 'keyword', label: 'two-tone', edge: 'start', modelSha256: made.card.sha256 },
    { edge: 'end' },
    { edge: 'start' },
  ]);
  const startsMs = decisions.filter(({ edge }) => edge === 'start').map(({ atMs }) => atMs);
  t.same(startsMs, [400, 1_400], 'where it was said, and not where the tones came the other way round');
  t.ok(decisions.every(({ score }) => score >= 0 && score <= 1));

  const window = new Float32Array(20 * 40).fill(-10);
  const asked = model.run(window);
  window.fill(Number.NaN);
  t.ok((await asked).every(Number.isFinite), 'what was asked is copied at once');
  await t.rejects(model.run(new Float32Array(3)), { message: '3 features where 800 were expected' });
});

test('a file that is no model of its card is refused with the reason', async (t) => {
  const graph = tinyGraph();
  const good = tinyModel();
  const unary = (op: string) => ({
    ...graph,
    nodes: [...graph.nodes.slice(0, 2), { op, inputs: ['sums'], output: 'scores' }],
  });
  const faults: [string, Uint8Array, RegExp][] = [
    ['cut-off', good.bytes.subarray(0, good.bytes.length / 2), /can't be loaded/],
    ['cut-off-within-weights', good.bytes.subarray(0, good.bytes.length - 100), /can't be loaded/],
    ['empty', new Uint8Array(0), /can't be loaded/],
    ['no-onnx', new TextEncoder().encode('#!/bin/sh\necho no model\n'), /can't be loaded/],
    [
      'another-input',
      writeOnnx({ ...graph, input: { name: 'features', dimensions: [1, 40, 20] } }),
      /input features is/,
    ],
    ['unknown-operator', writeOnnx(unary('Guess')), /can't be loaded/],
    ['no-scores', writeOnnx(unary('Neg')), /no scores of 0 … 1/],
    [
      'fails-when-it-runs',
      writeOnnx({
        ...graph,
        input: { name: 'features', dimensions: ['any', 20, 40] },
        constants: graph.constants.map((one) =>
          one.name === 'flat' ? { ...one, values: BigInt64Array.of(-1n, 1n) } : one,
        ),
      }),
      /does not run|can't be loaded/,
    ],
  ];
  for (const [name, bytes, message] of faults) {
    await t.rejects(loadModel(cardedAs(bytes)), { code: 'model-refused', message }, name);
  }
  const card = { ...good.card, labels: ['other', 'two-tone', 'more'] };
  await t.rejects(loadModel({ card, bytes: good.bytes }), { code: 'model-refused', message: /not float32 \[1, 3\]/ });
  t.same(tinyModel(), good, 'the same graph makes the same bytes');
});

test('the network learns what its gradients say, and the same recordings make the same bytes', async (t) => {
  const dice = new Dice(3, 'test');
  const shape = { frames: 12, mels: 5, labels: 2, channels: [3, 4, 3], hidden: 4 } as const;
  const normalisation = { means: new Float64Array(5).fill(-1), scales: new Float64Array(5).fill(0.5) };
  const network = new Network(shape, normalisation, dice);
  const features = Float32Array.from({ length: 60 }, () => dice.between(-4, 2));
  const pull = [0.7, -1.3];
  const loss = () => network.forward(features).reduce((sum, odds, i) => sum + odds * (pull[i] as number), 0);
  loss();
  network.backward(Float64Array.from(pull));
  let checked = 0;
  for (const { values, gradients } of network.parameters) {
    for (let i = 0; i < values.length; i += 3) {
      const [held, step] = [values[i] as number, 1e-6];
      values[i] = held + step;
      const above = loss();
      values[i] = held - step;
      const slope = (above - loss()) / (2 * step);
      values[i] = held;
      const told = gradients[i] as number;
      if (Math.abs(slope - told) > 1e-5 * (1 + Math.abs(slope))) t.fail(`a slope of ${slope} where ${told} was told`);
      checked += 1;
    }
  }
  t.ok(checked > 60, `${checked} slopes`);

  const format = { rateHz: RATE_HZ, windowMs: 25, hopMs: 10, mels: 24, lowestHz: 60, highestHz: 7_800 };
  const recordings: LabelledFeatures[] = [];
  for (let seed = 0; seed < 9; seed++) {
    const event = seed % 3 === 0 ? null : seed % 3 === 1 ? 'glass' : 'alarm';
    const scene = { seed, event, seconds: 2, eventAtS: 0.4, over: 'silence', snrDb: 20, peakDb: -10 } as const;
    recordings.push(new LabelledFeatures(await sceneOf(scene), ['glass', 'alarm'], format));
  }
  const losses: number[] = [];
  const options: TrainingOptions = {
    shape: { frames: 60, channels: [6, 8, 8], hidden: 8 },
    epochs: 6,
    windows: 4,
    batch: 8,
    learningRate: 0.01,
    falseAlarmWeight: 1,
    seed: 5,
  };
  const trained = (seed: number) =>
    train(recordings, { ...options, seed }, (line) => losses.push(Number(line.split(' ').at(-1))));
  const small = trained(5);
  const bytes = writeOnnx(small.toOnnx('small'));
  t.ok((losses[5] as number) < 0.8 * (losses[0] as number), `the loss falls: ${losses}`);
  t.ok(Buffer.from(bytes).equals(writeOnnx(trained(5).toOnnx('small'))), 'the same bytes twice');
  t.notOk(Buffer.from(bytes).equals(writeOnnx(trained(6).toOnnx('small'))), 'others by another seed');

  const { sizeBytes: _, sha256: __, ...other } = tinyModel().card;
  const decisions = { alarm: other.decisions['two-tone'] as Smoothing };
  const card = { ...other, features: format, frames: 60, labels: ['glass', 'alarm'], decisions };
  const model = await loadModel(cardedAs(bytes, card));
  t.teardown(() => model.close());
  for (const recording of recordings) {
    const scores = await model.run(recording.features.subarray(0, 60 * 24));
    const expected = small.forward(recording.features).map((odds) => 1 / (1 + Math.exp(-odds)));
    const worst = Math.max(...expected.map((one, i) => Math.abs(one - (scores[i] as number))));
    t.ok(worst < 1e-5, `the file gives what the network does: off by ${worst}`);
  }
});

test('the model that ships hears what it was not trained on, over noise and speech, and tells of nothing else', async (t) => {
  const { models, refused } = await readModelFolder(join(packageRoot, 'models'), RATE_HZ);
  t.same(refused, [], 'each model is the one of its card');
  const carded = models.find(({ card }) => card.name === NAME);
  if (carded === undefined) throw new Error('No model ships');
  const model = await loadModel(carded);
  t.teardown(() => model.close());
  const first = SEEDS.heldOut.first + 50_000;
  const sounds = sharedVoices({ first }, 4);
  let heard = 0;
  const wrong: string[] = [];
  for (const [i, event] of [...EVENT_LABELS, ...EVENT_LABELS].entries()) {
    const over = i < EVENT_LABELS.length ? 'noise' : 'speech';
    const scene = { seed: first + i, event, over, seconds: 4, eventAtS: 1.5, snrDb: 18, peakDb: -9, sounds } as const;
    const starts = (await decisionsOf(model, (await sceneOf(scene)).samples)).filter(({ edge }) => edge === 'start');
    const found = starts.find(({ label }) => label === event);
    if (found !== undefined) {
      heard += 1;
      t.ok(found.atMs > 1_500 && found.atMs < 4_000, `${event} over ${over}: at ${found.atMs} ms`);
    }
    const others = starts.filter(({ label }) => label !== event && label !== 'speech');
    wrong.push(...others.map(({ label }) => `${label} where ${event} was`));
  }
  t.ok(heard >= 6, `${heard} of 10 are heard`);
  t.same(wrong, []);

  for (const [i, over] of (['speech', 'noise', 'hum', 'silence'] as const).entries()) {
    const scene = {
      seed: first + 100 + i,
      event: null,
      over,
      seconds: 6,
      eventAtS: 0,
      snrDb: 0,
      peakDb: -6,
      sounds,
    } as const;
    const told = await decisionsOf(model, (await sceneOf(scene)).samples);
    t.same(
      told.filter(({ label }) => label !== 'speech'),
      [],
      `nothing is told of ${over}`,
    );
  }
  const people = resample(
    await humanSpeech(['Front_Left.wav', 'Rear_Right.wav', 'Side_Left.wav', 'Front_Center.wav']),
    { fromHz: 48_000, toHz: RATE_HZ },
  );
  const told = await decisionsOf(model, people);
  t.same([...new Set(told.map(({ label }) => label))], ['speech'], 'people who speak are speech, and nothing else');
});
