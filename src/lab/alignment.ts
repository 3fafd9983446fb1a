import { Fft, fftSizeFor } from '../audio/fft.js';

/** Where one window of the reference was found again. */
export interface WindowDelay {
  /** Start of the window in the reference, in samples. */
  readonly at: number;
  /** How much later it is in the heard recording, in samples. */
  readonly delaySamples: number;
  /** Normalised correlation there, 0 … 1. */
  readonly confidence: number;
}

export interface AlignmentOptions {
  /** Delays that are looked for, in ms. */
  readonly fromMs?: number;
  readonly toMs?: number;
  /** Windows that correlate less than this are left out. */
  readonly leastConfidence?: number;
}

const WINDOW_MS = 400;
const HOP_MS = 200;
/** Around the recording's overall delay, how far a window's own may lie. */
const WANDER_MS = 150;
/** Windows this far below the loudest hold no speech to go by. */
const SPEECH_RANGE_DB = 25;
const BAND_HZ = [200, 3_400] as const;
/** 1 would whiten fully (PHAT, Knapp and Carter 1976) and with it raise what the codec made up; 0 would blur the peak. */
const WHITENING = 0.6;

/**
 * The delay of `heard` behind `reference`, window by window of 400 ms, every 200 ms; windows without speech, and those
 * that are not found again with confidence, are left out. First the whole recording's delay by its envelope, then each
 * window's within ±150 ms of it by a partly whitened cross-correlation of 200 … 3,400 Hz. A codec such as Opus keeps
 * the waveform well enough for that at 24 kbit/s; one that resynthesises it would not.
 *
 * @returns [] where nothing of the reference is found
 */
export function windowDelays(
  reference: Int16Array,
  heard: Int16Array,
  rateHz: number,
  options: AlignmentOptions = {},
): WindowDelay[] {
  const { fromMs = -100, toMs = 2_000, leastConfidence = 0.45 } = options;
  const samplesOf = (ms: number) => Math.round((ms * rateHz) / 1000);
  const overall = overallDelay(reference, heard, rateHz, fromMs, toMs);
  if (overall === undefined) return [];

  const length = samplesOf(WINDOW_MS);
  const wander = samplesOf(WANDER_MS);
  const correlator = new Correlator(length, wander, rateHz);
  const starts: number[] = [];
  for (let at = 0; at + length <= reference.length; at += samplesOf(HOP_MS)) starts.push(at);
  const powers = starts.map((at) => power(reference, at, length));
  const loudest = Math.max(0, ...powers);
  if (loudest === 0) return [];
  const least = loudest * 10 ** (-SPEECH_RANGE_DB / 10);

  const found: WindowDelay[] = [];
  for (const [i, at] of starts.entries()) {
    if ((powers[i] ?? 0) < least) continue;
    const { lag, confidence } = correlator.bestLag(reference, at, heard, at + overall);
    if (confidence >= leastConfidence) found.push({ at, delaySamples: overall + lag, confidence });
  }
  return found;
}

/** The value below which `share` (0 … 1) of the values lie, by interpolation; NaN for none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  if (sorted.length === 0) return Number.NaN;
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)] as number;
  const high = sorted[Math.ceil(at)] as number;
  return low + (high - low) * (at - Math.floor(at));
}

/** By the envelopes' correlation, in samples; undefined where either is silent. */
function overallDelay(
  reference: Int16Array,
  heard: Int16Array,
  rateHz: number,
  fromMs: number,
  toMs: number,
): number | undefined {
  const step = Math.round(rateHz / 500);
  const a = envelope(reference, step);
  const b = envelope(heard, step);
  if (a === undefined || b === undefined) return undefined;
  const fft = new Fft(fftSizeFor(a.length + b.length + 1));
  const spectrum = crossSpectrum(fft, a, b);
  fft.transform(spectrum.im, spectrum.re);
  const msPerStep = (1000 * step) / rateHz;
  let best = Number.NEGATIVE_INFINITY;
  let bestLag: number | undefined;
  for (let lag = Math.ceil(fromMs / msPerStep); lag <= toMs / msPerStep && lag < b.length; lag++) {
    const value = spectrum.re[(lag + fft.size) % fft.size] as number;
    if (value > best) {
      best = value;
      bestLag = lag;
    }
  }
  return bestLag === undefined ? undefined : bestLag * step;
}

