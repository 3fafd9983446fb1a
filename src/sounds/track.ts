/** Sounds are made at the rate that models hear. */
export const SOUND_RATE_HZ = 16_000;
const NYQUIST_HZ = SOUND_RATE_HZ / 2;

export function samplesOf(seconds: number): number {
  return Math.round(seconds * SOUND_RATE_HZ);
}

export function silence(seconds: number): Float64Array {
  return new Float64Array(samplesOf(seconds));
}

export interface Ring {
  readonly fromS: number;
  readonly pitchHz: number;
  readonly amplitude: number;
  /** Until it is down to a thousandth (60 dB). */
  readonly decayS: number;
  readonly attackS?: number;
  readonly phase?: number;
}

/** A damped sine: one mode of a body that was struck. What would be above the Nyquist frequency is left out. */
export function ring(
  track: Float64Array,
  { fromS, pitchHz, amplitude, decayS, attackS = 0.001, phase = 0 }: Ring,
): void {
  if (pitchHz >= 0.98 * NYQUIST_HZ) return;
  const from = samplesOf(fromS);
  const length = Math.min(track.length - from, samplesOf(decayS * 1.2));
  const damping = Math.exp(-6.9 / (decayS * SOUND_RATE_HZ));
  const attack = Math.max(1, attackS * SOUND_RATE_HZ);
  const step = (2 * Math.PI * pitchHz) / SOUND_RATE_HZ;
  let level = amplitude;
  for (let i = 0; i < length; i++) {
    const at = from + i;
    track[at] = (track[at] as number) + level * Math.min(1, i / attack) * Math.sin(phase + step * i);
    level *= damping;
  }
}

/** Two poles, two zeros, by R. Bristow-Johnson's formulas: in place. */
export function filter(
  track: Float64Array,
  kind: 'low' | 'high' | 'band',
  cornerHz: number,
  quality = Math.SQRT1_2,
): Float64Array {
  const turn = (2 * Math.PI * Math.min(cornerHz, 0.96 * NYQUIST_HZ)) / SOUND_RATE_HZ;
  const [cos, alpha] = [Math.cos(turn), Math.sin(turn) / (2 * quality)];
  const [b0, b1] =
    kind === 'low' ? [(1 - cos) / 2, 1 - cos] : kind === 'high' ? [(1 + cos) / 2, -(1 + cos)] : [alpha, 0];
  const b2 = kind === 'band' ? -alpha : b0;
  const a0 = 1 + alpha;
  let [x1, x2, y1, y2] = [0, 0, 0, 0];
  for (let i = 0; i < track.length; i++) {
    const x = track[i] as number;
    const y = (b0 * x + b1 * x1 + b2 * x2 + 2 * cos * y1 - (1 - alpha) * y2) / a0;
    x2 = x1;
    x1 = x;
    y2 = y1;
    y1 = y;
    track[i] = y;
  }
  return track;
}

export function peakOf(track: Float64Array): number {
  let peak = 0;
  for (const sample of track) peak = Math.max(peak, Math.abs(sample));
  return peak;
}

/** Mean square. */
export function powerOf(track: Float64Array): number {
  let sum = 0;
  for (const sample of track) sum += sample * sample;
  return track.length === 0 ? 0 : sum / track.length;
}

/** Brings the loudest sample to `peak` of full scale, in place; silence stays what it is. */
export function levelled(track: Float64Array, peak: number): Float64Array {
  const is = peakOf(track);
  if (is > 0) for (let i = 0; i < track.length; i++) track[i] = ((track[i] as number) * peak) / is;
  return track;
}

/** 1 is full scale; what is beyond is clipped. */
export function toSamples(track: Float64Array): Int16Array {
  const samples = new Int16Array(track.length);
  for (let i = 0; i < track.length; i++) {
    samples[i] = Math.max(-32_768, Math.min(32_767, Math.round((track[i] as number) * 32_767)));
  }
  return samples;
}

export function toTrack(samples: Int16Array): Float64Array {
  const track = new Float64Array(samples.length);
  for (let i = 0; i < samples.length; i++) track[i] = (samples[i] as number) / 32_767;
  return track;
}
