import * as z from 'zod';

/** What crosses the control sockets of sounds that are played once: made or recorded, loaded piece by piece, then played. */

/** In this format sounds travel: mono, signed 16-bit, little-endian. */
export const CLIP_RATE_HZ = 16_000;
/** The longest sound, and how much of one a message carries: half a second, so that no event loop stands still for it. */
export const MOST_CLIP_MS = 60_000;
export const CLIP_PIECE_SAMPLES = CLIP_RATE_HZ / 2;

/** PCM in base64, at most `CLIP_PIECE_SAMPLES` samples of two bytes. */
export const clipPiece = z
  .base64()
  .min(4)
  .max(Math.ceil((CLIP_PIECE_SAMPLES * 2) / 3) * 4);

/** The speaker beside this station, or the far end of its call, also while the microphone is muted. */
export const clipPlace = z.enum(['speaker', 'call']);
export type ClipPlace = z.infer<typeof clipPlace>;

/**
 * `played` to its end; `stopped` on order; `replaced`: another came to the same place; `no-call`: nobody is there to hear it;
 * `not-played`: the card is down; `media-lost`: the media process restarted.
 */
export const clipEnd = z.enum(['played', 'stopped', 'replaced', 'no-call', 'not-played', 'media-lost']);
export type ClipEnd = z.infer<typeof clipEnd>;

/** The pieces of a sound, for `clip.load` and `sound.load`. */
export function piecesOf(samples: Int16Array): string[] {
  const pieces: string[] = [];
  for (let at = 0; at < samples.length; at += CLIP_PIECE_SAMPLES) {
    const piece = samples.subarray(at, at + CLIP_PIECE_SAMPLES);
    const bytes = Buffer.alloc(piece.length * 2);
    for (let i = 0; i < piece.length; i++) bytes.writeInt16LE(piece[i] ?? 0, i * 2);
    pieces.push(bytes.toString('base64'));
  }
  return pieces;
}

/** @returns the samples of a piece; a last odd byte is left out */
export function samplesOf(piece: string): Int16Array {
  const bytes = Buffer.from(piece, 'base64');
  const samples = new Int16Array(bytes.length >> 1);
  for (let i = 0; i < samples.length; i++) samples[i] = bytes.readInt16LE(i * 2);
  return samples;
}
