import { Resampler } from '../../audio/resample.js';

/** So much at a time is changed before others get their turn: 1 s takes a few milliseconds. */
const BLOCK_S = 1;

/** A whole recording at another rate, without keeping the event loop from others. @returns late by less than 3 ms */
export async function atRate(samples: Int16Array, fromHz: number, toHz: number): Promise<Int16Array> {
  if (fromHz === toHz) return samples;
  const resampler = new Resampler({ fromHz, toHz });
  const block = Math.round(fromHz * BLOCK_S);
  const parts: Int16Array[] = [];
  for (let at = 0; at < samples.length; at += block) {
    parts.push(resampler.resample(samples.subarray(at, at + block)).slice());
    await new Promise((resolve) => setImmediate(resolve));
  }
  const whole = new Int16Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
