import { AppError, errorText } from '../core/errors.js';
import { type FeatureFormat, LogMel } from './log-mel.js';
import type { Smoothing } from './score-smoother.js';

/** What a model is for: `sound` events, or a `keyword`. */
export type ModelKind = 'sound' | 'keyword';

/**
 * What comes with every model. It takes a tensor of 32-bit floats `[1, frames, mels]`, log-mel features of `features`, the oldest frame
 * first, and gives `[1, labels.length]`, scores of 0 … 1.
 */
export interface ModelCard {
  readonly name: string;
  readonly version: string;
  readonly kind: ModelKind;
  /** SPDX expression. */
  readonly licence: string;
  /** Of the model's file: its name beside the card, its length and its SHA-256 in hex. */
  readonly file: string;
  readonly sizeBytes: number;
  readonly sha256: string;
  readonly features: FeatureFormat;
  /** Frames of features that one decision hears, and how many there are from one decision to the next. */
  readonly frames: number;
  readonly everyFrames: number;
  readonly input: string;
  readonly output: string;
  /** In the order of the scores. */
  readonly labels: readonly string[];
  /** For each label that is told of; those without one are what there is when nothing happens. */
  readonly decisions: Readonly<Record<string, Smoothing>>;
}

/** What a model's file turned out to be. A dimension that is free is null. */
export interface ModelShape {
  readonly inputs: readonly TensorShape[];
  readonly outputs: readonly TensorShape[];
}

export interface TensorShape {
  readonly name: string;
  readonly type: string;
  readonly dimensions: readonly (number | null)[];
}

/** Features come with the frames of the tap. */
const TAP_HOP_MS = 10;
const MOST_WINDOW_S = 10;

function refused(card: ModelCard, why: string, remedy: string): AppError {
  return new AppError('model-refused', `The model ${card.name} ${card.version} is refused: ${why}`, { remedy });
}

/**
 * Whether the card is one that this runtime can serve, and agrees with itself.
 * @param tapRateHz the rate of the sound that there is
 * @throws AppError `model-refused`
 */
export function checkCard(card: ModelCard, tapRateHz: number): void {
  const { features, frames, everyFrames, labels, decisions } = card;
  const refuse = (why: string): AppError => refused(card, why, 'Correct its card, or take a model of that contract');
  if (features.rateHz !== tapRateHz) throw refuse(`it hears ${features.rateHz} Hz where the sound has ${tapRateHz} Hz`);
  if (features.hopMs !== TAP_HOP_MS) throw refuse(`its hop is ${features.hopMs} ms where frames have ${TAP_HOP_MS} ms`);
  try {
    new LogMel(features);
  } catch (error) {
    throw refuse(errorText(error));
  }
  if (frames * features.hopMs > 1000 * MOST_WINDOW_S) throw refuse(`it hears more than ${MOST_WINDOW_S} s at once`);
  if (everyFrames > frames) throw refuse(`it is asked each ${everyFrames} frames but hears ${frames} of them`);
  if (new Set(labels).size !== labels.length) throw refuse('a label stands twice in its card');
  for (const [label, { threshold, releaseThreshold }] of Object.entries(decisions)) {
    if (!labels.includes(label)) throw refuse(`its decision ${label} is none of its labels`);
    if (releaseThreshold > threshold) throw refuse(`${label} would end above the threshold at which it starts`);
  }
  if (Object.keys(decisions).length === 0) throw refuse('it has no decision to tell of');
}

/**
 * Whether the file is the one that its card tells of.
 * @throws AppError `model-refused`
 */
export function checkFile(card: ModelCard, file: { readonly sizeBytes: number; readonly sha256: string }): void {
  const remedy = 'Copy the model and its card anew, together';
  if (file.sizeBytes < card.sizeBytes) {
    throw refused(card, `${card.file} is cut off: ${file.sizeBytes} of ${card.sizeBytes} bytes`, remedy);
  }
  if (file.sha256 !== card.sha256) {
    throw refused(card, `${card.file} is another file than its card was written for (SHA-256 ${file.sha256})`, remedy);
  }
}

/**
 * Whether the model takes and gives what its card says.
 * @throws AppError `model-refused`
 */
export function checkShape(card: ModelCard, shape: ModelShape): void {
  checkTensor(card, 'input', card.input, shape.inputs, [1, card.frames, card.features.mels]);
  checkTensor(card, 'output', card.output, shape.outputs, [1, card.labels.length]);
  if (shape.inputs.length !== 1) {
    throw refused(card, `it wants ${shape.inputs.length} inputs where there is one`, 'Take a model of that contract');
  }
}

function checkTensor(
  card: ModelCard,
  what: string,
  name: string,
  tensors: readonly TensorShape[],
  dimensions: readonly number[],
): void {
  const found = tensors.find((one) => one.name === name);
  const expected = `float32 [${dimensions.join(', ')}]`;
  const names = tensors.map((one) => one.name).join(', ');
  const remedy = `The contract is ${what} ${expected}`;
  if (found === undefined) throw refused(card, `it has no ${what} ${name} (it has ${names || 'none'})`, remedy);
  const fits =
    found.type === 'float32' &&
    found.dimensions.length === dimensions.length &&
    found.dimensions.every((one, i) => one === null || one === dimensions[i]);
  if (fits) return;
  const is = `${found.type} [${found.dimensions.map((one) => one ?? '?').join(', ')}]`;
  throw refused(card, `its ${what} ${name} is ${is}, not ${expected} as its card says`, remedy);
}
