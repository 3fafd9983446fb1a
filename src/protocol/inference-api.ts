import * as z from 'zod';
import { heardDecision, heardModel, hearingFigures, refusedModel } from './hearing.js';
import { logFollow, logLines } from './log-lines.js';

/**
 * In the `run` folder, in a folder of its own: on a board the user of the inference process may come to this socket and no other.
 * JSON-RPC 2.0 over a Unix socket of the station's; the client is the inference process, which learns nothing but when to listen.
 */
export const INFERENCE_SOCKET = 'inference/inference.sock';

export const inferenceReport = z.object({
  pid: z.int().min(1),
  /** Where it waits for the tap: a UDP port of 127.0.0.1. */
  port: z.int().min(1_024).max(65_535),
  /** Its models are loaded, or refused. */
  isReady: z.boolean(),
  /** Sound comes. */
  isHearing: z.boolean(),
  /** The slot of the release of models that was current when it started; null: none was installed. */
  slot: z.enum(['a', 'b']).nullable().default(null),
  models: z.array(heardModel).max(32),
  refused: z.array(refusedModel).max(64),
});
export type InferenceReport = z.infer<typeof inferenceReport>;

export const inferenceRequests = {
  /** What it is, when it connects and whenever that changes. */
  'inference.report': { params: inferenceReport, result: z.object({}) },
  'inference.decided': { params: heardDecision, result: z.object({}) },
  /** Each few seconds while it listens. */
  'inference.figures': { params: hearingFigures, result: z.object({}) },
  /** While it is told to (`log.follow`). */
  'log.lines': { params: logLines, result: z.object({}) },
} as const;

export const inferenceNotifications = {
  /** Somebody wants decisions, or no longer: the tap is opened or closed. */
  'inference.listen': z.object({ on: z.boolean() }),
  /** This process ends, for its supervisor to start another. */
  'inference.restart': z.object({}),
  'log.follow': logFollow,
} as const;
