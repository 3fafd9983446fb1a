import type { Decision } from './decision.js';
import type { ModelCard } from './model-card.js';
import { ScoreSmoother } from './score-smoother.js';

interface Smoothed {
  readonly index: number;
  readonly label: string;
  readonly smoother: ScoreSmoother;
}

/** The decisions of one model: each of its labels that has one is smoothed by itself. */
export class ScoreDecisions {
  readonly #card: ModelCard;
  readonly #smoothers: readonly Smoothed[];

  /** @param card one that was checked */
  constructor(card: ModelCard) {
    this.#card = card;
    this.#smoothers = card.labels.flatMap((label, index) => {
      const smoothing = Object.hasOwn(card.decisions, label) ? card.decisions[label] : undefined;
      return smoothing === undefined ? [] : [{ index, label, smoother: new ScoreSmoother(smoothing) }];
    });
  }

  /**
   * What the model gave for the window that ended at `atMs`.
   * @throws RangeError of another count of scores than there are labels
   */
  push(scores: Float32Array, atMs: number): Decision[] {
    const { labels } = this.#card;
    if (scores.length !== labels.length) throw new RangeError(`${scores.length} scores for ${labels.length} labels`);
    return this.#edges(atMs, ({ index, smoother }) => smoother.push(scores[index] as number, atMs));
  }

  /** Something is on. */
  get isOn(): boolean {
    return this.#smoothers.some(({ smoother }) => smoother.isOn);
  }

  /** Nothing is heard any more: what is on ends. */
  end(atMs: number): Decision[] {
    return this.#edges(atMs, ({ smoother }) => smoother.end(atMs));
  }

  #edges(atMs: number, of: (one: Smoothed) => 'start' | 'end' | null): Decision[] {
    const { kind, sha256 } = this.#card;
    return this.#smoothers.flatMap((one) => {
      const edge = of(one);
      const { label, smoother } = one;
      return edge === null ? [] : [{ kind, label, edge, atMs, score: smoother.score, modelSha256: sha256 }];
    });
  }
}
