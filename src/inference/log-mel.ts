import { Fft, fftSizeFor } from '../audio/fft.js';

/** How sound becomes features; a model's card says it, since a model hears right with its own alone. */
export interface FeatureFormat {
  readonly rateHz: number;
  readonly windowMs: number;
  /** From one frame of features to the next. */
  readonly hopMs: number;
  /** Bands, equally wide on the mel scale. */
  readonly mels: number;
  readonly lowestHz: number;
  readonly highestHz: number;
}

/** Added to the power of each band, of a full scale of 1, before the logarithm: about 10 dB above the rounding to 16 bits. */
const POWER_FLOOR = 1e-8;

/**
 * Log-mel spectra of a stream: a Hann window, its power spectrum, triangular bands on the mel scale (O'Shaughnessy 1987: 2595 log10(1 +
 * f / 700)), the natural logarithm of each band's mean square. 1 is full scale: a sine of full scale in one band gives about ln(0.5).
 * Nothing is allocated after construction.
 */
export class LogMel {
  readonly format: FeatureFormat;
  /** Samples that each call takes. */
  readonly hopSamples: number;
  readonly #fft: Fft;
  readonly #window: Float64Array;
  /** The last `#window.length` samples, of a full scale of 1. */
  readonly #line: Float64Array;
  readonly #re: Float64Array;
  readonly #im: Float64Array;
  /** Of band `m`, its first bin, and where its weights begin in `#weights`; one more marks the end of the last. */
  readonly #firstBin: Int32Array;
  readonly #weightsFrom: Int32Array;
  readonly #weights: Float64Array;

  /** @throws RangeError where the window is shorter than the hop or a band is narrower than the spectrum's resolution */
  constructor(format: FeatureFormat) {
    const { rateHz, windowMs, hopMs, mels } = format;
    this.format = format;
    this.hopSamples = (rateHz * hopMs) / 1000;
    const length = (rateHz * windowMs) / 1000;
    if (!Number.isInteger(this.hopSamples) || !Number.isInteger(length) || length < this.hopSamples) {
      throw new RangeError(`A window of ${windowMs} ms each ${hopMs} ms does not fit ${rateHz} Hz`);
    }
    this.#fft = new Fft(fftSizeFor(length));
    this.#line = new Float64Array(length);
    this.#re = new Float64Array(this.#fft.size);
    this.#im = new Float64Array(this.#fft.size);
    this.#window = Float64Array.from({ length }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * (i + 0.5)) / length));
    const bands = melBands(format, this.#fft.size);
    this.#firstBin = Int32Array.from(bands, (band) => band.firstBin);
    this.#weightsFrom = new Int32Array(mels + 1);
    for (const [m, { weights }] of bands.entries()) {
      this.#weightsFrom[m + 1] = (this.#weightsFrom[m] as number) + weights.length;
    }
    // Parseval: the one-sided power of the spectrum, over the window's energy, is the mean square of the samples.
    const energy = this.#window.reduce((sum, one) => sum + one * one, 0);
    const scale = 2 / (energy * this.#fft.size);
    this.#weights = Float64Array.from(
      bands.flatMap((band) => band.weights),
      (weight) => weight * scale,
    );
  }

  /**
   * The features of the window that ends with these samples; before the first came silence.
   * @param samples `hopSamples` of them
   * @param into `mels` values are written from `at` on
   * @throws RangeError of another count of samples
   */
  push(samples: Int16Array, into: Float32Array, at = 0): void {
    const hop = this.hopSamples;
    if (samples.length !== hop) throw new RangeError(`${samples.length} samples where ${hop} were expected`);
    const [line, re, im, window] = [this.#line, this.#re, this.#im, this.#window];
    line.copyWithin(0, hop);
    for (let i = 0, end = line.length - hop; i < hop; i++) line[end + i] = (samples[i] as number) / 32_768;
    for (let i = 0; i < line.length; i++) re[i] = (line[i] as number) * (window[i] as number);
    re.fill(0, line.length);
    im.fill(0);
    this.#fft.transform(re, im);
    for (let m = 0; m < this.format.mels; m++) {
      const from = this.#weightsFrom[m] as number;
      const count = (this.#weightsFrom[m + 1] as number) - from;
      const bin = this.#firstBin[m] as number;
      let power = POWER_FLOOR;
      for (let i = 0; i < count; i++) {
        power += (this.#weights[from + i] as number) * ((re[bin + i] as number) ** 2 + (im[bin + i] as number) ** 2);
      }
      into[at + m] = Math.log(power);
    }
  }

  /** Forgets what was heard: after a gap in the stream. */
  reset(): void {
    this.#line.fill(0);
  }
}

/** The middle of each band, Hz. */
export function bandCentresHz({ mels, lowestHz, highestHz }: FeatureFormat): Float64Array {
  return Float64Array.from({ length: mels }, (_, m) => melPointHz(lowestHz, highestHz, mels, m + 1));
}

function melPointHz(lowestHz: number, highestHz: number, mels: number, point: number): number {
  const toMel = (hz: number) => 2595 * Math.log10(1 + hz / 700);
  const mel = toMel(lowestHz) + ((toMel(highestHz) - toMel(lowestHz)) * point) / (mels + 1);
  return 700 * (10 ** (mel / 2595) - 1);
}

interface Band {
  readonly firstBin: number;
  readonly weights: number[];
}

/** Triangles of height 1 between the middles of their neighbours. */
function melBands({ rateHz, mels, lowestHz, highestHz }: FeatureFormat, fftSize: number): Band[] {
  if (!(lowestHz >= 0 && lowestHz < highestHz && highestHz <= rateHz / 2)) {
    throw new RangeError(`Bands from ${lowestHz} to ${highestHz} Hz do not fit ${rateHz} Hz`);
  }
  const resolutionHz = rateHz / fftSize;
  return Array.from({ length: mels }, (_, m) => {
    const [low, middle, high] = [0, 1, 2].map((i) => melPointHz(lowestHz, highestHz, mels, m + i)) as [
      number,
      number,
      number,
    ];
    const firstBin = Math.floor(low / resolutionHz) + 1;
    const weights: number[] = [];
    for (let bin = firstBin; bin * resolutionHz < high; bin++) {
      const hz = bin * resolutionHz;
      weights.push(hz < middle ? (hz - low) / (middle - low) : (high - hz) / (high - middle));
    }
    if (high - low < 2 * resolutionHz)
      throw new RangeError(`${mels} bands are too many for ${resolutionHz} Hz of resolution`);
    return { firstBin, weights };
  });
}
