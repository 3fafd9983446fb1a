import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { systemClock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { UpdateJournal } from '../fleet/update-journal.js';
import type { UpdateStep } from '../fleet/update-plan.js';
import { JobFile } from '../update/job-file.js';
import { LabLauncher } from './lab-launcher.js';
import { type Loss, PowerCut, type PowerCutDisk } from './power-cut-disk.js';
import {
  type Behaviour,
  diskWithOldRelease,
  type LabReleases,
  labReleases,
  type MachineFault,
  UpdateMachine,
} from './update-machine.js';

export interface Cutting {
  readonly releases: LabReleases;
  readonly behaviour: Behaviour;
  readonly launcher: LabLauncher;
  /** No start of another case after it, by the monotonic clock. */
  readonly untilMs: number;
  /** Only cuts from the beginning of this step on; from the first call on if not said. */
  readonly from?: UpdateStep['do'];
  readonly fault?: MachineFault;
  /** So many that are bricked are enough to know. */
  readonly mostBricked?: number;
}

export interface CutResult {
  /** Disks that a cut left, each another one. */
  readonly cases: number;
  readonly bricked: number;
  /** Calls of the file system, each of which was the first that was not carried out. */
  readonly calls: number;
  /** Cases by the step in which the power went. */
  readonly steps: Readonly<Record<string, number>>;
  /** What was wrong. */
  readonly faults: readonly string[];
}

export interface CutsOrder {
  /** Real folder for releases and the launcher's copies. */
  readonly dir: string;
  /** No case is begun after so long. */
  readonly withinMs: number;
}

export interface AllCuts {
  readonly of: Readonly<Record<Behaviour, CutResult>>;
  /** How often the real launcher ran: once for each disk that it can tell from others. */
  readonly launches: number;
}

/** Of fewer changes than these each way to lose them is tried. */
const FEW_CHANGES = 4;

/** With releases of every behaviour. */
export async function cutAll({ dir, withinMs }: CutsOrder): Promise<AllCuts> {
  const untilMs = systemClock.nowMs() + withinMs;
  const releases = await labReleases(join(dir, 'repository'));
  const launcher = new LabLauncher(dir);
  const cut = (behaviour: Behaviour) => cutEverywhere({ releases, behaviour, launcher, untilMs });
  const of = { good: await cut('good'), mute: await cut('mute'), crashing: await cut('crashing') };
  return { of, launches: launcher.runs };
}

/**
 * The power goes at every call of the file system that an update makes, the launcher's among them; whatever the disk may have made
 * of it is started by the launcher, and the update goes on to its end.
 */
export async function cutEverywhere(cutting: Cutting): Promise<CutResult> {
  const { releases, behaviour, untilMs, mostBricked = Number.POSITIVE_INFINITY } = cutting;
  const begin = await diskWithOldRelease(releases);
  const machineOn = (disk: PowerCutDisk) => new UpdateMachine({ ...cutting, disk });
  // Up to the switch nothing of the new release has run: it is the same for each.
  const { from = behaviour === 'good' ? undefined : 'switch' } = cutting;
  const first = from === undefined ? 1 : await callsUntil(from, machineOn(begin.twin()));
  const tried = new Set<string>();
  const faults: string[] = [];
  const steps: Record<string, number> = {};
  let [cases, bricked, calls] = [0, 0, 0];
  for (let [cutAt, isCut] = [first, true]; isCut && bricked < mostBricked; cutAt++) {
    const machine = machineOn(begin.twin());
    machine.disk.cutAt = cutAt;
    const ended = await runUntilCut(machine);
    isCut = ended === 'cut';
    calls += 1;
    const step = machine.job.steps.at(-1) ?? 'before the first';
    const goOnFrom = async (disk: PowerCutDisk): Promise<void> => {
      const print = fingerprint(disk);
      const isKnown = tried.has(print);
      tried.add(print);
      // The same disk may be left after more was told; what comes of it is the same.
      const fault =
        (await forgotten(disk, machine.job.told)) ?? (isKnown ? null : await goOn(machineOn(disk), cutting));
      if (!isKnown) {
        cases += 1;
        steps[step] = (steps[step] ?? 0) + 1;
      }
      if (fault === null) return;
      bricked += 1;
      faults.push(`${behaviour} release, cut at call ${cutAt} in ${step}: ${fault}`);
    };
    await Promise.all([...whatIsLeft(machine.disk)].map(goOnFrom));
    if (ended !== 'cut' && ended !== 'over') faults.push(`${behaviour} release, without a cut: ${ended}`);
    if (isCut && systemClock.nowMs() > untilMs) {
      faults.push(`${behaviour} release: not all cases were tried in time`);
      break;
    }
  }
  return { cases, bricked, calls, steps, faults };
}

/** The disks that a power cut may leave. */
export function* whatIsLeft(disk: PowerCutDisk): Generator<PowerCutDisk> {
  const contents: readonly Loss['content'][] = disk.hasUnsyncedContent ? ['lost', 'torn', 'kept'] : ['kept'];
  const all = disk.unsyncedChanges;
  const isFew = all <= FEW_CHANGES;
  // Of many, as in the middle of unpacking, these: none, one, half, all but one, all.
  const prefixes = isFew ? Array.from({ length: all + 1 }, (_, i) => i) : [0, 1, all >> 1, all - 1, all];
  const losses: Omit<Loss, 'content'>[] = prefixes.map((changes) => ({ changes }));
  for (let without = 0; isFew && without < all - 1; without++) losses.push({ changes: all, without });
  for (const loss of losses) for (const content of contents) yield disk.after({ ...loss, content });
}

async function callsUntil(wanted: UpdateStep['do'], machine: UpdateMachine): Promise<number> {
  let calls = 1;
  const until = (_run: unknown, step: string): void => {
    if (step === wanted) calls = machine.disk.calls;
  };
  // What goes wrong after it goes wrong again where it is looked for.
  await machine.update(until).catch(() => {});
  return calls;
}

/** @returns what has ended it: the cut, its own end, or else what went wrong, in words */
async function runUntilCut(machine: UpdateMachine): Promise<string> {
  try {
    await machine.update();
    return 'over';
  } catch (error) {
    // On the way back a run says with what it can't go on.
    const isCut = error instanceof PowerCut || (error as Error).cause instanceof PowerCut;
    return isCut ? 'cut' : errorText(error);
  }
}

/** @returns what a disk does not know any more of that which was told; null where it knows all */
export async function forgotten(disk: PowerCutDisk, told: UpdateJournal | null): Promise<string | null> {
  const kept = told === null ? null : await new JobFile(disk).read();
  if (told === null || (kept?.journal.seq ?? -1) >= told.seq) return null;
  return `it was told that the job is ${told.state} (${told.at?.do}), and is forgotten`;
}

/** The power comes back. @returns what is wrong in the end; null where nothing is */
async function goOn(machine: UpdateMachine, { releases, behaviour }: Cutting): Promise<string | null> {
  try {
    await machine.start();
    const journal = await machine.update();
    const bad = machine.starts.find(({ slot, isWhole }) => slot === null || !isWhole);
    if (bad !== undefined) return bad.slot === null ? 'no release was started' : `slot ${bad.slot} is not whole`;
    const { version, floor, failedThere } = await machine.runs();
    const { old, next } = releases;
    const expected = behaviour === 'good' ? next.manifest.version : old.manifest.version;
    if (version !== expected) return `release ${version} runs, not ${expected}`;
    if (floor !== expected) return `the floor is ${floor}, not ${expected}`;
    const state = behaviour === 'good' ? 'succeeded' : 'failed';
    if (journal.state !== state) return `the job is ${journal.state} (${journal.reason}), not ${state}`;
    if (behaviour === 'good') return null;
    if (journal.reason === null) return 'the job failed for no reason';
    return failedThere === null ? 'it may be tried again, though it failed here' : null;
  } catch (error) {
    return errorText(error);
  }
}

/** The same for disks on which all is the same. */
export function fingerprint(disk: PowerCutDisk): string {
  const hash = createHash('sha256');
  for (const [path, entry] of disk.entries()) {
    hash.update(`${path} ${entry.is} `);
    if (entry.is === 'link') hash.update(entry.target);
    if (entry.is === 'file') hash.update(entry.bytes);
  }
  return hash.digest('hex');
}
