import * as z from 'zod';

/**
 * What flows raise, and what reaches the broker as the `data` of `up/evt/alert` (protocol/station-event.ts): what happened, for
 * programs and for people, what heard it, and how it sounded.
 */
const label = z.string().min(1).max(64);

/** What of a decision of the inference process travels with an alert. */
export const alertDetection = z.object({
  kind: z.enum(['voice', 'sound', 'keyword']),
  label,
  score: z.number().min(0).max(1),
  /** Milliseconds since 1970, by the station's clock. */
  atMs: z.number().min(0),
  /** What heard it; null for what needs no model. */
  model: z
    .object({ name: label, version: z.string().min(1).max(32), sha256: z.string().regex(/^[0-9a-f]{64}$/) })
    .nullable(),
});
export type AlertDetection = z.infer<typeof alertDetection>;

/** A clip's bytes: with the rest it fits into a message of 64 KiB. At 24 kbit/s some 14 s. */
export const MOST_CLIP_BYTES = 45_056;
const MOST_BASE64 = 4 * Math.ceil(MOST_CLIP_BYTES / 3);

const clip = z.object({
  contentType: z.string().regex(/^audio\/[a-z0-9.+-]{1,40}(?:; ?codecs=[a-z0-9]{1,20})?$/),
  data: z.base64().min(4).max(MOST_BASE64),
  /** How long it is; for what is counted of it (`edge.sentFrames`). */
  durationMs: z.int().min(0).max(600_000).optional(),
});

export const alertBody = z.object({
  /** For programs: `sound`, `help`, `quality`, … */
  kind: z.string().regex(/^[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?$/),
  /** For people. */
  text: z.string().min(1).max(500),
  detection: alertDetection.optional(),
  clip: clip.optional(),
});
export type AlertBody = z.infer<typeof alertBody>;
