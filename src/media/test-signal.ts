import { frameSamples, type RateHz } from '../audio/frame.js';
import type { FrameSource } from './frame-source.js';

/** Where every loudspeaker of an intercom sounds and every microphone hears; and what Opus and G.711 carry. */
export const SWEEP_HZ = { from: 300, to: 3_400 } as const;
export const SWEEP_MS = 400;
export const GAP_MS = 50;
export const TONE_HZ = 1_000;
export const TONE_MS = 400;
const RAMP_MS = 10;

/** Level of what is played, RMS, dB below full scale (a square wave). */
export const SIGNAL_DBFS = -20;

/** A sine that glides up, each octave in the same time (Farina, AES 108, 2000): its correlation has one sharp peak, which no speech has. */
export function sweep(rateHz: RateHz, dbfs = SIGNAL_DBFS): Int16Array {
  const { from, to } = SWEEP_HZ;
  const lengthS = SWEEP_MS / 1000;
  const octaves = Math.log(to / from);
  return shaped(rateHz, SWEEP_MS, dbfs, (s) => {
    const phase = ((2 * Math.PI * from * lengthS) / octaves) * (Math.exp((s / lengthS) * octaves) - 1);
    return Math.sin(phase);
  });
}

/**
 * The sweep, by which delay and level are found, then a tone, by which distortion is.
 *
 * ```
 *   sweep 300 … 3400 Hz │ gap │ 1 kHz
 *        400 ms          50 ms  400 ms
 * ```
 */
export function testSignal(rateHz: RateHz, dbfs = SIGNAL_DBFS): Int16Array {
  const glide = sweep(rateHz, dbfs);
  const tone = shaped(rateHz, TONE_MS, dbfs, (s) => Math.sin(2 * Math.PI * TONE_HZ * s));
  const gap = (GAP_MS * rateHz) / 1000;
  const whole = new Int16Array(glide.length + gap + tone.length);
  whole.set(glide);
  whole.set(tone, glide.length + gap);
  return whole;
}

/** Plays samples once, 10 ms at a time. */
export class OnceSource implements FrameSource {
  readonly #samples: Int16Array;
  readonly #frame: Int16Array;
  #at = 0;
  #startedAtMs: number | null = null;

  constructor(samples: Int16Array, rateHz: RateHz) {
    this.#samples = samples;
    this.#frame = new Int16Array(frameSamples(rateHz));
  }

  /** When its first frame was asked for; null before. */
  get startedAtMs(): number | null {
    return this.#startedAtMs;
  }

  /** How much of it was asked for, 0 to 1. */
  get taken(): number {
    return Math.min(1, this.#at / this.#samples.length);
  }

  pull(nowMs: number): Int16Array | null {
    if (this.#at >= this.#samples.length) return null;
    this.#startedAtMs ??= nowMs;
    const part = this.#samples.subarray(this.#at, this.#at + this.#frame.length);
    this.#frame.fill(0);
    this.#frame.set(part);
    this.#at += this.#frame.length;
    return this.#frame;
  }
}

/** Begins and ends softly, so that nothing clicks. */
function shaped(rateHz: RateHz, lengthMs: number, dbfs: number, wave: (s: number) => number): Int16Array {
  const amplitude = Math.min(32_767, 32_768 * Math.SQRT2 * 10 ** (dbfs / 20));
  const length = (lengthMs * rateHz) / 1000;
  const ramp = (RAMP_MS * rateHz) / 1000;
  return Int16Array.from({ length }, (_, i) => {
    const soft = Math.min(1, i / ramp, (length - 1 - i) / ramp);
    return Math.round(amplitude * soft * wave(i / rateHz));
  });
}
