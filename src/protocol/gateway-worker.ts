import * as z from 'zod';
import { transportSchema } from './engine-api.js';

/**
 * Between the gateway's dispatcher and one of its room workers, over the pipe of `fork`; both sides parse what they get. A
 * room is one call; a leg is one party's UDP port at the worker. What comes in at a leg leaves at the others of its room.
 */
const roomId = z.string().regex(/^[a-z0-9-]{8,64}$/);
const legId = z.string().min(1).max(160);
const request = z.int().min(1);
const count = z.int().min(0);

export const legSchema = z.object({
  legId,
  port: z.int().min(1).max(65_535),
  /** Where the party said, or was last found, to be; null before it is known. */
  remote: transportSchema.nullable(),
});
export type Leg = z.infer<typeof legSchema>;

export const legFigures = z.object({
  legId,
  port: z.int(),
  remote: transportSchema.nullable(),
  /** Datagrams of this party that left at the others' legs. */
  forwarded: count,
  refused: z.record(z.string(), count),
});
export type LegFigures = z.infer<typeof legFigures>;

/** What a worker did since its start, rooms that are closed included. */
export const workerTotals = z.object({
  /** Datagrams. */
  forwarded: count,
  refused: z.record(z.string().max(64), count),
  cpuS: z.number().min(0),
});
export type WorkerTotals = z.infer<typeof workerTotals>;

/** Dispatcher to worker. Requests are answered by `done`, `figures`, `totals` or `failed`. */
export const toWorker = z.discriminatedUnion('type', [
  z.object({ type: z.literal('init'), address: z.union([z.ipv4(), z.ipv6()]) }),
  z.object({ type: z.literal('ping'), seq: count }),
  z.object({ type: z.literal('room.open'), request, roomId, legs: z.array(legSchema).min(2).max(8) }),
  /** The party is, or has moved, there. */
  z.object({ type: z.literal('leg.towards'), request, roomId, legId, remote: transportSchema }),
  z.object({ type: z.literal('room.figures'), request, roomId }),
  z.object({ type: z.literal('room.close'), request, roomId }),
  z.object({ type: z.literal('worker.totals'), request }),
]);
export type ToWorker = z.infer<typeof toWorker>;

/** Worker to dispatcher. */
export const fromWorker = z.discriminatedUnion('type', [
  z.object({ type: z.literal('ready'), pid: z.int() }),
  z.object({ type: z.literal('pong'), seq: count, memoryRssBytes: count, rooms: count, refused: count }),
  z.object({ type: z.literal('done'), request }),
  z.object({ type: z.literal('figures'), request, legs: z.array(legFigures).max(8) }),
  z.object({ type: z.literal('totals'), request, totals: workerTotals }),
  z.object({ type: z.literal('failed'), request, code: z.string().max(64), text: z.string().max(500) }),
  /** The party's packets come from elsewhere than it said (RFC 4961). */
  z.object({ type: z.literal('leg.moved'), roomId, legId, remote: transportSchema }),
]);
export type FromWorker = z.infer<typeof fromWorker>;

/** A message that bears a request's number, without it. */
export type WorkerRequest =
  Extract<ToWorker, { request: number }> extends infer M ? (M extends unknown ? Omit<M, 'request'> : never) : never;
