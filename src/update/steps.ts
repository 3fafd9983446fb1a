import { AppError } from '../core/errors.js';
import { type Chunk, distinctChunks } from '../fleet/manifest.js';
import { spaceFault, type UpdateStep } from '../fleet/update-plan.js';
import { seedOf } from './seed.js';
import type { StepContext } from './step-context.js';

/** `anew`: what comes next is not what the plan said. */
export type StepOutcome = 'done' | 'anew';

/** The other two are the plan's word on the job, and nothing to be done. */
export type Doable = Exclude<UpdateStep, { do: 'reject' | 'fail' }>;
type Execute = {
  readonly [K in Doable['do']]: (step: Extract<Doable, { do: K }>, run: StepContext) => Promise<StepOutcome>;
};

/** How many chunks are fetched at once. */
const IN_FLIGHT = 8;
/** What was damaged is fetched again, once. */
const MOST_FETCHES = 2;
/** From the order to restart until what runs is the other slot's. */
const RESTART_MS = 60_000;
const LOOK_EVERY_MS = 200;

/** How each step of a plan is carried out. What each promises stands with it in `fleet/update-plan.ts`. */
export const EXECUTE: Execute = {
  seed: async ({ slot }, { options, signal }) => {
    const { slots, target, job } = options;
    const seed = seedOf(job.manifest.kind, await target.seed(signal));
    await slots.begin(slot);
    await slots.unpack(slot, seed.manifest, seed.readChunk);
    await slots.sync(slot, seed.manifest);
    await slots.seal(slot, seed.text);
    return 'done';
  },
  'check-space': async (step, { options }) => {
    const { disk, slots } = options;
    const { current, manifests } = await slots.read();
    const other = manifests[current === 'a' ? 'b' : 'a'];
    const fault = spaceFault(step, {
      freeBytes: await disk.freeBytes(),
      inOtherSlotBytes: other?.requires.freeBytes ?? 0,
    });
    if (fault !== undefined) throw new AppError('disk-full', fault);
    return 'done';
  },
  fetch: async (_step, run) => {
    await fetchLacking(run);
    return 'done';
  },
  verify: async (_step, run) => {
    const { chunks, job } = run.options;
    for (let fetches = 0; ; fetches++) {
      const bad = await chunks.verify(job.manifest, run.signal);
      if (bad.length === 0) return 'done';
      if (fetches === MOST_FETCHES)
        throw new AppError('chunk-wrong', `${bad.length} chunks are damaged again and again`);
      await fetchLacking(run);
    }
  },
  clear: async ({ slot }, { options }) => {
    const { slots, job } = options;
    await slots.clear(slot, (await slots.read()).current);
    if (job.mayRetry) await slots.forgetFailure(job.manifest.hash);
    return 'done';
  },
  unpack: async ({ slot, bytes }, run) => {
    const { slots, chunks, job } = run.options;
    await slots.unpack(slot, job.manifest, (chunk) => chunks.read(chunk), {
      signal: run.signal,
      told: (written) => run.progress((100 * written) / Math.max(1, bytes)),
    });
    return 'done';
  },
  sync: async ({ slot }, { options }) => {
    await options.slots.sync(slot, options.job.manifest);
    return 'done';
  },
  seal: async ({ slot }, { options }) => {
    await options.slots.seal(slot, options.job.manifestText);
    return 'done';
  },
  'check-content': async ({ slot }, { options, signal }) => {
    const fault = await options.target.check(slot, signal);
    if (fault !== null) throw new AppError('content-refused', fault);
    return 'done';
  },
  'wait-for-quiet': async (_step, { options, signal }) => {
    await options.station.untilQuiet(signal);
    return 'done';
  },
  switch: async ({ slot, from, isDisturbing }, { options }) => {
    // A press in the last moment: the plan waits again.
    if (isDisturbing && options.station.noise() !== null) return 'anew';
    await options.slots.switchTo(slot, from);
    return 'done';
  },
  restart: async ({ slot }, run) => {
    const { target, slots, clock } = run.options;
    await target.restart(slot, run.signal);
    const until = clock.nowMs() + RESTART_MS;
    while (clock.nowMs() < until) {
      if ((await target.running(await slots.read())) === slot) return 'done';
      await new Promise<void>((resolve) => clock.after(LOOK_EVERY_MS, resolve));
      run.signal.throwIfAborted();
    }
    throw new AppError('not-restarted', `the processes of slot ${slot} did not start`);
  },
  confirm: async ({ slot, proofs }, run) => {
    const { target, slots } = run.options;
    for (const [index, proof] of proofs.entries()) {
      const fault = await target.prove(proof, run.signal);
      if (fault !== null) throw new AppError('not-proven', fault);
      run.progress((100 * (index + 1)) / proofs.length);
    }
    run.signal.throwIfAborted();
    await slots.confirm(slot);
    return 'done';
  },
  'raise-floor': async ({ version }, { options }) => {
    await options.slots.raiseFloor(version);
    return 'done';
  },
  clean: async (_step, { options }) => {
    const { chunks, target, slots } = options;
    await target.settle(await slots.read());
    await chunks.clean();
    return 'done';
  },
  'switch-back': async ({ slot, from, failure }, { options }) => {
    await options.slots.switchBack(slot, from, failure);
    return 'done';
  },
  'await-ready': async ({ slot }, { options, signal }) => {
    const fault = await options.target.prove('processes-ready', signal);
    if (fault !== null) options.logger.error({ slot, fault }, 'the release before is not ready either');
    return 'done';
  },
};

/** Brings what is not here, some at a time; one that comes damaged is asked for once more. */
async function fetchLacking(run: StepContext): Promise<void> {
  const { chunks, fetch, job } = run.options;
  const lacking = await chunks.lacking(job.manifest);
  const of = distinctChunks(job.manifest).length;
  let here = of - lacking.length;
  const waiting = lacking.values();
  // The first that fails ends the others: nothing is written behind the back of what comes next.
  const failed = new AbortController();
  const signal = AbortSignal.any([run.signal, failed.signal]);
  const bring = async (chunk: Chunk): Promise<void> => {
    try {
      await chunks.put(chunk, await fetch(chunk, signal));
    } catch (error) {
      if (!(error instanceof AppError) || error.code !== 'chunk-wrong') throw error;
      await chunks.put(chunk, await fetch(chunk, signal));
    }
  };
  const worker = async (): Promise<void> => {
    for (const chunk of waiting) {
      signal.throwIfAborted();
      await bring(chunk);
      here += 1;
      run.progress((100 * here) / of);
    }
  };
  const workers = Array.from({ length: IN_FLIGHT }, () =>
    worker().catch((error: unknown) => {
      failed.abort(error);
      throw error;
    }),
  );
  const results = await Promise.allSettled(workers);
  run.signal.throwIfAborted();
  if (failed.signal.aborted) throw failed.signal.reason;
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}
