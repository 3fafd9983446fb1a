import * as z from 'zod';
import { RELEASE_KINDS } from '../fleet/manifest.js';
import { JOB_STATES, stepTold, type UpdateJournal } from '../fleet/update-journal.js';
import { JOB_STEPS } from '../fleet/update-plan.js';

/** How a job is told of: its state, and what it is about, in the words of fleets. */
export const updateView = z.object({
  jobId: z.string(),
  kind: z.string(),
  version: z.string(),
  state: z.enum(JOB_STATES),
  /** Null before the first, and of a job that was never begun. */
  step: z.enum(JOB_STEPS).nullable(),
  /** Of the step. */
  progressPct: z.number(),
  /** Counts each change. */
  seq: z.int(),
  /** In words, of an end. */
  reason: z.string().nullable(),
});
export type UpdateView = z.infer<typeof updateView>;

export function viewOfJob(journal: UpdateJournal): UpdateView {
  const { jobId, kind, version, state, progressPct, seq, reason } = journal;
  return { jobId, kind, version, state, step: stepTold(journal), progressPct, seq, reason };
}

const slot = z.object({
  is: z.enum(['empty', 'filling', 'whole', 'failed']),
  version: z.string().nullable(),
  isConfirmed: z.boolean(),
  /** Why it is not tried again. */
  reason: z.string().nullable(),
});

const slotsView = z.object({
  /** The slot that runs. */
  current: z.enum(['a', 'b']),
  slots: z.object({ a: slot, b: slot }),
  /** Nothing older is taken. */
  floor: z.string().nullable(),
});
export type SlotsView = z.infer<typeof slotsView>;

/** Of the firmware, and beside it. */
export const updateStatus = slotsView.extend({
  /** Kinds that had releases of their own; one of version 0.0.0 is what the station had before. */
  others: z.array(slotsView.extend({ kind: z.enum(RELEASE_KINDS) })),
  /** The job that runs, or was the last. */
  job: updateView.nullable(),
});
export type UpdateStatus = z.infer<typeof updateStatus>;
