import type { LoadedModel } from '../src/adapters/onnx/onnx-model.js';
import { frameSamples } from '../src/audio/frame.js';
import type { Decision } from '../src/inference/decision.js';
import type { ModelCard } from '../src/inference/model-card.js';
import { ModelEar } from '../src/inference/model-ear.js';
import { ScoreDecisions } from '../src/inference/score-decisions.js';
import { SOUND_RATE_HZ } from '../src/sounds/track.js';

/** What a model said of one window. */
export interface Scored {
  /** Of the window's end, from the recording's start. */
  readonly atMs: number;
  readonly scores: Float32Array;
}

/** All that a model says of a recording, heard as a station hears it: by the same features, windows and runtime. */
export async function scoresOf(model: LoadedModel, samples: Int16Array): Promise<Scored[]> {
  const ear = new ModelEar(model.card, SOUND_RATE_HZ);
  const hop = frameSamples(SOUND_RATE_HZ);
  const scored: Scored[] = [];
  for (let at = 0; at + hop <= samples.length; at += hop) {
    const atMs = ((at + hop) * 1000) / SOUND_RATE_HZ;
    const window = ear.hear({ samples: samples.subarray(at, at + hop), rateHz: SOUND_RATE_HZ, capturedAtMs: atMs });
    if (window !== null) scored.push({ atMs, scores: await model.run(window) });
  }
  return scored;
}

/** What a station would tell of it, by the thresholds of the card. */
export function decisionsOf(card: ModelCard, scored: readonly Scored[]): Decision[] {
  const decisions = new ScoreDecisions(card);
  return scored.flatMap(({ atMs, scores }) => decisions.push(scores, atMs));
}
