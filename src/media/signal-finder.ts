import { Fft, fftSizeFor } from '../audio/fft.js';
import { GAP_MS, SWEEP_MS, sweep, TONE_HZ } from './test-signal.js';

/** What is searched is at this rate, whatever the cards have: the signal ends at 3.4 kHz. */
export const FINDER_RATE_HZ = 16_000;
/** Hum and hiss beside the signal would hide it. */
const BAND_HZ = { from: 200, to: 3_800 } as const;
const TONE_SPECTRUM = 4_096;
/** Into the tone: its ramp is over, and what the room still has of the sweep. */
const TONE_SETTLED_MS = 70;
const TONE_WIDTH_HZ = 25;
const DISTORTION_HZ = { from: 100, to: 7_000 } as const;
const FULL_SCALE = 32_700;

export interface Found {
  /** 0 to 1, where the sweep fits best. */
  readonly correlation: number;
  /** Index of the sweep's first sample in what was heard. */
  readonly at: number;
  /** Of what came back against what was sent, dB. */
  readonly levelDb: number;
}

/**
 * Where a recording has the sweep: normalised cross-correlation (a matched filter), by FFT, within the sweep's own band.
 * @param heard at 16 kHz
 * @param options.from where it is searched from, and up to where the background is measured that is taken off its level
 * @param options.dbfs the level that it was sent at
 * @returns null where nothing is heard at all, or less than a sweep
 */
export function findSweep(heard: Int16Array, options: { from: number; dbfs: number }): Found | null {
  const sent = Float64Array.from(sweep(FINDER_RATE_HZ, options.dbfs));
  const from = Math.max(0, options.from);
  const last = heard.length - sent.length;
  if (last < from) return null;
  const fft = new Fft(fftSizeFor(heard.length + sent.length));
  const pattern = spectrum(fft, sent);
  const inBand = spectrum(fft, heard);
  keepBand(inBand, fft.size);
  const product = multiplied(inBand, pattern);
  fft.transform(product.im, product.re);
  const samples = inBand;
  fft.transform(samples.im, samples.re);
  const energyTo = cumulated(samples.re, heard.length, fft.size);
  const energyOf = (at: number, length: number) => (energyTo[at + length] ?? 0) - (energyTo[at] ?? 0);
  const sentEnergy = sent.reduce((sum, sample) => sum + sample * sample, 0);
  let best = { correlation: 0, at: -1, matched: 0 };
  for (let at = from; at <= last; at++) {
    const energy = energyOf(at, sent.length);
    if (energy < 1) continue;
    const value = Math.abs(product.re[at] ?? 0) / fft.size;
    const correlation = value / Math.sqrt(energy * sentEnergy);
    if (correlation > best.correlation) best = { correlation, at, matched: value };
  }
  if (best.at < 0) return null;
  const length = Math.min(sent.length + (GAP_MS * FINDER_RATE_HZ) / 1000, heard.length - best.at);
  const background = from === 0 ? 0 : energyOf(0, from) / from;
  // A room gives it back more than once; but no less than what fits is there, however loud the background was.
  const came = Math.max(energyOf(best.at, length) - background * length, best.matched ** 2 / sentEnergy);
  return {
    correlation: Math.min(1, best.correlation),
    at: best.at,
    levelDb: 10 * Math.log10(came / sentEnergy),
  };
}

/**
 * Harmonics and noise beside the tone that follows the sweep, against it (THD+N, IEC 60268-3), in percent; what the background
 * had there before is taken off.
 * @param at where the sweep begins
 * @returns null where the recording ends before
 */
export function distortionOf(heard: Int16Array, at: number, before: number): number | null {
  const tone = at + ((SWEEP_MS + GAP_MS + TONE_SETTLED_MS) * FINDER_RATE_HZ) / 1000;
  if (tone + TONE_SPECTRUM > heard.length) return null;
  const fft = new Fft(TONE_SPECTRUM);
  const parts = partsOf(fft, heard.subarray(tone, tone + TONE_SPECTRUM));
  const quiet = before >= TONE_SPECTRUM ? partsOf(fft, heard.subarray(before - TONE_SPECTRUM, before)) : null;
  if (parts.tone <= 0) return null;
  return 100 * Math.sqrt(Math.max(0, parts.beside - (quiet?.beside ?? 0)) / parts.tone);
}

/** Samples at the end of the scale. */
export function clippedSamples(heard: Int16Array): number {
  return heard.reduce((sum, sample) => sum + (Math.abs(sample) >= FULL_SCALE ? 1 : 0), 0);
}

/** RMS, dB below full scale; null for digital silence. */
export function levelDbfs(samples: Int16Array): number | null {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / Math.max(1, samples.length);
  return power === 0 ? null : 10 * Math.log10(power / 32_768 ** 2);
}

interface Spectrum {
  readonly re: Float64Array;
  readonly im: Float64Array;
}

function spectrum(fft: Fft, samples: ArrayLike<number>): Spectrum {
  const re = new Float64Array(fft.size);
  const im = new Float64Array(fft.size);
  re.set(samples);
  fft.transform(re, im);
  return { re, im };
}

function keepBand({ re, im }: Spectrum, size: number): void {
  const low = (BAND_HZ.from * size) / FINDER_RATE_HZ;
  const high = (BAND_HZ.to * size) / FINDER_RATE_HZ;
  for (let bin = 0; bin < size; bin++) {
    const of = Math.min(bin, size - bin);
    if (of >= low && of <= high) continue;
    re[bin] = 0;
    im[bin] = 0;
  }
}

/** `a` times the conjugate of `b`. */
function multiplied(a: Spectrum, b: Spectrum): Spectrum {
  const re = new Float64Array(a.re.length);
  const im = new Float64Array(a.re.length);
  for (let i = 0; i < re.length; i++) {
    const [aRe, aIm, bRe, bIm] = [a.re[i] ?? 0, a.im[i] ?? 0, b.re[i] ?? 0, b.im[i] ?? 0];
    re[i] = aRe * bRe + aIm * bIm;
    im[i] = aIm * bRe - aRe * bIm;
  }
  return { re, im };
}

/** Energy up to each sample; the inverse transform is `scale` times too large. */
function cumulated(samples: Float64Array, length: number, scale: number): Float64Array {
  const sums = new Float64Array(length + 1);
  for (let i = 0; i < length; i++) sums[i + 1] = (sums[i] ?? 0) + ((samples[i] ?? 0) / scale) ** 2;
  return sums;
}

/** Energy of the tone, and of what stands beside it; Hann window. */
function partsOf(fft: Fft, samples: Int16Array): { readonly tone: number; readonly beside: number } {
  const windowed = Float64Array.from(
    samples,
    (sample, i) => sample * (0.5 - 0.5 * Math.cos((2 * Math.PI * i) / samples.length)),
  );
  const { re, im } = spectrum(fft, windowed);
  const hzPerBin = FINDER_RATE_HZ / fft.size;
  let [tone, beside] = [0, 0];
  for (let bin = 1; bin < fft.size / 2; bin++) {
    const hz = bin * hzPerBin;
    if (hz < DISTORTION_HZ.from || hz > DISTORTION_HZ.to) continue;
    const power = (re[bin] ?? 0) ** 2 + (im[bin] ?? 0) ** 2;
    if (Math.abs(hz - TONE_HZ) <= TONE_WIDTH_HZ) tone += power;
    else beside += power;
  }
  return { tone, beside };
}
