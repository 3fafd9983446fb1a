import { Fft, fftSizeFor } from '../audio/fft.js';

export interface Similarity {
  /** 0 (nothing of the reference is there) … 1 (all of it). */
  readonly similarity: number;
  /** How much later than the reference the heard speech is, in ms, to 2.5 ms. */
  readonly lagMs: number;
}

export interface SimilarityOptions {
  /** The lags that are tried, in ms. The wider, the better a wrong recording may fit by chance. */
  readonly fromLagMs?: number;
  readonly toLagMs?: number;
}

const WINDOW_MS = 40;
const HOP_MS = 10;
const FINE_MS = 2.5;
const SEGMENT_FRAMES = 100;
/** How far a segment may lie from the whole's lag, in frames. */
const WANDER_FRAMES = 15;
/** Narrow bands as far as a voice's harmonics stand apart, then mel bands. */
const NARROW_BANDS = 30;
const MEL_BANDS = 16;
const BANDS = NARROW_BANDS + MEL_BANDS;
const LOWEST_HZ = 80;
const MIDDLE_HZ = 1_500;
const HIGHEST_HZ = 7_000;
/** What lies this far below a recording's loudest band counts as silence. */
const FLOOR_DB = 45;
/** Where a recording's loudest band is below this (a full-scale sine is near 0 dB), all of it is silence. */
const SILENT_DB = -75;
const SHORTEST_MS = 300;
/** Sets what is half there well under 0.5, and leaves an honest codec above 0.95. */
const SHARPNESS = 1.5;

/**
 * How much of a reference recording is in what was heard: Pearson's correlation of the two log spectra, negative values
 * counting as 0. Both are aligned as a whole where they fit best, then each segment of a second within 150 ms of that, and the
 * segments are averaged by how much spectral detail the reference has in each; the average is raised to
 * the power of 1.5. The spectra: 40 ms windows every 10 ms;
 * 30 bands up to 1.5 kHz, fine enough to tell voices by their pitch, and 16 mel bands up to 7 kHz; levels above a floor
 * 45 dB below each recording's own peak; each window less its mean over the bands, so that loudness alone is no
 * likeness, and each band less its mean over the segment.
 *
 * Gain and equalisation cost little; a codec that rebuilds the spectrum, not the waveform, scores high; what is missing,
 * also at the end of a shorter recording, counts as silence in its share of the time.
 *
 * Blind to: phase; a constant gain; anything above 7 kHz or 45 dB below the peak; sound that is added where the
 * reference is silent, in part; sound before and after the reference. Words that two recordings of one speaker share do
 * count, as they should. A shift of more than 150 ms in mid-recording and strong echo cost much; a smaller
 * shift, as a playout that had to hold on makes, costs little: delays are for alignment to tell. It judges sameness, not how pleasant
 * speech is to hear.
 *
 * @param reference mono PCM that was fed
 * @param heard mono PCM at the same rate
 * @returns 0 for recordings under 300 ms or without sound; never NaN
 */
export function similarity(
  reference: Int16Array,
  heard: Int16Array,
  rateHz: number,
  options: SimilarityOptions = {},
): Similarity {
  const none = { similarity: 0, lagMs: 0 };
  const leastSamples = (rateHz * SHORTEST_MS) / 1000;
  if (reference.length < leastSamples || heard.length < leastSamples) return none;
  const { fromLagMs = -100, toLagMs = 1_000 } = options;
  const analyser = new Analyser(rateHz);
  const wanted = analyser.spectrogram(reference, 0, Math.floor(reference.length / analyser.hopSamples));
  if (wanted === undefined) return none;

  let best = none;
  let bestFit: { got: Spectrogram; offset: number } | undefined;
  const tryLags = (fromMs: number, toMs: number, shiftMs: number) => {
    const fromHops = Math.round(fromMs / HOP_MS);
    const toHops = Math.round(toMs / HOP_MS);
    const start = (fromHops - WANDER_FRAMES) * analyser.hopSamples + Math.round((shiftMs * rateHz) / 1000);
    const got = analyser.spectrogram(heard, start, wanted.frames + toHops - fromHops + 2 * WANDER_FRAMES);
    if (got === undefined) return;
    for (let hops = fromHops; hops <= toHops; hops++) {
      const score = correlation(wanted, got, hops - fromHops + WANDER_FRAMES, 0, wanted.frames).coefficient;
      if (score <= best.similarity) continue;
      best = { similarity: score, lagMs: hops * HOP_MS + shiftMs };
      bestFit = { got, offset: hops - fromHops + WANDER_FRAMES };
    }
  };
  tryLags(fromLagMs, toLagMs, 0);
  const coarseMs = best.lagMs;
  for (const shiftMs of [-2 * FINE_MS, -FINE_MS, FINE_MS, 2 * FINE_MS]) tryLags(coarseMs, coarseMs, shiftMs);
  if (bestFit === undefined) return none;
  return { similarity: bySegments(wanted, bestFit.got, bestFit.offset), lagMs: best.lagMs };
}

interface Spectrogram {
  readonly frames: number;
  /** `frames` × BANDS levels in dB above the floor, less the frame's mean. */
  readonly levels: Float64Array;
}

/** The segments' correlations, each by the reference's variance in it, so that pauses weigh nothing. */
function bySegments(wanted: Spectrogram, got: Spectrogram, offset: number): number {
  let sum = 0;
  let weights = 0;
  for (let from = 0; from === 0 || from + SEGMENT_FRAMES / 2 < wanted.frames; from += SEGMENT_FRAMES / 2) {
    const to = Math.min(wanted.frames, from + SEGMENT_FRAMES);
    const fits = Array.from({ length: 2 * WANDER_FRAMES + 1 }, (_, i) =>
      correlation(wanted, got, offset + i - WANDER_FRAMES, from, to),
    );
    const { variance } = fits[0] as { variance: number };
    sum += Math.max(...fits.map(({ coefficient }) => coefficient)) * variance;
    weights += variance;
  }
  return weights > 0 ? (sum / weights) ** SHARPNESS : 0;
}

