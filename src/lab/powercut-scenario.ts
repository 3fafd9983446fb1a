import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { systemClock } from '../core/clock.js';
import type { AllCuts, CutResult, CutsOrder } from './power-cuts.js';
import type { CutsAnswer } from './power-cuts-worker.js';
import { runPowercutSample, type SampleResult } from './powercut-sample.js';
import { attempt, type ScenarioContext } from './scenario.js';
import type { Behaviour } from './update-machine.js';

export interface PowercutResult {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /** Disks that a cut left, each another one; started by the real launcher, and gone on from. */
  readonly cases: number;
  /** Of them: no release was started, or one that is not whole; the floor, the report or the outcome was not the right one. */
  readonly bricked: number;
  /** Steps of the plan before, in and after which the power went, and how many disks that made. */
  readonly steps: Readonly<Record<string, number>>;
  readonly releases: Readonly<Record<Behaviour, { readonly cases: number; readonly bricked: number }>>;
  /** The same of the first release of flows, of configuration, of models; all are in the sums. */
  readonly parts: Readonly<Record<string, { readonly cases: number; readonly bricked: number }>>;
  /** Calls of the file system, each of which was the first that was not carried out. */
  readonly calls: number;
  readonly launches: number;
  readonly mechanism: string;
  /** With real processes. */
  readonly sample: Omit<SampleResult, 'failed'> | null;
  readonly lastedMs: number;
}

const BEHAVIOURS: readonly Behaviour[] = ['good', 'mute', 'crashing'];
const MECHANISM =
  'injected file system: names last once their folder was synced, content once its file was; of what was not, each prefix of ' +
  'the names, and all but each one, with the content lost, torn or kept (all kept: SIGKILL). Started by the real launcher, in ' +
  'which the power goes as well';
/** The launcher's copies: a thousand times fsync on a card would take an hour. */
const SHARED_MEMORY = '/dev/shm';
const MOST_FAULTS_TOLD = 10;
/** Before the machine's patience ends; what was not tried by then is told as a failure. */
const LAST_CASE_MS = 165_000;
/** A job with two cuts lasts three quarters of a minute where other things go on. */
const LAST_JOB_MS = 115_000;

/**
 * The power goes at every call of the file system that an update makes, before, in and after each of its steps; whatever the disk
 * may have made of it is started by the real launcher, and the update goes on to its end. Beside it, in some of the steps, with a real
 * station on a real file system.
 * @param canMount the mounts are this process' own
 */
export async function runPowercutScenario(context: ScenarioContext, canMount: boolean): Promise<PowercutResult> {
  const startedMs = systemClock.nowMs();
  const failed: string[] = [];
  const work = mkdtempSync(join(existsSync(SHARED_MEMORY) ? SHARED_MEMORY : context.dir, 'entryphone-powercut-'));
  try {
    const cutting = inThread({ dir: work, withinMs: LAST_CASE_MS });
    const how = { canMount, untilMs: startedMs + LAST_JOB_MS };
    const sampling = attempt(failed, 'sample', () => runPowercutSample(context, how));
    const [{ of, parts, launches }, sampled] = await Promise.all([cutting, sampling]);
    const all = [...BEHAVIOURS.map((behaviour) => of[behaviour]), ...Object.values(parts)];
    const sum = (what: 'cases' | 'bricked' | 'calls') => all.reduce((total, one) => total + one[what], 0);
    const [cases, bricked] = [sum('cases'), sum('bricked')];
    failed.push(...all.flatMap(({ faults }) => faults).slice(0, MOST_FAULTS_TOLD));
    if (cases <= 20) failed.push(`only ${cases} cases`);
    const { failed: faults = [], ...sample } = sampled ?? {};
    failed.push(...faults);
    return {
      ok: failed.length === 0 && bricked === 0,
      failed,
      ...{
        cases,
        bricked,
        steps: stepsOf(all),
        releases: countsOf(of),
        parts: partsOf(parts),
        calls: sum('calls'),
        launches,
      },
      mechanism: MECHANISM,
      sample: sampled === undefined ? null : (sample as Omit<SampleResult, 'failed'>),
      lastedMs: Math.round(systemClock.nowMs() - startedMs),
    };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** @throws what the thread ended with */
async function inThread(order: CutsOrder): Promise<CutsAnswer> {
  const worker = new Worker(new URL('./power-cuts-worker.js', import.meta.url), { workerData: order });
  const [cuts] = (await once(worker, 'message')) as [CutsAnswer];
  return cuts;
}

function countsOf(of: AllCuts['of']): PowercutResult['releases'] {
  const countOf = ({ cases, bricked }: CutResult) => ({ cases, bricked });
  return { good: countOf(of.good), mute: countOf(of.mute), crashing: countOf(of.crashing) };
}

function partsOf(parts: CutsAnswer['parts']): PowercutResult['parts'] {
  return Object.fromEntries(Object.entries(parts).map(([what, { cases, bricked }]) => [what, { cases, bricked }]));
}

function stepsOf(all: readonly CutResult[]): Record<string, number> {
  const steps: Record<string, number> = {};
  for (const { steps: some } of all) {
    for (const [step, cases] of Object.entries(some)) steps[step] = (steps[step] ?? 0) + cases;
  }
  return steps;
}