/** Mean-free loudness in steps of `step` samples: the fourth root of power, so that vowels do not outshout the rest. */
function envelope(samples: Int16Array, step: number): Float64Array | undefined {
  const length = Math.floor(samples.length / step);
  if (length === 0) return undefined;
  const out = Float64Array.from({ length }, (_, i) => power(samples, i * step, step) ** 0.25);
  const mean = out.reduce((total, value) => total + value, 0) / length;
  return mean === 0 ? undefined : out.map((value) => value - mean);
}

function power(samples: Int16Array, at: number, length: number): number {
  let sum = 0;
  for (let i = at; i < at + length; i++) sum += (samples[i] ?? 0) ** 2;
  return sum / length;
}

/** conj(FFT(a)) · FFT(b), from real a and b. */
function crossSpectrum(fft: Fft, a: Float64Array, b: Float64Array): { re: Float64Array; im: Float64Array } {
  const n = fft.size;
  const re = new Float64Array(n);
  const im = new Float64Array(n);
  re.set(a);
  im.set(b);
  fft.transform(re, im);
  const outRe = new Float64Array(n);
  const outIm = new Float64Array(n);
  // Both real signals came through one transform: A = even part, B = odd part.
  for (let k = 0; k < n; k++) {
    const m = (n - k) % n;
    const [reK, imK, reM, imM] = [re[k], im[k], re[m], im[m]] as [number, number, number, number];
    const aRe = (reK + reM) / 2;
    const aIm = (imK - imM) / 2;
    const bRe = (imK + imM) / 2;
    const bIm = (reM - reK) / 2;
    outRe[k] = aRe * bRe + aIm * bIm;
    outIm[k] = aRe * bIm - aIm * bRe;
  }
  return { re: outRe, im: outIm };
}

class Correlator {
  readonly #length: number;
  readonly #wander: number;
  readonly #fft: Fft;
  readonly #firstBin: number;
  readonly #lastBin: number;

  constructor(length: number, wander: number, rateHz: number) {
    this.#length = length;
    this.#wander = wander;
    this.#fft = new Fft(fftSizeFor(length + 2 * wander));
    this.#firstBin = Math.round((BAND_HZ[0] * this.#fft.size) / rateHz);
    this.#lastBin = Math.round((BAND_HZ[1] * this.#fft.size) / rateHz);
  }

  /** Where the window at `at` of the reference fits best around `expected` in what was heard. */
  bestLag(reference: Int16Array, at: number, heard: Int16Array, expected: number): { lag: number; confidence: number } {
    const a = new Float64Array(this.#length).map((_, i) => reference[at + i] ?? 0);
    const b = new Float64Array(this.#length + 2 * this.#wander).map((_, i) => heard[expected - this.#wander + i] ?? 0);
    const { re, im } = crossSpectrum(this.#fft, a, b);
    const n = this.#fft.size;
    for (let k = 0; k <= n / 2; k++) {
      const inBand = k >= this.#firstBin && k <= this.#lastBin;
      const magnitude = Math.hypot(re[k] as number, im[k] as number);
      const weight = inBand && magnitude > 0 ? magnitude ** -WHITENING : 0;
      for (const bin of k === 0 || k === n / 2 ? [k] : [k, n - k]) {
        re[bin] = (re[bin] as number) * weight;
        im[bin] = (im[bin] as number) * weight;
      }
    }
    this.#fft.transform(im, re);
    let best = 0;
    let bestLag = 0;
    for (let lag = 0; lag <= 2 * this.#wander; lag++) {
      if ((re[lag] as number) > best) {
        best = re[lag] as number;
        bestLag = lag;
      }
    }
    return { lag: bestLag - this.#wander, confidence: this.#confidence(a, b, bestLag) };
  }

  /** Correlation coefficient of the two waveforms at `lag`. */
  #confidence(a: Float64Array, b: Float64Array, lag: number): number {
    let [ab, aa, bb] = [0, 0, 0];
    for (let i = 0; i < this.#length; i++) {
      const x = a[i] as number;
      const y = b[i + lag] ?? 0;
      ab += x * y;
      aa += x * x;
      bb += y * y;
    }
    return aa === 0 || bb === 0 ? 0 : ab / Math.sqrt(aa * bb);
  }
}
