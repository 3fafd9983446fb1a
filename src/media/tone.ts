import { frameSamples, type RateHz } from '../audio/frame.js';
import type { FrameSource } from './frame-source.js';

export type ToneName = 'bell' | 'ringback' | 'busy';

/** A sound of a tone: it begins at `atMs` of the tone's period. */
interface Strike {
  readonly atMs: number;
  readonly lengthMs: number;
  readonly frequencyHz: number;
  /** To 1/e; absent for a steady tone. */
  readonly decayMs?: number;
}

interface Tone {
  readonly periodMs: number;
  /** Of full scale, 0 … 1. */
  readonly level: number;
  readonly strikes: readonly Strike[];
}

/** Ringback and busy have the frequency and cadences that ITU-T E.182 and E.180 recommend; the bell is a falling third, E5 to C5. */
const TONES: Readonly<Record<ToneName, Tone>> = {
  bell: {
    periodMs: 3_000,
    level: 0.4,
    strikes: [
      { atMs: 0, lengthMs: 1_400, frequencyHz: 659.26, decayMs: 350 },
      { atMs: 600, lengthMs: 1_800, frequencyHz: 523.25, decayMs: 500 },
    ],
  },
  ringback: { periodMs: 5_000, level: 0.2, strikes: [{ atMs: 0, lengthMs: 1_000, frequencyHz: 425 }] },
  busy: { periodMs: 1_000, level: 0.2, strikes: [{ atMs: 0, lengthMs: 500, frequencyHz: 425 }] },
};

/** Strikes begin and end softly, so that nothing clicks. */
const RAMP_MS = 5;

/** A tone, from its beginning, again and again. */
export class ToneSource implements FrameSource {
  readonly #tone: Tone;
  readonly #rateHz: RateHz;
  readonly #frame: Int16Array;
  readonly #periodSamples: number;
  #position = 0;

  constructor(name: ToneName, rateHz: RateHz) {
    this.#tone = TONES[name];
    this.#rateHz = rateHz;
    this.#frame = new Int16Array(frameSamples(rateHz));
    this.#periodSamples = (this.#tone.periodMs * rateHz) / 1000;
  }

  pull(): Int16Array {
    for (let i = 0; i < this.#frame.length; i++) {
      const atMs = (this.#position * 1000) / this.#rateHz;
      let value = 0;
      for (const strike of this.#tone.strikes) value += strikeAt(strike, atMs - strike.atMs);
      this.#frame[i] = Math.max(-32_768, Math.min(32_767, Math.round(value * this.#tone.level * 32_767)));
      this.#position = (this.#position + 1) % this.#periodSamples;
    }
    return this.#frame;
  }
}

function strikeAt(strike: Strike, sinceMs: number): number {
  if (sinceMs < 0 || sinceMs >= strike.lengthMs) return 0;
  const ramp = Math.min(1, sinceMs / RAMP_MS, (strike.lengthMs - sinceMs) / RAMP_MS);
  const decay = strike.decayMs === undefined ? 1 : Math.exp(-sinceMs / strike.decayMs);
  return ramp * decay * Math.sin((2 * Math.PI * strike.frequencyHz * sinceMs) / 1000);
}
