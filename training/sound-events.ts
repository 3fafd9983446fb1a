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

const ONCE: Smooth = { meanMs: 60, consecutive: 2, refractoryMs: 2_000 };

/** What lasts for seconds may take a tenth of a second longer. */
export const SMOOTH: Readonly<Record<(typeof LABELS)[number], Smooth>> = {
  chime: ONCE,
  alarm: { ...ONCE, consecutive: 3 },
  glass: ONCE,
  knock: ONCE,
  cry: ONCE,
  speech: { meanMs: 150, consecutive: 2, refractoryMs: 500 },
};

export interface ModelSize {
  /** To train on. */
  readonly scenes: number;
  /** An event and nothing else. */
  readonly plainScenes: number;
  /** Different sentences in them, and different cries. */
  readonly voices: number;
  readonly thresholdScenes: number;
  readonly thresholdVoices: number;
  readonly training: TrainingOptions;
  readonly heldOut: { readonly scenes: number; readonly minutes: number; readonly voices: number };
}

export const SHIPPED: ModelSize = {
  scenes: 1_200,
  plainScenes: 1_300,
  voices: 400,
  thresholdScenes: 300,
  thresholdVoices: 100,
  training: {
    shape: { frames: CARD.frames, channels: [32, 48, 64], hidden: 48 },
    epochs: 5,
    windows: 3,
    batch: 32,
    learningRate: 0.003,
    falseAlarmWeight: 1,
    seed: 1,
  },
  heldOut: { scenes: 12, minutes: 10, voices: 80 },
};
