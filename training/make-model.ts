import { createHash } from 'node:crypto';
import type { CardedModel } from '../src/adapters/onnx/model-folder.js';
import { type LoadedModel, loadModel } from '../src/adapters/onnx/onnx-model.js';
import { AppError } from '../src/core/errors.js';
import type { ModelCard } from '../src/inference/model-card.js';
import { sceneOf } from '../src/sounds/scene.js';
import { scoresOf } from './hearing.js';
import { LabelledFeatures } from './labelled-features.js';
import type { Network } from './network.js';
import { writeOnnx } from './onnx-writer.js';
import { plannedScene, seedsOf, sharedVoices } from './scene-plan.js';
import { CARD, LABELS, type ModelSize, NAME, SMOOTH } from './sound-events.js';
import { type Answered, thresholdsOf } from './thresholds.js';
import { train } from './train.js';

/** Scores of the file and of the network that it was written of may differ by so much: sums of 32 bits instead of 64. */
const MOST_DIFFERENCE = 1e-5;

/**
 * Makes sounds, trains a network on them, writes it as ONNX, and chooses its thresholds: the same bytes for the same size, espeak-ng
 * and Node.js.
 * @throws AppError `model-differs` where ONNX Runtime does not make of the file what the network was
 */
export async function makeModel(size: ModelSize, log: (line: string) => void): Promise<CardedModel> {
  const trained = seedsOf('trained', size.scenes);
  const sounds = sharedVoices({ first: trained[0] ?? 0 }, size.voices);
  const recordings: LabelledFeatures[] = [];
  for (const seed of trained) {
    recordings.push(new LabelledFeatures(await sceneOf({ ...plannedScene(seed), sounds }), LABELS, CARD.features));
    if (recordings.length % 200 === 0) log(`scene ${recordings.length} of ${trained.length}`);
  }
  const network = train(recordings, size.training, log);
  const bytes = writeOnnx(network.toOnnx(NAME));
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const anything = Object.fromEntries(
    Object.entries(SMOOTH).map(([label, how]) => [label, { threshold: 0.5, releaseThreshold: 0.5, ...how }]),
  );
  const card: ModelCard = { ...CARD, sizeBytes: bytes.byteLength, sha256, decisions: anything };
  const model = await loadModel({ card, bytes });
  try {
    log(
      `the file's scores differ from the network's by ${(await difference(model, network, recordings)).toExponential(1)} at most`,
    );
    const decisions = thresholdsOf(LABELS, SMOOTH, await answers(model, size, log));
    return { card: { ...card, decisions }, bytes };
  } finally {
    await model.close();
  }
}

async function difference(
  model: LoadedModel,
  network: Network,
  recordings: readonly LabelledFeatures[],
): Promise<number> {
  const length = network.shape.frames * network.shape.mels;
  let most = 0;
  for (const { features } of recordings.slice(0, 100)) {
    const scores = await model.run(features.subarray(0, length));
    for (const [label, odds] of network.forward(features).entries()) {
      most = Math.max(most, Math.abs((scores[label] ?? Number.NaN) - 1 / (1 + Math.exp(-odds))));
    }
  }
  if (most < MOST_DIFFERENCE) return most;
  throw new AppError('model-differs', `The file's scores differ from the network's by ${most}`, {
    remedy: 'Compare training/network.ts with what it writes as ONNX',
  });
}

async function answers(model: LoadedModel, size: ModelSize, log: (line: string) => void): Promise<Answered[]> {
  const seeds = seedsOf('thresholds', size.thresholdScenes);
  const sounds = sharedVoices({ first: seeds[0] ?? 0 }, size.thresholdVoices);
  const answered: Answered[] = [];
  for (const seed of seeds) {
    const scene = await sceneOf({ ...plannedScene(seed), sounds });
    answered.push({
      right: new Set(scene.truth.map(({ label }) => label)),
      scored: await scoresOf(model, scene.samples),
    });
    if (answered.length % 200 === 0) log(`threshold scene ${answered.length} of ${size.thresholdScenes}`);
  }
  return answered;
}
