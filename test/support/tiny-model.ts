import { createHash } from 'node:crypto';
import type { CardedModel } from '../../src/adapters/onnx/model-folder.js';
import type { ModelCard } from '../../src/inference/model-card.js';
import { type OnnxGraph, writeOnnx } from '../../training/onnx-writer.js';

/** A window of 200 ms. */
export const TINY_FRAMES = 20;
const MELS = 40;
/** The band whose middle is next to 1 kHz, and to 2 kHz, of those that the card below has. */
const [BAND_OF_1_KHZ, BAND_OF_2_KHZ] = [13, 21];

const CARD: Omit<ModelCard, 'sizeBytes' | 'sha256'> = {
  name: 'two-tone',
  version: '1.0.0',
  kind: 'keyword',
  licence: 'Apache-2.0',
  file: 'two-tone.onnx',
  features: { rateHz: 16_000, windowMs: 25, hopMs: 10, mels: MELS, lowestHz: 60, highestHz: 7_800 },
  frames: TINY_FRAMES,
  everyFrames: 5,
  input: 'features',
  output: 'scores',
  labels: ['other', 'two-tone'],
  decisions: {
    'two-tone': { threshold: 0.7, releaseThreshold: 0.3, meanMs: 0, consecutive: 1, refractoryMs: 300 },
  },
};

/**
 * A model of the contract that is small enough to be made here: its word is 100 ms of 1 kHz and then 100 ms of 2 kHz, and
 * the other way round is another word.
 */
export function tinyModel(changes: Partial<ModelCard> = {}): CardedModel {
  return cardedAs(writeOnnx(tinyGraph()), { ...CARD, ...changes });
}

/** The bytes with a card that tells their length and hash. */
export function cardedAs(bytes: Uint8Array, card: Omit<ModelCard, 'sizeBytes' | 'sha256'> = CARD): CardedModel {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { bytes, card: { ...card, sizeBytes: bytes.byteLength, sha256 } };
}

/** What a test spoils. */
export function tinyGraph(): OnnxGraph {
  const inputs = TINY_FRAMES * MELS;
  const weights = new Float32Array(2 * inputs);
  for (let frame = 0; frame < TINY_FRAMES; frame++) {
    const sign = frame < TINY_FRAMES / 2 ? 1 : -1;
    weights[inputs + frame * MELS + BAND_OF_1_KHZ] = sign / TINY_FRAMES;
    weights[inputs + frame * MELS + BAND_OF_2_KHZ] = -sign / TINY_FRAMES;
  }
  return {
    name: 'two-tone',
    input: { name: 'features', dimensions: [1, TINY_FRAMES, MELS] },
    output: { name: 'scores', dimensions: [1, 2] },
    constants: [
      { name: 'flat', dimensions: [2], values: BigInt64Array.of(1n, BigInt(inputs)) },
      { name: 'weights', dimensions: [2, inputs], values: weights },
      { name: 'bias', dimensions: [2], values: Float32Array.of(0, -6) },
    ],
    nodes: [
      { op: 'Reshape', inputs: ['features', 'flat'], output: 'line' },
      { op: 'Gemm', inputs: ['line', 'weights', 'bias'], output: 'sums', attributes: { transB: 1 } },
      { op: 'Sigmoid', inputs: ['sums'], output: 'scores' },
    ],
  };
}
