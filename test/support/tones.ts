/** Sound that a tap brings: tones of 100 ms, with a little noise everywhere. */
import { seededRandom } from './random.js';

export const RATE_HZ = 16_000;
/** Samples of 10 ms. */
export const FRAME = 160;

/** One tone after the other, by pitch in Hz; 0 is silence. */
export function tones(...pitchesHz: number[]): Int16Array {
  const random = seededRandom(5);
  return Int16Array.from({ length: pitchesHz.length * 1_600 }, (_, i) =>
    Math.round(6_000 * Math.sin((2 * Math.PI * (pitchesHz[Math.floor(i / 1_600)] ?? 0) * i) / RATE_HZ) + 20 * random()),
  );
}

/** The pitches of seconds of silence. */
export const quiet = (seconds: number) => Array.from({ length: 10 * seconds }, () => 0);
