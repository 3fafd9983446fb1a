import type { ModelCard } from '../src/inference/model-card.js';
import { ScoreSmoother, type Smoothing } from '../src/inference/score-smoother.js';
import type { Scored } from './hearing.js';

/** What a model said of a recording, and the labels that it would have been right to tell of. */
export interface Answered {
  readonly right: ReadonlySet<string>;
  readonly scored: readonly Scored[];
}

/** How the scores of a label are smoothed; all but the thresholds. */
export type Smooth = Pick<Smoothing, 'meanMs' | 'consecutive' | 'refractoryMs'>;

/** Odds, as logarithms; half of it is even. */
const LEAST_ODDS = 0;
const MOST_ODDS = 7;
const STEP_ODDS = 0.25;
/** The threshold stands so far above the lowest that never was wrong. */
const MARGIN_ODDS = 0.75;
/** A decision ends below this share of its threshold. */
const RELEASE_SHARE = 0.5;

/** For each label the lowest threshold by which nothing false is told of in all of these recordings, and a margin. */
export function thresholdsOf(
  labels: readonly string[],
  smooth: Readonly<Record<string, Smooth>>,
  answered: readonly Answered[],
): ModelCard['decisions'] {
  return Object.fromEntries(
    Object.entries(smooth).map(([label, how]) => {
      const index = labels.indexOf(label);
      const wrong = answered.filter(({ right }) => !right.has(label));
      let odds = LEAST_ODDS;
      while (odds < MOST_ODDS && falseDecisions(wrong, index, smoothing(how, odds)) > 0) odds += STEP_ODDS;
      return [label, smoothing(how, odds + MARGIN_ODDS)];
    }),
  );
}

function smoothing(how: Smooth, odds: number): Smoothing {
  const threshold = Math.round(1e4 / (1 + Math.exp(-odds))) / 1e4;
  return { threshold, releaseThreshold: Math.round(1e4 * RELEASE_SHARE * threshold) / 1e4, ...how };
}

function falseDecisions(wrong: readonly Answered[], index: number, how: Smoothing): number {
  let starts = 0;
  for (const { scored } of wrong) {
    const smoother = new ScoreSmoother(how);
    for (const { atMs, scores } of scored) if (smoother.push(scores[index] as number, atMs) === 'start') starts += 1;
  }
  return starts;
}
