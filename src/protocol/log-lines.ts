import * as z from 'zod';

/** What a process logs is handed to the station while somebody follows it (`protocol/command.ts`: `logs`). */
export const logFollow = z.object({ on: z.boolean() });

/** JSON, as pino writes it; `core/log-relay.ts` sends a few at a time. A longer line is cut. */
export const logLines = z.object({ lines: z.array(z.string().transform((line) => line.slice(0, 4_096))).max(32) });
