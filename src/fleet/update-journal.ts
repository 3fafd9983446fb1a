import type { ReleaseKind } from './manifest.js';
import type { Ending, JobStep, UpdateStep } from './update-plan.js';

/** A job as fleets know it (the states of AWS IoT Jobs). */
export const JOB_STATES = [
  'queued',
  'in_progress',
  'succeeded',
  'failed',
  'rejected',
  'timed_out',
  'canceled',
  'removed',
] as const;
export type JobState = (typeof JOB_STATES)[number];

/** What outlives a power cut of a job; written and synced before each step is begun and after each that is finished. */
export interface UpdateJournal {
  readonly v: 1;
  readonly jobId: string;
  /** Counts each change: what is told of a job is told in this order. */
  readonly seq: number;
  readonly kind: ReleaseKind;
  readonly version: string;
  /** The release's `hash`. */
  readonly hash: string;
  readonly state: JobState;
  /** The last that was begun; null before the first. */
  readonly at: { readonly do: UpdateStep['do']; readonly job: JobStep; readonly isDone: boolean } | null;
  /** Of the step `at`. */
  readonly progressPct: number;
  /** The new release may have been started: the way back is a switch. */
  readonly hasSwitched: boolean;
  /** Nothing leads back from here. */
  readonly isConfirmed: boolean;
  readonly ending: Ending | null;
  /** Of the end, in words; of a success too, where something is to be said. */
  readonly reason: string | null;
}

export type JobEvent =
  | { readonly type: 'begin'; readonly step: Pick<UpdateStep, 'do' | 'job'> }
  | { readonly type: 'progress'; readonly pct: number }
  | { readonly type: 'finish' }
  | { readonly type: 'reject' | 'fail' | 'expire' | 'cancel'; readonly reason: string }
  /** The plan is empty. Whether the release is confirmed the slots say: a power cut may have come before the journal knew. */
  | { readonly type: 'end'; readonly isConfirmed: boolean }
  /** Nobody needs to be told of it any more. */
  | { readonly type: 'remove' };

/** Why an event can't happen to a job. */
export type JobFault =
  | 'over'
  | 'not-over'
  | 'not-begun'
  | 'ending-already'
  | 'only-back-from-here'
  | 'too-late'
  | 'not-proven';

export type Transition =
  | { readonly ok: true; readonly journal: UpdateJournal }
  | { readonly ok: false; fault: JobFault };

/** What may still be done once a release is confirmed. */
const LAST_STEPS: readonly UpdateStep['do'][] = ['raise-floor', 'clean'];
/** What may still be done once a job is to end without its release; the last steps, where it was confirmed before that was written. */
const WAYS_BACK: readonly UpdateStep['do'][] = ['switch-back', 'restart', 'await-ready', ...LAST_STEPS];
const ENDINGS = { fail: 'failed', expire: 'timed_out', cancel: 'canceled' } as const;
const MOST_REASON_CHARS = 200;

export function newJob(job: Pick<UpdateJournal, 'jobId' | 'kind' | 'version' | 'hash'>): UpdateJournal {
  const { jobId, kind, version, hash } = job;
  return {
    ...{ v: 1, jobId, seq: 0, kind, version, hash, state: 'queued', at: null, progressPct: 0 },
    ...{ hasSwitched: false, isConfirmed: false, ending: null, reason: null },
  };
}

/** Whether nothing happens to it any more, but that it is removed. */
export function isOver(state: JobState): boolean {
  return state !== 'queued' && state !== 'in_progress';
}

/** What a job is told to be about; in a job that goes back that is `rollback`, whatever it takes. */
export function stepTold(journal: UpdateJournal): JobStep | null {
  return journal.ending !== null && journal.hasSwitched ? 'rollback' : (journal.at?.job ?? null);
}

/**
 * What an event makes of a job. Pure; a fault changes nothing.
 *
 *   queued ──begin──▶ in_progress ──end──▶ succeeded (the slots say that it is confirmed)
 *     │                   ├──reject──▶ rejected             (nothing was touched)
 *     │                   └──fail, expire, cancel: the ending is noted, the way back is gone, then ──end──▶ failed, timed_out, canceled
 *     └──reject, fail, expire, cancel──▶ at once
 *   any that is over, or queued ──remove──▶ removed
 */
export function transition(journal: UpdateJournal, event: JobEvent): Transition {
  if (event.type === 'remove') {
    if (journal.state === 'removed') return refused('over');
    return journal.state === 'in_progress' ? refused('not-over') : changed(journal, { state: 'removed' });
  }
  if (isOver(journal.state)) return refused('over');
  switch (event.type) {
    case 'begin':
      return begin(journal, event.step);
    case 'progress':
      if (journal.at === null || journal.at.isDone) return refused('not-begun');
      return changed(journal, { progressPct: Math.min(100, Math.max(0, event.pct)) });
    case 'finish':
      if (journal.at === null || journal.at.isDone) return refused('not-begun');
      return changed(journal, {
        at: { ...journal.at, isDone: true },
        progressPct: 100,
        isConfirmed: journal.isConfirmed || journal.at.do === 'confirm',
      });
    case 'reject':
      if (journal.hasSwitched) return refused('too-late');
      if (journal.ending !== null) return refused('ending-already');
      return changed(journal, { state: 'rejected', reason: shortened(event.reason) });
    case 'fail':
    case 'expire':
    case 'cancel':
      return turnBack(journal, { state: ENDINGS[event.type], reason: shortened(event.reason) });
    case 'end':
      return end(journal, event.isConfirmed);
  }
}

function begin(journal: UpdateJournal, step: Pick<UpdateStep, 'do' | 'job'>): Transition {
  if (journal.ending !== null && !journal.isConfirmed && !WAYS_BACK.includes(step.do))
    return refused('only-back-from-here');
  if (journal.isConfirmed && !LAST_STEPS.includes(step.do)) return refused('too-late');
  return changed(journal, {
    state: 'in_progress',
    at: { do: step.do, job: step.job, isDone: false },
    progressPct: 0,
    hasSwitched: journal.hasSwitched || step.do === 'switch',
  });
}

function end(journal: UpdateJournal, isConfirmed: boolean): Transition {
  const { ending } = journal;
  if (isConfirmed) {
    const reason = ending === null ? null : shortened(`too late to go back: ${ending.reason}`);
    return changed(journal, { state: 'succeeded', isConfirmed, ending: null, reason });
  }
  return ending === null ? refused('not-proven') : changed(journal, ending);
}

function turnBack(journal: UpdateJournal, ending: Ending): Transition {
  if (journal.isConfirmed) return refused('too-late');
  if (journal.ending !== null) return refused('ending-already');
  if (journal.state === 'queued') return changed(journal, ending);
  return changed(journal, { ending, reason: ending.reason });
}

function changed(journal: UpdateJournal, change: Partial<UpdateJournal>): Transition {
  return { ok: true, journal: { ...journal, ...change, seq: journal.seq + 1 } };
}

function refused(fault: JobFault): Transition {
  return { ok: false, fault };
}

/** Ends with a whole word. */
function shortened(reason: string): string {
  if (reason.length <= MOST_REASON_CHARS) return reason;
  const cut = reason.slice(0, MOST_REASON_CHARS - 1);
  return `${/\s/.test(cut) ? cut.replace(/\s+\S*$/, '') : cut}…`;
}
