import type { Decision } from './decision.js';
import type { ModelCard } from './model-card.js';
import { ScoreSmoother } from './score-smoother.js';

/** The decisions of one model: each of its labels that has one is smoothed by itself. */
export class ScoreDecisions {
  readonly #card: ModelCard;
  readonly #smoothers: readonly { readonly index: number; readonly label: string; readonly smoother: ScoreSmoother }[];

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
    const { labels, kind, sha256 } = this.#card;
    if (scores.length !== labels.length) throw new RangeError(`${scores.length} scores for ${labels.length} labels`);
    const decisions: Decision[] = [];
    for (const { index, label, smoother } of this.#smoothers) {
      const edge = smoother.push(scores[index] as number, atMs);
      if (edge !== null) {
        decisions.push({ kind, label, edge, atMs, score: smoother.score, modelSha256: sha256 });
      }
    }
    return decisions;
  }
}
