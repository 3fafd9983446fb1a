/**
 * Whether an Opus packet carries FEC of the packet before it (RFC 6716, 4.2.4: LBRR, in the SILK layer of its first frame).
 * The flags that say so stand first in the frame and at even odds, so that they can be read without the range decoder:
 * one for the voice activity of each 20 ms, then the one for FEC; of a stereo frame the side channel's follow.
 */
export function opusCarriesFec(packet: Uint8Array): boolean {
  const toc = packet[0] ?? 0xff;
  const configuration = toc >> 3;
  if (configuration >= FIRST_CELT_ONLY) return false;
  const flags = packet[firstFrameAt(packet)];
  if (flags === undefined) return false;
  const spans = configuration < FIRST_HYBRID ? (SILK_SPANS[configuration & 3] ?? 1) : 1;
  const isStereo = (toc & 0x04) !== 0;
  const mid = (flags >> (7 - spans)) & 1;
  const side = isStereo ? (flags >> (6 - 2 * spans)) & 1 : 0;
  return mid === 1 || side === 1;
}

/** RFC 6716, table 2. */
const FIRST_HYBRID = 12;
const FIRST_CELT_ONLY = 16;
/** Of 20 ms, in frames of 10, 20, 40 and 60 ms. */
const SILK_SPANS = [1, 1, 2, 3];

/** RFC 6716, 3.2: where the first frame begins, by the packet's code. */
function firstFrameAt(packet: Uint8Array): number {
  switch ((packet[0] ?? 0) & 0x03) {
    case 0:
    case 1:
      return 1;
    case 2:
      return 1 + lengthBytes(packet[1]);
    default:
      return firstOfMany(packet);
  }
}

function firstOfMany(packet: Uint8Array): number {
  const head = packet[1] ?? 0;
  let at = 2;
  if ((head & 0x40) !== 0) {
    while (packet[at] === 255) at += 1;
    at += 1;
  }
  const lengths = (head & 0x80) === 0 ? 0 : (head & 0x3f) - 1;
  for (let i = 0; i < lengths; i++) at += lengthBytes(packet[at]);
  return at;
}

/** A frame's length takes a second byte from 252 on. */
function lengthBytes(first: number | undefined): number {
  return first !== undefined && first >= 252 ? 2 : 1;
}

/**
 * How long an Opus packet lasts (RFC 6716, 3.1 and 3.2), in ms; null for what can't be one: empty, without frames, longer than
 * 120 ms.
 */
export function opusDurationMs(packet: Uint8Array): number | null {
  const toc = packet[0];
  if (toc === undefined) return null;
  const configuration = toc >> 3;
  const frameMs =
    configuration < FIRST_HYBRID
      ? (SILK_FRAME_MS[configuration & 3] ?? 20)
      : configuration < FIRST_CELT_ONLY
        ? 10 << (configuration & 1)
        : 2.5 * (1 << (configuration & 3));
  const code = toc & 0x03;
  const frames = code === 0 ? 1 : code === 3 ? (packet[1] ?? 0) & 0x3f : 2;
  const durationMs = frames * frameMs;
  return durationMs > 0 && durationMs <= 120 ? durationMs : null;
}

const SILK_FRAME_MS = [10, 20, 40, 60];
