import { Fft, fftSizeFor } from '../audio/fft.js';
import type { Dice } from './dice.js';
import { filter, SOUND_RATE_HZ, samplesOf } from './track.js';

/**
 * What a room does to a sound, by noise that dies away exponentially (Moorer 1979) after the direct sound and a few early reflections.
 * @returns the impulse response; its first sample is the direct sound
 */
export function roomOf(dice: Dice): Float64Array {
  const reverberationS = dice.ratio(0.15, 0.9);
  const response = new Float64Array(samplesOf(reverberationS * 0.8));
  const damping = 6.9 / (reverberationS * SOUND_RATE_HZ);
  const fromMs = dice.between(4, 20);
  const from = samplesOf(fromMs / 1000);
  for (let i = from; i < response.length; i++) response[i] = dice.normal() * Math.exp(-damping * i);
  filter(response, 'low', dice.ratio(2_500, 7_500));
  const energy = response.reduce((sum, one) => sum + one * one, 0);
  const scale = Math.sqrt(dice.ratio(0.05, 1.2) / Math.max(1e-9, energy));
  for (let i = 0; i < response.length; i++) response[i] = (response[i] as number) * scale;
  for (let reflection = dice.whole(1, 4); reflection > 0; reflection--) {
    const at = samplesOf(dice.between(0.001, 0.02));
    response[at] = (response[at] as number) + dice.between(-0.5, 0.5);
  }
  response[0] = 1;
  return response;
}

/** The convolution of both, by one large Fourier transform. */
export function inRoom(track: Float64Array, room: Float64Array): Float64Array {
  const length = track.length + room.length - 1;
  const fft = fftFor(fftSizeFor(length));
  const [re, im] = [new Float64Array(fft.size), new Float64Array(fft.size)];
  // Both are real: one goes into the real part and one into the imaginary, and their spectra are told apart by symmetry.
  re.set(track);
  im.set(room);
  fft.transform(re, im);
  const [productRe, productIm] = [new Float64Array(fft.size), new Float64Array(fft.size)];
  for (let k = 0; k < fft.size; k++) {
    const mirror = (fft.size - k) % fft.size;
    const [a, b] = [re[k] as number, im[k] as number];
    const [c, d] = [re[mirror] as number, im[mirror] as number];
    const [xRe, xIm] = [(a + c) / 2, (b - d) / 2];
    const [yRe, yIm] = [(b + d) / 2, (c - a) / 2];
    productRe[k] = (xRe * yRe - xIm * yIm) / fft.size;
    productIm[k] = (xRe * yIm + xIm * yRe) / fft.size;
  }
  fft.transform(productIm, productRe);
  return productRe.subarray(0, length);
}

const ffts = new Map<number, Fft>();

/** The tables of a transform are kept; there are a handful of sizes. */
function fftFor(size: number): Fft {
  const fft = ffts.get(size) ?? new Fft(size);
  ffts.set(size, fft);
  return fft;
}
