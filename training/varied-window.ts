import type { Dice } from '../src/sounds/dice.js';
import type { LabelledFeatures } from './labelled-features.js';

/** Louder or softer by so much at most, in nepers of power (6.5 dB), and higher or lower by so many bands. */
const MOST_GAIN = 1.5;
const MOST_BANDS = 2;
/** Two recordings of five are heard over another one, softer by 0 to 20 dB. */
const OVERLAID = 0.4;
const NEPERS_OF_20_DB = 4.6;

/** A window of a recording, never twice the same: what a network learns of each recording is not the recording. */
export class VariedWindow {
  readonly values: Float32Array;
  /** 1, 0, or null where it is neither. */
  readonly targets: (0 | 1 | null)[];
  readonly #frames: number;
  readonly #mels: number;

  constructor(frames: number, mels: number, labels: number) {
    this.#frames = frames;
    this.#mels = mels;
    this.values = new Float32Array(frames * mels);
    this.targets = Array.from({ length: labels }, () => null);
  }

  draw(recording: LabelledFeatures, others: readonly LabelledFeatures[], dice: Dice): void {
    const at = dice.whole(0, recording.frames - this.#frames);
    this.#copy(recording, at, dice);
    for (let label = 0; label < this.targets.length; label++) {
      this.targets[label] = recording.target(label, at, this.#frames);
    }
    if (dice.chance(OVERLAID)) this.#overlay(dice.pick(others), dice);
  }

  #copy({ features }: LabelledFeatures, at: number, dice: Dice): void {
    const mels = this.#mels;
    const shift = dice.whole(-MOST_BANDS, MOST_BANDS);
    const gain = dice.between(-MOST_GAIN, MOST_GAIN);
    for (let t = 0; t < this.#frames; t++) {
      const from = (at + t) * mels;
      for (let m = 0; m < mels; m++) {
        const band = Math.max(0, Math.min(mels - 1, m + shift));
        this.values[t * mels + m] = (features[from + band] as number) + gain;
      }
    }
  }

  /** What the other recording alone would be told of may now be drowned, so nobody is taught that. */
  #overlay(other: LabelledFeatures, dice: Dice): void {
    const at = dice.whole(0, other.frames - this.#frames);
    const from = at * this.#mels;
    const [mine, its] = [
      meanPower(this.values, 0, this.values.length),
      meanPower(other.features, from, this.values.length),
    ];
    const gain = Math.min(0, Math.log(mine / its)) - NEPERS_OF_20_DB * dice.share();
    for (let i = 0; i < this.values.length; i++) {
      this.values[i] = Math.log(
        Math.exp(this.values[i] as number) + Math.exp((other.features[from + i] as number) + gain),
      );
    }
    for (let label = 0; label < this.targets.length; label++) {
      if (this.targets[label] === 0 && other.target(label, at, this.#frames) !== 0) this.targets[label] = null;
    }
  }
}

function meanPower(values: Float32Array, from: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += Math.exp(values[from + i] as number);
  return sum / count;
}
