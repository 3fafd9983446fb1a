import { Fft, fftSizeFor } from '../../src/audio/fft.js';

/** How far what is heard is from what was said, as an ear would have it; 0 for the same. */
export interface Disturbance {
  /** What is missing or added, in mean loudness. */
  readonly overall: number;
  /** What is added alone: it disturbs more than what is missing. */
  readonly added: number;
}

/** Where, in what was heard, a place of the reference is: ms later, by the middle of the frame in ms. */
export type DelayAt = (referenceMs: number) => number;

export const LISTENING_RATE_HZ = 16_000;
const FRAME_MS = 32;
const HOP_MS = 16;
const BANDS = 49;
/** Speech is heard at this level. */
const SPEECH_DB_SPL = 76;
/** Zwicker's exponent of loudness over intensity. */
const LOUDNESS_EXPONENT = 0.23;
/** Of the softer of the two: such a difference is masked. */
const MASKED = 0.25;
const MOST_DISTURBANCE = 45;
const SPLIT_FRAMES = 20;
/** A frame this far below the loudest holds no speech. */
const ACTIVE_DB = 40;

/**
 * A model of listening of the family of ITU-T P.862 (Beerends, Hekstra, Rix and Hollier, "PESQ Part II", JAES 2002), written
 * anew and simpler: both signals at equal loudness, 32 ms frames every 16 ms, power in 49 bands of equal width on the Bark
 * scale, slow changes of gain and spectrum made good, loudness by Zwicker's law above the threshold of hearing; differences
 * less what is masked; added sound apart; frames of 320 ms by the sixth power, since one bad moment spoils them, and
 * these by the second.
 *
 * @param reference what was said, and `heard`, both 16 kHz mono; `heard` may be longer or shorter: what is missing is silence
 */
export function disturbance(reference: Int16Array, heard: Int16Array, delayAt: DelayAt): Disturbance {
  const ear = new Ear();
  const hop = (LISTENING_RATE_HZ * HOP_MS) / 1000;
  const frames = Math.floor((reference.length - ear.frameSamples) / hop) + 1;
  const said: Float64Array[] = [];
  const got: Float64Array[] = [];
  for (let frame = 0; frame < frames; frame++) {
    const middleMs = frame * HOP_MS + FRAME_MS / 2;
    const shift = Math.round((delayAt(middleMs) * LISTENING_RATE_HZ) / 1000);
    said.push(ear.powers(reference, frame * hop));
    got.push(ear.powers(heard, frame * hop + shift));
  }
  const active = activeFrames(said);
  toSpeechLevel(said, active);
  toSpeechLevel(got, active);
  evenSpectrum(said, got, active);
  evenGain(said, got);
  return aggregate(said, got, ear);
}

/** Bark bands of one frame. */
class Ear {
  readonly frameSamples = (LISTENING_RATE_HZ * FRAME_MS) / 1000;
  /** Threshold of hearing in each band, as power. */
  readonly threshold: Float64Array;
  /** Width of each band, Bark. */
  readonly widthBark: number;
  readonly #window: Float64Array;
  readonly #fft: Fft;
  readonly #re: Float64Array;
  readonly #im: Float64Array;
  /** Band edges in FFT bins, with fractions. */
  readonly #edges: number[];

  constructor() {
    const length = this.frameSamples;
    this.#window = Float64Array.from({ length }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / length));
    this.#fft = new Fft(fftSizeFor(length));
    this.#re = new Float64Array(this.#fft.size);
    this.#im = new Float64Array(this.#fft.size);
    const lowest = toBark(100);
    const highest = toBark(7_800);
    this.widthBark = (highest - lowest) / BANDS;
    const edgesHz = Array.from({ length: BANDS + 1 }, (_, i) => toHz(lowest + i * this.widthBark));
    this.#edges = edgesHz.map((hz) => (hz * this.#fft.size) / LISTENING_RATE_HZ);
    this.threshold = Float64Array.from(
      { length: BANDS },
      (_, i) => 10 ** (thresholdDb(((edgesHz[i] as number) + (edgesHz[i + 1] as number)) / 2) / 10),
    );
  }