/** Over all bands and the frames `from` up to `to` of the reference, each band less its mean over these frames. */
function correlation(
  wanted: Spectrogram,
  got: Spectrogram,
  offset: number,
  from: number,
  to: number,
): { coefficient: number; variance: number } {
  let covariance = 0;
  let wantedPower = 0;
  let gotPower = 0;
  for (let band = 0; band < BANDS; band++) {
    let sumA = 0;
    let sumB = 0;
    for (let frame = from; frame < to; frame++) {
      const a = wanted.levels[frame * BANDS + band] as number;
      const b = got.levels[(frame + offset) * BANDS + band] as number;
      sumA += a;
      sumB += b;
      wantedPower += a * a;
      gotPower += b * b;
      covariance += a * b;
    }
    wantedPower -= (sumA * sumA) / (to - from);
    gotPower -= (sumB * sumB) / (to - from);
    covariance -= (sumA * sumB) / (to - from);
  }
  const scale = Math.sqrt(Math.max(0, wantedPower) * Math.max(0, gotPower));
  // Below a variance of 1e-3 dB² there is no detail, only rounding.
  const coefficient = scale > 1e-3 ? Math.min(1, Math.max(0, covariance / scale)) : 0;
  return { coefficient, variance: Math.max(0, wantedPower) };
}

class Analyser {
  readonly hopSamples: number;
  readonly #window: Float64Array;
  readonly #fft: Fft;
  readonly #re: Float64Array;
  readonly #im: Float64Array;
  /** Of each band: the FFT bins from `first` up to `end`. */
  readonly #bands: readonly { readonly first: number; readonly end: number }[];

  constructor(rateHz: number) {
    this.hopSamples = Math.round((rateHz * HOP_MS) / 1000);
    const length = Math.round((rateHz * WINDOW_MS) / 1000);
    this.#window = Float64Array.from({ length }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / length));
    this.#fft = new Fft(fftSizeFor(length));
    this.#re = new Float64Array(this.#fft.size);
    this.#im = new Float64Array(this.#fft.size);
    this.#bands = bandsOf(rateHz, this.#fft.size);
  }

  /** @returns undefined where there is no sound at all; samples outside of the recording count as silence */
  spectrogram(samples: Int16Array, start: number, frames: number): Spectrogram | undefined {
    const levels = new Float64Array(frames * BANDS).fill(-200);
    let peak = -200;
    for (let frame = 0; frame < frames; frame++) {
      if (!this.#load(samples, start + frame * this.hopSamples)) continue;
      this.#fft.transform(this.#re, this.#im);
      for (const [band, { first, end }] of this.#bands.entries()) {
        let power = 1e-20;
        for (let bin = first; bin < end; bin++) {
          power += (this.#re[bin] as number) ** 2 + (this.#im[bin] as number) ** 2;
        }
        const level = 10 * Math.log10(power / (end - first));
        levels[frame * BANDS + band] = level;
        if (level > peak) peak = level;
      }
    }
    if (peak < SILENT_DB) return undefined;
    const floor = Math.max(SILENT_DB, peak - FLOOR_DB);
    for (let frame = 0; frame < frames; frame++) removeMean(levels.subarray(frame * BANDS, (frame + 1) * BANDS), floor);
    return { frames, levels };
  }

  /** One window, scaled so that a full-scale sine comes out near 0 dB. @returns false where all of it is zero */
  #load(samples: Int16Array, start: number): boolean {
    const length = this.#window.length;
    const scale = 4 / (32_768 * length);
    let any = false;
    this.#re.fill(0);
    this.#im.fill(0);
    for (let i = 0; i < length; i++) {
      const sample = samples[start + i] ?? 0;
      if (sample === 0) continue;
      any = true;
      this.#re[i] = sample * scale * (this.#window[i] as number);
    }
    return any;
  }
}

/** Levels in dB become dB above the floor, less their mean. */
function removeMean(levels: Float64Array, floor: number): void {
  let sum = 0;
  for (let band = 0; band < BANDS; band++) {
    levels[band] = Math.max(0, (levels[band] as number) - floor);
    sum += levels[band] as number;
  }
  for (let band = 0; band < BANDS; band++) levels[band] = (levels[band] as number) - sum / BANDS;
}

/** Evenly spread bands, then bands evenly spread on the mel scale (O'Shaughnessy 1987); each at least one bin wide. */
function bandsOf(rateHz: number, fftSize: number): { first: number; end: number }[] {
  const toMel = (hz: number) => 2595 * Math.log10(1 + hz / 700);
  const toHz = (mel: number) => 700 * (10 ** (mel / 2595) - 1);
  const highestHz = Math.min(HIGHEST_HZ, rateHz * 0.45);
  const melStep = (toMel(highestHz) - toMel(MIDDLE_HZ)) / MEL_BANDS;
  const edgeHz = (i: number) =>
    i < NARROW_BANDS
      ? LOWEST_HZ + (i * (MIDDLE_HZ - LOWEST_HZ)) / NARROW_BANDS
      : toHz(toMel(MIDDLE_HZ) + (i - NARROW_BANDS) * melStep);
  return Array.from({ length: BANDS }, (_, band) => {
    const first = Math.round((edgeHz(band) * fftSize) / rateHz);
    return { first, end: Math.max(first + 1, Math.round((edgeHz(band + 1) * fftSize) / rateHz)) };
  });
}
