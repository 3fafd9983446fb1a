import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../core/clock.js';
import { LabLauncher } from './lab-launcher.js';
import { type CutResult, cutEverywhere } from './power-cuts.js';
import type { ScenarioContext } from './scenario.js';
import { type Behaviour, labReleases } from './update-machine.js';

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
  /** Calls of the file system, each of which was the first that was not carried out. */
  readonly calls: number;
  /** How often the real launcher ran: once for each disk that it can tell from others. */
  readonly launches: number;
  readonly mechanism: string;
  readonly lastedMs: number;
}

const BEHAVIOURS: readonly Behaviour[] = ['good', 'mute', 'crashing'];
const MECHANISM =
  'injected file system: names last once their folder was synced, content once its file was; of what was not, each prefix of ' +
  'the names, with the content lost, torn or kept (all kept: SIGKILL). Started by the real launcher on a real disk';
/** The launcher's copies: a thousand times fsync on a card would take an hour. */
const SHARED_MEMORY = '/dev/shm';
const MOST_FAULTS_TOLD = 10;
/** Before the machine's patience ends; what was not tried by then is told as a failure. */
const LAST_START_MS = 165_000;

/**
 * The power goes at every call of the file system that an update makes, before, in and after each of its steps; whatever the disk
 * may have made of it is started by the real launcher, and the update goes on to its end.
 */
export async function runPowercutScenario({ dir, log }: ScenarioContext): Promise<PowercutResult> {
  const startedMs = systemClock.nowMs();
  const releases = await labReleases(join(dir, 'repository'));
  const work = mkdtempSync(join(existsSync(SHARED_MEMORY) ? SHARED_MEMORY : dir, 'entryphone-powercut-'));
  const launcher = new LabLauncher(work);
  const counted = {} as Record<Behaviour, CutResult>;
  for (const behaviour of BEHAVIOURS) {
    log(`a release that is ${behaviour}`);
    counted[behaviour] = await cutEverywhere({
      ...{ releases, behaviour, launcher },
      untilMs: startedMs + LAST_START_MS,
    });
  }
  rmSync(work, { recursive: true, force: true });
  const all = BEHAVIOURS.map((behaviour) => counted[behaviour]);
  const sum = (what: 'cases' | 'bricked' | 'calls') => all.reduce((total, one) => total + one[what], 0);
  const [cases, bricked] = [sum('cases'), sum('bricked')];
  const faults = all.flatMap((one) => one.faults);
  const failed = faults.slice(0, MOST_FAULTS_TOLD);
  if (cases <= 20) failed.push(`only ${cases} cases`);
  return {
    ok: failed.length === 0 && bricked === 0,
    failed,
    cases,
    bricked,
    steps: stepsOf(all),
    releases: Object.fromEntries(
      BEHAVIOURS.map((name) => [name, { cases: counted[name].cases, bricked: counted[name].bricked }]),
    ) as PowercutResult['releases'],
    calls: sum('calls'),
    launches: launcher.runs,
    mechanism: MECHANISM,
    lastedMs: Math.round(systemClock.nowMs() - startedMs),
  };
}

function stepsOf(all: readonly CutResult[]): Record<string, number> {
  const steps: Record<string, number> = {};
  for (const { steps: some } of all) {
    for (const [step, cases] of Object.entries(some)) steps[step] = (steps[step] ?? 0) + cases;
  }
  return steps;
}
