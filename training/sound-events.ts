import type { ModelCard } from '../src/inference/model-card.js';
import { EVENT_LABELS } from '../src/sounds/made-sound.js';
import type { Smooth } from './thresholds.js';
import type { TrainingOptions } from './train.js';

/** What the model that ships is called, and tells of. Several may be heard at once. */
export const NAME = 'sound-events';
export const VERSION = '1.0.0';
export const LABELS = [...EVENT_LABELS, 'speech'] as const;

export const CARD: Omit<ModelCard, 'sizeBytes' | 'sha256' | 'decisions'> = {
  name: NAME,
  version: VERSION,
  kind: 'sound',
  licence: 'Apache-2.0',
  file: `${NAME}.onnx`,
  features: { rateHz: 16_000, windowMs: 25, hopMs: 10, mels: 40, lowestHz: 60, highestHz: 7_800 },
  frames: 100,
  everyFrames: 10,
  input: 'features',
  output: 'scores',
  labels: LABELS,
};

/** Two windows in a row, 100 ms apart: a mean on top of it made decisions later, and no surer. */
const TWICE: Smooth = { meanMs: 0, consecutive: 2, refractoryMs: 2_000 };

export const SMOOTH: Readonly<Record<(typeof LABELS)[number], Smooth>> = {
  chime: TWICE,
  alarm: TWICE,
  glass: TWICE,
  knock: TWICE,
  cry: TWICE,
  speech: { meanMs: 150, consecutive: 2, refractoryMs: 500 },
};

export interface ModelSize {
  /** To train on. */
  readonly scenes: number;
  /** Different sentences in them, and different cries. */
  readonly voices: number;
  readonly thresholdScenes: number;
  readonly thresholdVoices: number;
  readonly training: TrainingOptions;
  readonly heldOut: { readonly scenes: number; readonly minutes: number; readonly voices: number };
}

export const SHIPPED: ModelSize = {
  scenes: 1_200,
  voices: 400,
  thresholdScenes: 300,
  thresholdVoices: 100,
  training: {
    shape: { frames: CARD.frames, channels: [32, 48, 64], hidden: 48 },
    epochs: 8,
    windows: 4,
    batch: 32,
    learningRate: 0.003,
    falseAlarmWeight: 1,
    seed: 1,
  },
  heldOut: { scenes: 10, minutes: 8, voices: 60 },
};
