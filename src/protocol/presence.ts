import * as z from 'zod';

/**
 * `up/presence`, retained, QoS 1: a station says `online: true` each time it has connected, and `online: false` is its
 * last will (and what it says before it goes). The switchboard passes what changes of it on to whom the station shares a
 * live call with, as `down/presence/{station}`, not retained.
 */
export const presenceSchema = z.object({
  v: z.literal(1),
  /** Of this start of the station: another after each restart. */
  id: z.string().min(8).max(64),
  online: z.boolean(),
  release: z.string().max(64),
  /** `x64`, `arm64`: what its releases are made for. */
  architecture: z.string().max(16).optional(),
  /** Milliseconds since 1970, by the station's clock; for people. */
  at: z.number(),
});
export type Presence = z.infer<typeof presenceSchema>;

export const PRESENCE_PATH = 'presence';
