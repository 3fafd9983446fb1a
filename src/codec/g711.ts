/** G.711's two laws, by the names that RFC 3551 has for them: μ-law and A-law. */
export type G711Law = 'pcmu' | 'pcma';

/** Both sample at 8 kHz, and RTP's clock runs at that (RFC 3551, 4.5.14). */
export const G711_RATE_HZ = 8_000;

/** ITU-T G.711, table 2: with it each segment of μ-law begins at a power of two. Of 14 bits, as `PCMU_MOST`. */
const PCMU_BIAS = 33;
const PCMU_MOST = 8_191 - PCMU_BIAS;
/** Every bit goes inverted in μ-law, every other one in A-law. */
const PCMU_INVERTED = 0xff;
const PCMA_INVERTED = 0x55;
const SIGN = 0x80;

/** @param sample 16 bits, of which μ-law hears 14 */
function encodePcmu(sample: number): number {
  const value = sample >> 2;
  const biased = Math.min(Math.abs(value), PCMU_MOST) + PCMU_BIAS;
  // 32 … 63 are the first segment.
  const segment = 26 - Math.clz32(biased);
  const step = (biased >> (segment + 1)) & 0x0f;
  return ((value < 0 ? SIGN : 0) | (segment << 4) | step) ^ PCMU_INVERTED;
}

/** @returns the middle of the step, 16 bits */
function decodePcmu(code: number): number {
  const bits = code ^ PCMU_INVERTED;
  const segment = (bits >> 4) & 0x07;
  const magnitude = (((((bits & 0x0f) << 1) + PCMU_BIAS) << segment) - PCMU_BIAS) << 2;
  return (bits & SIGN) === 0 ? magnitude : -magnitude;
}

/** @param sample 16 bits, of which A-law hears 12 */
function encodePcma(sample: number): number {
  const value = sample >> 4;
  // 0 is the first step above zero, -1 the first below.
  const magnitude = value < 0 ? ~value : value;
  // 0 … 15 and 16 … 31 are the first two segments, equally fine.
  const segment = Math.max(0, 28 - Math.clz32(magnitude));
  const step = (segment === 0 ? magnitude : magnitude >> (segment - 1)) & 0x0f;
  return ((value < 0 ? 0 : SIGN) | (segment << 4) | step) ^ PCMA_INVERTED;
}

/** @returns the middle of the step, 16 bits */
function decodePcma(code: number): number {
  const bits = code ^ PCMA_INVERTED;
  const segment = (bits >> 4) & 0x07;
  const step = ((bits & 0x0f) << 1) + 1;
  const magnitude = (segment === 0 ? step : (step + 32) << (segment - 1)) << 3;
  return (bits & SIGN) === 0 ? -magnitude : magnitude;
}

const DECODED = {
  pcmu: Int16Array.from({ length: 256 }, (_, code) => decodePcmu(code)),
  pcma: Int16Array.from({ length: 256 }, (_, code) => decodePcma(code)),
};

/** One octet a sample (ITU-T G.711). @param samples 16 bits at 8 kHz @param payload gets as many octets; must have room */
export function g711Encode(law: G711Law, samples: Int16Array, payload: Uint8Array): void {
  const encode = law === 'pcmu' ? encodePcmu : encodePcma;
  for (let i = 0; i < samples.length; i++) payload[i] = encode(samples[i] ?? 0);
}

/** @param samples gets as many of 16 bits at 8 kHz as the payload has octets; must have room */
export function g711Decode(law: G711Law, payload: Uint8Array, samples: Int16Array): void {
  const decoded = DECODED[law];
  for (let i = 0; i < payload.length; i++) samples[i] = decoded[payload[i] ?? 0] ?? 0;
}

/** How long a payload lasts, ms: a byte is a sample; null for an empty one. */
export function g711DurationMs(payload: Uint8Array): number | null {
  return payload.length === 0 ? null : (payload.length * 1_000) / G711_RATE_HZ;
}
