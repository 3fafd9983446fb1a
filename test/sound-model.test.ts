import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { stringify } from 'yaml';
import { readModelFolder } from '../src/adapters/onnx/model-folder.js';
import { type LoadedModel, loadModel } from '../src/adapters/onnx/onnx-model.js';
import type { Decision } from '../src/inference/decision.js';
import { ModelEar } from '../src/inference/model-ear.js';
import { writeOnnx } from '../training/onnx-writer.js';
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