  powers(samples: Int16Array, start: number): Float64Array {
    const bands = new Float64Array(BANDS);
    this.#re.fill(0);
    this.#im.fill(0);
    for (let i = 0; i < this.frameSamples; i++) this.#re[i] = (samples[start + i] ?? 0) * (this.#window[i] as number);
    this.#fft.transform(this.#re, this.#im);
    for (let band = 0; band < BANDS; band++) {
      const from = this.#edges[band] as number;
      const to = this.#edges[band + 1] as number;
      let power = 0;
      for (let bin = Math.floor(from); bin <= Math.floor(to); bin++) {
        const share = Math.min(bin + 1, to) - Math.max(bin, from);
        if (share > 0) power += share * ((this.#re[bin] as number) ** 2 + (this.#im[bin] as number) ** 2);
      }
      bands[band] = power;
    }
    return bands;
  }

  /** Zwicker's loudness in a band, sone a Bark up to a factor. */
  loudness(power: number, band: number): number {
    const threshold = this.threshold[band] as number;
    const above = (0.5 + (0.5 * power) / threshold) ** LOUDNESS_EXPONENT - 1;
    return above <= 0 ? 0 : (threshold / 0.5) ** LOUDNESS_EXPONENT * above;
  }
}

function activeFrames(said: readonly Float64Array[]): boolean[] {
  const powers = said.map(total);
  const least = Math.max(...powers) * 10 ** (-ACTIVE_DB / 10);
  return powers.map((power) => power > least);
}

/** So that the mean of what is active is at the level at which speech is heard. */
function toSpeechLevel(frames: readonly Float64Array[], active: readonly boolean[]): void {
  let sum = 0;
  let count = 0;
  for (const [i, frame] of frames.entries()) {
    if (!active[i]) continue;
    sum += total(frame);
    count += 1;
  }
  if (sum === 0) return;
  const factor = (10 ** (SPEECH_DB_SPL / 10) * count) / sum;
  for (const frame of frames) for (let band = 0; band < BANDS; band++) frame[band] = (frame[band] as number) * factor;
}

/** An even change of the spectrum is no disturbance, up to 20 dB: the reference gets it too. */
function evenSpectrum(said: readonly Float64Array[], got: readonly Float64Array[], active: readonly boolean[]): void {
  for (let band = 0; band < BANDS; band++) {
    let a = 1_000;
    let b = 1_000;
    for (const [i, frame] of said.entries()) {
      if (!active[i]) continue;
      a += frame[band] as number;
      b += (got[i] as Float64Array)[band] as number;
    }
    const factor = Math.min(100, Math.max(0.01, b / a));
    for (const frame of said) frame[band] = (frame[band] as number) * factor;
  }
}

/** Nor is a slow change of the gain. */
function evenGain(said: readonly Float64Array[], got: readonly Float64Array[]): void {
  let factor = 1;
  for (const [i, frame] of said.entries()) {
    const heard = got[i] as Float64Array;
    const now = (total(frame) + 5_000) / (total(heard) + 5_000);
    factor = 0.8 * factor + 0.2 * Math.min(5, Math.max(3e-4, now));
    const clipped = Math.min(5, Math.max(3e-4, factor));
    for (let band = 0; band < BANDS; band++) heard[band] = (heard[band] as number) * clipped;
  }
}

function aggregate(said: readonly Float64Array[], got: readonly Float64Array[], ear: Ear): Disturbance {
  const overall: number[] = [];
  const added: number[] = [];
  for (const [i, frame] of said.entries()) {
    const heard = got[i] as Float64Array;
    let squares = 0;
    let sum = 0;
    for (let band = 0; band < BANDS; band++) {
      const a = frame[band] as number;
      const b = heard[band] as number;
      const loudA = ear.loudness(a, band);
      const loudB = ear.loudness(b, band);
      const masked = MASKED * Math.min(loudA, loudB);
      const difference = Math.max(0, Math.abs(loudB - loudA) - masked);
      squares += difference * difference * ear.widthBark;
      // The floor keeps what is soft in both from counting as added.
      const asymmetry = ((b + 1e4) / (a + 1e4)) ** 1.2;
      if (asymmetry >= 3) sum += difference * Math.min(12, asymmetry) * ear.widthBark;
    }
    // The same disturbance is worse where speech is soft.
    const weight = ((total(frame) + 1e5) / 1e7) ** 0.04;
    overall.push(Math.min(MOST_DISTURBANCE, Math.sqrt(squares) / weight));
    added.push(Math.min(MOST_DISTURBANCE, sum / weight));
  }
  return { overall: overTime(overall), added: overTime(added) };
}

function overTime(frames: readonly number[]): number {
  let sum = 0;
  let count = 0;
  for (let from = 0; from < frames.length; from += SPLIT_FRAMES / 2) {
    const split = frames.slice(from, from + SPLIT_FRAMES);
    const sixth = split.reduce((total, one) => total + one ** 6, 0) / split.length;
    sum += sixth ** (2 / 6);
    count += 1;
  }
  return Math.sqrt(sum / count);
}

function total(frame: Float64Array): number {
  let sum = 0;
  for (const power of frame) sum += power;
  return sum;
}

/** Traunmüller, "Analytical expressions for the tonotopic sensory scale" (JASA 1990). */
function toBark(hz: number): number {
  return (26.81 * hz) / (1_960 + hz) - 0.53;
}

function toHz(bark: number): number {
  return (1_960 * (bark + 0.53)) / (26.28 - bark);
}

/** Terhardt, "Calculating virtual pitch" (1979): dB SPL. */
function thresholdDb(hz: number): number {
  const khz = hz / 1000;
  return 3.64 * khz ** -0.8 - 6.5 * Math.exp(-0.6 * (khz - 3.3) ** 2) + 1e-3 * khz ** 4;
}
