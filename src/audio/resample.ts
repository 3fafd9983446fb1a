/** Stopband of the filter, dB below the passband. */
const STOPBAND_DB = 60;
/** From the end of the passband to the stopband, in parts of the lower rate's Nyquist frequency, which is in its middle. */
const TRANSITION = 0.3;
/** For what is there as a whole: sharper, since a delay can be taken back. */
const SHARP_TRANSITION = 0.1;

/**
 * Changes the sampling rate of a mono stream by a ratio of whole numbers: a Kaiser-windowed sinc in polyphase form (Crochiere
 * and Rabiner, Multirate Digital Signal Processing, 1983). For 8 kHz it passes 0 … 3.4 kHz and stops from 4.6 kHz on, as
 * telephony does (ITU-T G.712), and is late by 1.6 ms.
 */
export class Resampler {
  readonly #up: number;
  readonly #down: number;
  /** One row of `#taps` coefficients for each of the `#up` phases, in the order of the samples they meet. */
  readonly #rows: Float64Array;
  readonly #taps: number;
  /** The last `#taps - 1` samples, then those of the call. */
  #line: Float64Array;
  #resampled = new Int16Array(0);
  #view = this.#resampled;
  /** Of the next output sample, in upsampled ticks from the next input sample. */
  #at = 0;
  /** Output samples by which it is late, a whole number. */
  readonly delaySamples: number;

  constructor(options: { fromHz: number; toHz: number; transition?: number }) {
    const { fromHz, toHz, transition = TRANSITION } = options;
    const divisor = greatestCommonDivisor(fromHz, toHz);
    this.#up = toHz / divisor;
    this.#down = fromHz / divisor;
    const filter = lowPass(this.#up, this.#down, transition);
    this.delaySamples = (filter.length - 1) / 2 / this.#down;
    this.#taps = Math.ceil(filter.length / this.#up);
    this.#rows = new Float64Array(this.#up * this.#taps);
    for (const [i, coefficient] of filter.entries()) {
      const [phase, tap] = [i % this.#up, Math.floor(i / this.#up)];
      this.#rows[phase * this.#taps + (this.#taps - 1 - tap)] = coefficient;
    }
    this.#line = new Float64Array(this.#taps - 1);
  }

  /**
   * The next samples of the stream. Of a count that the ratio divides come exactly `count × toHz / fromHz`.
   * @returns valid until the next call
   */
  resample(samples: Int16Array): Int16Array {
    const line = this.#withHistory(samples);
    const ticks = samples.length * this.#up;
    const count = Math.max(0, Math.ceil((ticks - this.#at) / this.#down));
    const out = this.#room(count);
    const [rows, taps, up, down] = [this.#rows, this.#taps, this.#up, this.#down];
    for (let n = 0, at = this.#at; n < count; n++, at += down) {
      const first = Math.floor(at / up);
      const row = (at - first * up) * taps;
      let sum = 0;
      for (let i = 0; i < taps; i++) sum += (rows[row + i] ?? 0) * (line[first + i] ?? 0);
      out[n] = Math.max(-32_768, Math.min(32_767, Math.round(sum)));
    }
    this.#at += count * down - ticks;
    line.copyWithin(0, samples.length, samples.length + taps - 1);
    return out;
  }

  #withHistory(samples: Int16Array): Float64Array {
    const history = this.#taps - 1;
    if (this.#line.length < history + samples.length) {
      const longer = new Float64Array(history + samples.length);
      longer.set(this.#line.subarray(0, history));
      this.#line = longer;
    }
    this.#line.set(samples, history);
    return this.#line;
  }

  #room(count: number): Int16Array {
    if (this.#resampled.length < count) this.#resampled = new Int16Array(count);
    if (this.#view.length !== count || this.#view.buffer !== this.#resampled.buffer) {
      this.#view = this.#resampled.subarray(0, count);
    }
    return this.#view;
  }
}

/** A whole recording at another rate, in step with what it was: of n samples come n × toHz / fromHz, rounded down. */
export function resample(samples: Int16Array, { fromHz, toHz }: { fromHz: number; toHz: number }): Int16Array {
  if (fromHz === toHz) return samples;
  const resampler = new Resampler({ fromHz, toHz, transition: SHARP_TRANSITION });
  const { delaySamples } = resampler;
  const padded = new Int16Array(samples.length + Math.ceil((delaySamples * fromHz) / toHz));
  padded.set(samples);
  return resampler.resample(padded).slice(delaySamples, delaySamples + Math.floor((samples.length * toHz) / fromHz));
}

/** At `up` times the rate, with its middle at the Nyquist frequency of the lower rate; gain `up`, late by a multiple of `down`. */
function lowPass(up: number, down: number, transition: number): Float64Array {
  const ratio = Math.max(up, down);
  const beta = 0.1102 * (STOPBAND_DB - 8.7);
  const half = down * Math.ceil((((STOPBAND_DB - 8) / (2.285 * Math.PI * transition) / 2) * ratio) / down);
  return Float64Array.from({ length: 2 * half + 1 }, (_, i) => {
    const x = i - half;
    const sinc = x === 0 ? 1 : Math.sin((Math.PI * x) / ratio) / ((Math.PI * x) / ratio);
    const window = bessel(beta * Math.sqrt(1 - (x / half) ** 2)) / bessel(beta);
    return (sinc * window * up) / ratio;
  });
}

/** Modified Bessel function of the first kind, order 0, by its series. */
function bessel(x: number): number {
  let [sum, term] = [1, 1];
  for (let k = 1; term > 1e-12 * sum; k++) {
    term *= (x / (2 * k)) ** 2;
    sum += term;
  }
  return sum;
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b);
}
