import type { LoopMeasurement } from '../protocol/selftest.js';
import { clippedSamples, distortionOf, findSweep, levelDbfs } from './signal-finder.js';

/**
 * Less is not the signal: of what it is not, the correlation with a sweep of 400 ms and 3 kHz is 0.02 on average, 0.1 at most in
 * speech and noise; in a room, at a level like the background's, the signal itself has 0.3 and more.
 */
export const LEAST_CORRELATION = 0.2;
/** A small loudspeaker at its limits has 10 %; a sine that is cut flat to a square has 48. */
const MOST_DISTORTION_PCT = 20;
/** A millisecond of them. */
const MOST_CLIPPED_SAMPLES = 16;

export interface LoopLimits {
  /** The level that it was played at. */
  readonly signalDbfs: number;
  /** What comes back less loud than this, against what was played, is too quiet, dB. */
  readonly leastLevelDb: number;
}

type Measured = Pick<
  LoopMeasurement,
  'verdict' | 'correlation' | 'levelDb' | 'delayMs' | 'distortionPct' | 'clippedSamples' | 'backgroundDbfs'
>;

/**
 * What a recording has of the test signal. Pure.
 * @param heard at 16 kHz, from before the signal was played
 * @param options.from the sample that was recorded when it began to be played
 * @returns `delayMs` from that sample on
 */
export function measureLoop(heard: Int16Array, options: LoopLimits & { readonly from: number }): Measured {
  const { from, signalDbfs, leastLevelDb } = options;
  const common = {
    clippedSamples: clippedSamples(heard),
    backgroundDbfs: levelDbfs(heard.subarray(0, from)),
  };
  const found = findSweep(heard, { from, dbfs: signalDbfs });
  const correlation = found?.correlation ?? 0;
  if (found === null || correlation < LEAST_CORRELATION) {
    return { ...common, verdict: 'not-heard', correlation, levelDb: null, delayMs: null, distortionPct: null };
  }
  const distortionPct = distortionOf(heard, found.at, from);
  const delayMs = ((found.at - from) * 1000) / 16_000;
  const verdict = (): LoopMeasurement['verdict'] => {
    if (common.clippedSamples >= MOST_CLIPPED_SAMPLES) return 'clipped';
    if (found.levelDb < leastLevelDb) return 'too-quiet';
    return distortionPct !== null && distortionPct > MOST_DISTORTION_PCT ? 'distorted' : 'heard';
  };
  return { ...common, verdict: verdict(), correlation, levelDb: found.levelDb, delayMs, distortionPct };
}
