import { spawnSync } from 'node:child_process';
import { closeSync, fsyncSync, openSync, readFileSync, realpathSync, renameSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { AppError, errorText } from '../core/errors.js';
import { makeFolder } from '../core/folder.js';
import { firstReleaseIn, putFirstRelease } from './first-release.js';
import type { Step } from './plan.js';

/**
 * `needed` (a dry run found it missing), `done`; `already` there; `kept`, since it is yours and differs; `missed`, which does no
 * harm to the rest (the step says what it means); `failed`; `skipped`, since a step before it failed.
 */
export type Outcome = 'needed' | 'done' | 'already' | 'kept' | 'missed' | 'failed' | 'skipped';

export interface StepResult {
  readonly step: Step;
  readonly outcome: Outcome;
  readonly error?: string;
}

type Doer<S extends Step> = {
  /** What stands in the way of doing nothing: `needed`, or the outcome. Changes nothing. */
  readonly look: (step: S, root: string) => Outcome;
  readonly apply: (step: S, root: string) => void | Promise<void>;
};

/** How each kind of step is carried out. */
const doers: { readonly [K in Step['do']]: Doer<Extract<Step, { do: K }>> } = {
  file: {
    look: (step, root) => {
      const there = readIfThere(placeIn(root, step.path));
      if (there === undefined) return 'needed';
      if (there === step.content) return 'already';
      return step.owner === 'yours' ? 'kept' : 'needed';
    },
    apply: (step, root) => write(placeIn(root, step.path), step.content),
  },
  line: {
    look: (step, root) => {
      const there = readIfThere(placeIn(root, step.path)) ?? '';
      return there.split('\n').some((line) => line.trim() === step.line) ? 'already' : 'needed';
    },
    apply: (step, root) => {
      const path = placeIn(root, step.path);
      write(path, `${step.line}\n${readIfThere(path) ?? ''}`);
    },
  },
  slots: {
    look: (step, root) => {
      const there = firstReleaseIn(placeIn(root, step.path));
      return there === undefined ? 'needed' : there === step.release.version ? 'already' : 'kept';
    },
    apply: (step, root) => putFirstRelease(step.release, placeIn(root, step.path), root),
  },
  run: { look: () => 'needed', apply: (step) => run(step.command) },
};

/** Carries the steps out, or looks what each would do; stops at the first that fails. */
export async function carryOut(
  steps: readonly Step[],
  options: { root: string; apply: boolean },
): Promise<StepResult[]> {
  let isStopped = false;
  const carried = async (step: Step): Promise<StepResult> => {
    if (isStopped) return { step, outcome: 'skipped' };
    const doer = doers[step.do] as Doer<Step>;
    try {
      const outcome = doer.look(step, options.root);
      if (outcome !== 'needed' || !options.apply) return { step, outcome };
      await doer.apply(step, options.root);
      return { step, outcome: 'done' };
    } catch (error) {
      const meaning = step.do === 'run' ? step.ifItFails : undefined;
      if (meaning !== undefined) return { step, outcome: 'missed', error: `${errorText(error)}: ${meaning}` };
      isStopped = true;
      return { step, outcome: 'failed', error: errorText(error) };
    }
  };
  const results: StepResult[] = [];
  for (const step of steps) results.push(await carried(step));
  return results;
}

/** @throws AppError `outside-root` where a link of an image leads out of it */
function placeIn(root: string, path: string): string {
  const place = join(root, path);
  if (root === '/') return place;
  let folder = dirname(place);
  for (;;) {
    const real = realPathIfThere(folder);
    if (real !== undefined) {
      const base = realpathSync(root);
      if (real === base || real.startsWith(`${base}/`)) return place;
      throw new AppError('outside-root', `${folder} leads out of ${root}, to ${real}`, {
        remedy: 'Replace the absolute link of the image by a relative one',
      });
    }
    folder = dirname(folder);
  }
}

function realPathIfThere(path: string): string | undefined {
  try {
    return realpathSync(path);
  } catch {
    return undefined;
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** All of it or nothing, also when the power is cut. */
function write(path: string, text: string): void {
  try {
    makeFolder(dirname(path), 0o755);
    const partial = `${path}.partial`;
    const file = openSync(partial, 'w', 0o644);
    try {
      writeSync(file, text);
      fsyncSync(file);
    } finally {
      closeSync(file);
    }
    renameSync(partial, path);
  } catch (error) {
    const { code } = ((error as Error).cause ?? error) as NodeJS.ErrnoException;
    throw new AppError('not-written', `${path} can't be written (${code ?? errorText(error)})`, {
      remedy: code === 'EACCES' || code === 'EPERM' ? 'Use sudo' : 'Is the disk full, or read-only?',
      cause: error,
    });
  }
}

function run([program = '', ...args]: readonly string[]): void {
  const { status, signal, stderr, error } = spawnSync(program, args, { encoding: 'utf8', timeout: 60_000 });
  if (status === 0) return;
  const why = error?.message ?? (stderr.trim().split('\n').slice(-3).join('; ') || `${signal ?? `status ${status}`}`);
  throw new AppError('command-failed', `${[program, ...args].join(' ')} failed (${why})`);
}
