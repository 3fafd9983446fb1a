import { quantile, windowDelays } from '../../src/lab/alignment.js';
import { type DelayAt, disturbance, LISTENING_RATE_HZ } from './listening.js';

const WANDER_MS = 400;
const HALF_WINDOW_MS = 200;

/** Mean opinion score, 1 … 4.4, of `heard` by the model of listening. */
export function scoreOf(speech: Int16Array, heard: Int16Array): number {
  const { overall, added } = disturbance(speech, heard, delaysOf(speech, heard));
  return scoreOfDisturbance(overall + ADDED_WEIGHT * added);
}

/** Fitted to 34 values of PESQ (ITU-T P.862.2) of the schemes in `calibration.ts`: half of the best at 8.2, falling as a square. */
const ADDED_WEIGHT = 0.15;
const BEST_SCORE = 4.4;
const HALVED_AT = 8.2;

function scoreOfDisturbance(amount: number): number {
  return 1 + (BEST_SCORE - 1) / (1 + (amount / HALVED_AT) ** 2);
}

/** The delay over time: that of the windows of speech, each the median of three, so that one that is mistaken does no harm. */
function delaysOf(speech: Int16Array, heard: Int16Array): DelayAt {
  const windows = windowDelays(speech, heard, LISTENING_RATE_HZ, { fromMs: -20, toMs: WANDER_MS });
  const toMs = (samples: number) => (samples * 1000) / LISTENING_RATE_HZ;
  const places = windows.map(({ at, delaySamples }, i) => ({
    middleMs: toMs(at) + HALF_WINDOW_MS,
    delayMs: toMs(
      quantile(
        [windows[i - 1]?.delaySamples ?? delaySamples, delaySamples, windows[i + 1]?.delaySamples ?? delaySamples],
        0.5,
      ),
    ),
  }));
  let last = 0;
  return (referenceMs) => {
    if (places.length === 0) return 0;
    if ((places[last]?.middleMs ?? 0) > referenceMs) last = 0;
    while (
      last + 1 < places.length &&
      Math.abs((places[last + 1]?.middleMs ?? 0) - referenceMs) <= Math.abs((places[last]?.middleMs ?? 0) - referenceMs)
    ) {
      last += 1;
    }
    return places[last]?.delayMs ?? 0;
  };
}
