import type { AudioFrame } from '../audio/frame.js';
import type { Decision } from './decision.js';
import { FeatureWindow } from './feature-window.js';
import { LogMel } from './log-mel.js';
import { checkCard, type ModelCard } from './model-card.js';
import { ScoreDecisions } from './score-decisions.js';

/**
 * One model at one stream: frames become the features that it wants, its scores become decisions. Who runs the model in
 * between, and where, is another's matter. A model is told of by its card alone, be it of sound events or a keyword.
 */
export class ModelEar {
  readonly card: ModelCard;
  readonly #mel: LogMel;
  readonly #window: FeatureWindow;
  readonly #decisions: ScoreDecisions;
  #samples: Int16Array = new Int16Array(0);
  readonly #write = (into: Float32Array, at: number): void => this.#mel.push(this.#samples, into, at);

  /** @throws AppError `model-refused` where the card does not fit sound of `tapRateHz` */
  constructor(card: ModelCard, tapRateHz: number) {
    checkCard(card, tapRateHz);
    this.card = card;
    this.#mel = new LogMel(card.features);
    this.#window = new FeatureWindow({ frames: card.frames, mels: card.features.mels, everyFrames: card.everyFrames });
    this.#decisions = new ScoreDecisions(card);
  }

  /**
   * @returns what the model is to be asked about now, `frames × mels` features, valid until the next call; mostly null
   * @throws RangeError of a frame of another rate or length
   */
  hear(frame: AudioFrame): Float32Array | null {
    const { rateHz } = this.card.features;
    if (frame.rateHz !== rateHz) throw new RangeError(`A frame of ${frame.rateHz} Hz where ${rateHz} was expected`);
    this.#samples = frame.samples;
    return this.#window.push(this.#write);
  }

  /**
   * The model's answer, of the window that ended at `atMs`.
   * @throws RangeError of another count of scores than there are labels
   */
  scored(scores: Float32Array, atMs: number): Decision[] {
    return this.#decisions.push(scores, atMs);
  }

  /** Something that it decided to have heard goes on. */
  get isOn(): boolean {
    return this.#decisions.isOn;
  }

  /** Nothing is heard any more: what is on ends. */
  end(atMs: number): Decision[] {
    return this.#decisions.end(atMs);
  }

  /** Forgets what it heard: after a gap in the stream. Decisions that are on stay on until the model says otherwise. */
  reset(): void {
    this.#mel.reset();
    this.#window.reset();
  }
}
