import * as z from 'zod';

/** What a station hears by itself, as it crosses its sockets. */
const name = z.string().min(1).max(64);
const count = z.int().min(0);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** What was heard, when, how surely, and by what. */
export const heardDecision = z.object({
  kind: z.enum(['voice', 'sound', 'keyword']),
  /** Of the model's labels; `voice` of voice activity. */
  label: name,
  /** `start`: from now on; `end`: no longer. */
  edge: z.enum(['start', 'end']),
  /** Of the end of the sound that decided it, ms since 1970. */
  atMs: z.number(),
  /** Smoothed; of voice activity the level above the noise, of which 30 dB are 1. */
  score: z.number().min(0).max(1),
  /** Null where no model was asked. */
  model: z.object({ name, version: z.string().max(32), sha256 }).nullable(),
});
export type HeardDecision = z.infer<typeof heardDecision>;

/** A model that is loaded. */
export const heardModel = z.object({
  name,
  version: z.string().max(32),
  kind: z.enum(['sound', 'keyword']),
  sha256,
  /** Those that it decides on. */
  labels: z.array(name).max(1_000),
});

/** A card whose model is not served, and why. */
export const refusedModel = z.object({ card: z.string().max(256), reason: z.string().max(1_000) });

/** What the inference process has done since its start. */
export const hearingFigures = z.object({
  /** Frames of 10 ms that came by the tap; that it lost on its way; that features were made of. */
  receivedFrames: count,
  lostFrames: count,
  inferredFrames: count,
  /** Times that a model was asked, and was not since nothing stood out of the background. */
  modelRuns: count,
  skippedRuns: count,
  /** Processor time of the whole process, ms. */
  cpuMs: z.number().min(0),
  memoryRssBytes: count,
  /** Datagrams and scores that were refused, by class of fault. */
  refused: z.record(z.string(), count),
});
export type HearingFigures = z.infer<typeof hearingFigures>;

/** How the hearing is. */
export const hearingView = z.object({
  /** `absent`: no inference process is there, be it that the configuration has it off; `starting`: it has yet to load its models. */
  state: z.enum(['absent', 'starting', 'running']),
  /** Whether the configuration has it on (`inference.enabled`). */
  isEnabled: z.boolean(),
  /** Sound comes: somebody wants decisions, and the microphone gives something. */
  isHearing: z.boolean(),
  models: z.array(heardModel),
  refused: z.array(refusedModel),
});
export type HearingView = z.infer<typeof hearingView>;
