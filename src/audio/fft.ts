/**
 * The fast Fourier transform in place (Cooley and Tukey 1965, radix 2). Forty lines suffice, so no package is
 * drawn in for it.
 */
export class Fft {
  readonly size: number;
  readonly #cos: Float64Array;
  readonly #sin: Float64Array;

  /** @param size a power of two */
  constructor(size: number) {
    if (size < 2 || (size & (size - 1)) !== 0) throw new RangeError(`FFT size ${size} is no power of two`);
    this.size = size;
    this.#cos = Float64Array.from({ length: size / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / size));
    this.#sin = Float64Array.from({ length: size / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / size));
  }

  /** Time to frequency; both arrays hold `size` values. Swap the two arguments for the inverse, scaled by `size`. */
  transform(re: Float64Array, im: Float64Array): void {
    const n = this.size;
    for (let i = 1, j = 0; i < n; i++) {
      let bit = n >> 1;
      for (; j & bit; bit >>= 1) j ^= bit;
      j ^= bit;
      if (i < j) {
        swap(re, i, j);
        swap(im, i, j);
      }
    }
    for (let half = 1; half < n; half *= 2) {
      const step = n / (2 * half);
      for (let start = 0; start < n; start += 2 * half) {
        for (let k = 0; k < half; k++) {
          const cos = this.#cos[k * step] as number;
          const sin = this.#sin[k * step] as number;
          const a = start + k;
          const b = a + half;
          const reB = re[b] as number;
          const imB = im[b] as number;
          const reT = reB * cos + imB * sin;
          const imT = imB * cos - reB * sin;
          re[b] = (re[a] as number) - reT;
          im[b] = (im[a] as number) - imT;
          re[a] = (re[a] as number) + reT;
          im[a] = (im[a] as number) + imT;
        }
      }
    }
  }
}

function swap(values: Float64Array, i: number, j: number): void {
  const held = values[i] as number;
  values[i] = values[j] as number;
  values[j] = held;
}

/** The smallest power of two that holds `length`. */
export function fftSizeFor(length: number): number {
  return 2 ** Math.max(1, Math.ceil(Math.log2(length)));
}
