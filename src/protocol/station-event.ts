import * as z from 'zod';

/** `up/evt/{kind}`, QoS 1: what happened, from the station's outbox. May come twice: the same `id` and `seq` then. */
export const stationEventSchema = z.object({
  v: z.literal(1),
  id: z.uuid(),
  /** Counts up in one outbox; a gap is what it had to drop. */
  seq: z.int().min(1),
  /** Milliseconds since 1970, by the station's clock, when it happened. */
  at: z.number(),
  data: z.record(z.string(), z.unknown()),
});
export type StationEvent = z.infer<typeof stationEventSchema>;
