import { type FeatureFormat, LogMel } from '../src/inference/log-mel.js';
import type { Scene } from '../src/sounds/scene.js';

/** Of a sound so much must be heard in a window for it to be told: frames of 10 ms, or a share of all that there is of it. */
const ENOUGH_FRAMES: Readonly<Record<string, number>> = {
  chime: 25,
  alarm: 55,
  glass: 18,
  knock: 22,
  cry: 28,
  speech: 30,
};
const ENOUGH_SHARE = 0.6;
/** Less is nothing; what is in between nobody is taught. */
const NOTHING_FRAMES = 2;
/** Of what is drowned but for so little nobody is taught anything. */
const DROWNED_FRAMES = 6;

/** A scene as a model hears it, and what it should say. */
export class LabelledFeatures {
  readonly labels: readonly string[];
  readonly mels: number;
  readonly frames: number;
  /** `frames × mels`. */
  readonly features: Float32Array;
  /** For each label, how many frames up to each were audible. */
  readonly #sums: readonly (Int32Array | null)[];

  constructor(scene: Scene, labels: readonly string[], format: FeatureFormat) {
    const mel = new LogMel(format);
    this.labels = labels;
    this.mels = format.mels;
    this.frames = Math.floor(scene.samples.length / mel.hopSamples);
    this.features = new Float32Array(this.frames * this.mels);
    for (let frame = 0; frame < this.frames; frame++) {
      const from = frame * mel.hopSamples;
      mel.push(scene.samples.subarray(from, from + mel.hopSamples), this.features, frame * this.mels);
    }
    this.#sums = labels.map((label) => {
      const audible = scene.truth.find((one) => one.label === label)?.audible;
      if (audible === undefined) return null;
      const sums = new Int32Array(this.frames + 1);
      for (let frame = 0; frame < this.frames; frame++) {
        sums[frame + 1] = (sums[frame] as number) + (audible[frame] ?? 0);
      }
      return sums;
    });
  }

  /** Whether the label is heard in the window of `frames` that begins at `from`: 1, 0, or null where it is neither. */
  target(label: number, from: number, frames: number): 0 | 1 | null {
    const sums = this.#sums[label];
    if (sums === null || sums === undefined) return 0;
    const heard = (sums[from + frames] as number) - (sums[from] as number);
    const all = sums[this.frames] as number;
    const enough = ENOUGH_FRAMES[this.labels[label] as string] ?? NOTHING_FRAMES + 1;
    if (heard > NOTHING_FRAMES && all < DROWNED_FRAMES) return null;
    if (heard > NOTHING_FRAMES && heard >= Math.min(enough, ENOUGH_SHARE * all)) return 1;
    return heard <= NOTHING_FRAMES ? 0 : null;
  }
}
