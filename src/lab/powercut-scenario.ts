import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import { type Loss, PowerCut, type PowerCutDisk } from './power-cut-disk.js';
import type { ScenarioContext } from './scenario.js';
import { type Behaviour, diskWithOldRelease, type LabReleases, labReleases, UpdateMachine } from './update-machine.js';

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
/** Starts that run at the same time: the launcher's processes take most of it. */
const AT_ONCE = 4;

/**
 * The power goes at every call of the file system that an update makes, before, in and after each of its steps; whatever the disk
 * may have made of it is started by the real launcher, and the update goes on to its end.
 */
export async function runPowercutScenario({ dir, log }: ScenarioContext): Promise<PowercutResult> {
  const startedMs = systemClock.nowMs();
  const releases = await labReleases(join(dir, 'repository'));
  const steps: Record<string, number> = {};
  const faults: string[] = [];
  const counted = {} as Record<Behaviour, { cases: number; bricked: number }>;
  let calls = 0;
  const work = mkdtempSync(join(existsSync(SHARED_MEMORY) ? SHARED_MEMORY : dir, 'entryphone-powercut-'));
  for (const behaviour of BEHAVIOURS) {
    log(`a release that is ${behaviour}`);
    const found = await cutEverywhere({
      releases,
      behaviour,
      dir: work,
      steps,
      faults,
      untilMs: startedMs + LAST_START_MS,
    });
    counted[behaviour] = { cases: found.cases, bricked: found.bricked };
    calls += found.calls;
  }
  rmSync(work, { recursive: true, force: true });
  const sum = (what: 'cases' | 'bricked') => BEHAVIOURS.reduce((total, one) => total + counted[one][what], 0);
  const [cases, bricked] = [sum('cases'), sum('bricked')];
  const failed = faults.slice(0, MOST_FAULTS_TOLD);
  if (cases <= 20) failed.push(`only ${cases} cases`);
  return {
    ok: failed.length === 0 && bricked === 0,
    failed,
    cases,
    bricked,
    steps,
    releases: counted,
    calls,
    mechanism: MECHANISM,
    lastedMs: Math.round(systemClock.nowMs() - startedMs),
  };
}

interface Cutting {
  readonly releases: LabReleases;
  readonly behaviour: Behaviour;
  readonly dir: string;
  readonly steps: Record<string, number>;
  readonly faults: string[];
  /** By the monotonic clock. */
  readonly untilMs: number;
}

async function cutEverywhere(cutting: Cutting): Promise<{ cases: number; bricked: number; calls: number }> {
  const { releases, behaviour, dir, steps, faults } = cutting;
  const work = join(dir, behaviour);
  mkdirSync(work, { recursive: true });
  const begin = await diskWithOldRelease(releases);
  const machineOn = (disk: PowerCutDisk) => new UpdateMachine({ releases, behaviour, disk, dir: work });
  // Up to the switch nothing of the new release has run: it is the same for each.
  const first = behaviour === 'good' ? 1 : await callsUntilSwitch(machineOn(copyOf(begin)));
  const found = new Map<string, { readonly disk: PowerCutDisk; readonly step: string; readonly cutAt: number }>();
  let calls = 0;
  for (let [cutAt, isCut] = [first, true]; isCut; cutAt++) {
    const machine = machineOn(copyOf(begin));
    isCut = await runUntil(machine, cutAt);
    calls += 1;
    const step = machine.steps.at(-1) ?? 'before the first';
    for (const disk of whatIsLeft(machine.disk)) {
      const print = fingerprint(disk);
      if (!found.has(print)) found.set(print, { disk, step, cutAt });
    }
  }
  let [bricked, tried] = [0, 0];
  const waiting = found.values();
  const worker = async (): Promise<void> => {
    for (const { disk, step, cutAt } of waiting) {
      if (systemClock.nowMs() > cutting.untilMs) {
        faults.push(`${behaviour} release: not all cases were tried in time`);
        return;
      }
      tried += 1;
      steps[step] = (steps[step] ?? 0) + 1;
      const fault = await goOn(machineOn(disk), cutting);
      if (fault === null) continue;
      bricked += 1;
      faults.push(`${behaviour} release, cut at call ${cutAt} in ${step}: ${fault}`);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return { cases: tried, bricked, calls };
}

async function callsUntilSwitch(machine: UpdateMachine): Promise<number> {
  let calls = 1;
  await machine.update((_run, step) => {
    if (step === 'switch') calls = machine.calls;
  });
  return calls;
}

/** @returns whether the power was cut before the update was over */
async function runUntil(machine: UpdateMachine, cutAt: number): Promise<boolean> {
  machine.cutAfterCalls(cutAt);
  try {
    await machine.update();
    return false;
  } catch (error) {
    // On the way back a run says with what it can't go on.
    if (error instanceof PowerCut || (error as Error).cause instanceof PowerCut) return true;
    throw error;
  }
}

/** The disks that a power cut may leave. */
export function* whatIsLeft(disk: PowerCutDisk): Generator<PowerCutDisk> {
  const contents: readonly Loss['content'][] = disk.hasUnsyncedContent ? ['lost', 'torn', 'kept'] : ['kept'];
  const all = disk.unsyncedChanges;
  // Of many, as in the middle of unpacking, these: none, one, half, all but one, all.
  const prefixes = all <= 4 ? Array.from({ length: all + 1 }, (_, i) => i) : [0, 1, all >> 1, all - 1, all];
  for (const changes of prefixes) {
    for (const content of contents) yield disk.after({ changes, content });
  }
}

/** The power comes back. @returns what is wrong in the end; null where nothing is */
async function goOn(machine: UpdateMachine, { releases, behaviour }: Cutting): Promise<string | null> {
  try {
    await machine.start();
    const journal = await machine.update();
    const bad = machine.starts.find(({ slot, isWhole }) => slot === null || !isWhole);
    if (bad !== undefined) return bad.slot === null ? 'no release was started' : `slot ${bad.slot} is not whole`;
    const { version, floor } = await machine.runs();
    const { old, next } = releases;
    const expected = behaviour === 'good' ? next.manifest.version : old.manifest.version;
    if (version !== expected) return `release ${version} runs, not ${expected}`;
    if (floor !== expected) return `the floor is ${floor}, not ${expected}`;
    const state = behaviour === 'good' ? 'succeeded' : 'failed';
    if (journal.state !== state) return `the job is ${journal.state} (${journal.reason}), not ${state}`;
    return journal.state === 'failed' && journal.reason === null ? 'the job failed for no reason' : null;
  } catch (error) {
    return errorText(error);
  }
}

function copyOf(disk: PowerCutDisk): PowerCutDisk {
  return disk.after({ changes: 0, content: 'kept' });
}

function fingerprint(disk: PowerCutDisk): string {
  const hash = createHash('sha256');
  for (const [path, entry] of disk.entries()) {
    hash.update(`${path} ${entry.is} `);
    if (entry.is === 'link') hash.update(entry.target);
    if (entry.is === 'file') hash.update(entry.bytes);
  }
  return hash.digest('hex');
}
