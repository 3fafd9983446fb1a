import * as z from 'zod';
import { transportSchema } from './engine-api.js';
import { legFigures, legSchema } from './gateway-worker.js';

/** The gateway's HTTP API: JSON bodies, on loopback alone. Every fault is an `apiFault` with a status of 400 or more. */
const count = z.int().min(0);
const name = z.string().min(1).max(160);
export const roomParams = z.strictObject({ roomId: z.string().regex(/^[a-z0-9-]{8,64}$/) });

export const apiFault = z.object({
  code: z.string().describe('stable, for programs'),
  message: z.string(),
  remedy: z.string().optional(),
});

export const workerView = z.object({
  index: count,
  pid: z.int().nullable(),
  ready: z.boolean(),
  rooms: count,
  memoryRssBytes: count,
  refused: count.describe('messages that were none'),
});
export type WorkerView = z.infer<typeof workerView>;

export const healthView = z.object({
  ok: z.boolean().describe('some worker is ready, and the broker is there where one is configured'),
  broker: z.object({ connected: z.boolean(), fault: z.string().nullable() }).nullable(),
  workers: z.array(workerView),
  workerEnds: z.record(z.string(), count).describe('how workers ended since the start'),
  refused: z.record(z.string(), count).describe('messages that were not routed'),
});
export type HealthView = z.infer<typeof healthView>;

export const roomView = z.object({ roomId: z.string(), worker: count.nullable(), legs: z.array(legSchema) });
export type RoomView = z.infer<typeof roomView>;

export const roomRequest = z.strictObject({
  legs: z
    .array(z.strictObject({ legId: name, remote: transportSchema.nullable().default(null) }))
    .min(2)
    .max(8)
    .refine((legs) => new Set(legs.map(({ legId }) => legId)).size === legs.length, 'a legId stands twice'),
});

export const stationView = z.object({
  station: z.string().describe('{station}@{site}'),
  name: z.string(),
  numbers: z.array(z.string()),
  online: z.boolean(),
});
export type StationView = z.infer<typeof stationView>;

export const gatewayRoutes = {
  health: { method: 'GET', url: '/health', summary: 'Is it well', result: healthView },
  rooms: { method: 'GET', url: '/rooms', summary: 'The rooms that are open', result: z.array(roomView) },
  room: {
    method: 'GET',
    url: '/rooms/:roomId',
    summary: 'What went through a room',
    params: roomParams,
    result: z.object({ roomId: z.string(), legs: z.array(legFigures) }),
  },
  openRoom: {
    method: 'POST',
    url: '/rooms',
    summary: 'Opens a room: a UDP port for each party',
    body: roomRequest,
    result: roomView,
  },
  closeRoom: {
    method: 'DELETE',
    url: '/rooms/:roomId',
    summary: 'Closes a room',
    params: roomParams,
    result: z.object({ roomId: z.string() }),
  },
  stations: { method: 'GET', url: '/stations', summary: 'Who can be called', result: z.array(stationView) },
} as const;
