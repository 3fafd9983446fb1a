import type { FlowNodes, FlowsAtRev } from '../adapters/node-red/admin-api.js';
import {
  FLOWS_IN_RELEASE,
  MOST_FLOW_BYTES,
  readFlows,
  readReleaseFlows,
  unknownTypes,
} from '../adapters/node-red/flow-import.js';
import type { SlotDisk } from '../adapters/slots/slot-disk.js';
import { SlotStore, type SlotsOnDisk } from '../adapters/slots/slot-store.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { otherSlot, type SlotName } from '../fleet/slots.js';
import type { Proof } from '../fleet/update-plan.js';
import type { StationStatus } from '../protocol/station-api.js';
import type { SeedFile } from '../update/seed.js';
import type { ReleaseTarget, Untaken } from '../update/step-context.js';
import type { FlowsKeeper } from './flows-keeper.js';
import { isOfRelease } from './flows-trial.js';

type Status = NonNullable<StationStatus['flows']>;

export interface FlowsTargetOptions {
  readonly flows: { readonly status: Status; readonly keeper: FlowsKeeper };
  /** Of the slots of flows. */
  readonly disk: SlotDisk;
  /** How long flows run well before they are good (`flows.goodAfterMs`). */
  readonly goodAfterMs: number;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** On a small board the process takes half a minute to start, and hung flows another ten seconds to be ended. */
const READY_WITHIN_MS = 120_000;
/** How long a release runs without a fault until it is confirmed, at most. */
const PROOF_MS = 10_000;
const LEAST_BEATS = 2;
const LOOK_EVERY_MS = 250;
const MOST_DEPLOYS = 3;

/**
 * Releases of flows: deployed whole through the Admin API, on trial until they have run for some seconds without a fault, and taken out
 * again where they don't. What they replace comes back, edited by hand or not, and only what ran well is ever kept as good.
 */
export class FlowsTarget implements ReleaseTarget {
  readonly #options: FlowsTargetOptions;
  /** The slot whose release this process has deployed, until it is left. */
  #deployed: SlotName | null = null;
  /** The counts of faults when the release was deployed; of a process that goes on with a trial its own start. */
  #from: Pick<Status, 'crashes' | 'hangs' | 'restores'> = { crashes: 0, hangs: 0, restores: 0 };

  constructor(options: FlowsTargetOptions) {
    this.#options = options;
  }

  async seed(signal: AbortSignal): Promise<readonly SeedFile[]> {
    const { flows } = await this.#reached(signal);
    return [{ path: FLOWS_IN_RELEASE, bytes: Buffer.from(`${JSON.stringify(flows, null, 2)}\n`) }];
  }

  async check(slot: SlotName, signal: AbortSignal): Promise<string | null> {
    try {
      const flows = await this.#flowsOf(slot);
      await this.#reached(signal);
      const unknown = unknownTypes(flows, await this.#options.flows.keeper.api.knownTypes());
      return unknown.length === 0 ? null : `nodes that are not here: ${unknown.map(({ type }) => type).join(', ')}`;
    } catch (error) {
      if (error instanceof AppError && error.code === 'flow-file-invalid') return error.message;
      throw error;
    }
  }

  async running({ state, current }: SlotsOnDisk): Promise<SlotName | null> {
    // Whatever has become of it since: its proof finds that.
    if (state.trial !== null && state.trial.slot === this.#deployed) return state.trial.slot;
    const replaced = this.#trial.replaced;
    if (replaced === null) return state.trial?.from ?? current;
    const now = await this.#now();
    // Where nobody answers: what was deployed last.
    if (now === null) return replaced.deployedRev === null ? null : replaced.slot;
    return isOfRelease(replaced, now) ? replaced.slot : otherSlot(replaced.slot);
  }

  async isReady(): Promise<boolean> {
    return isUp(this.#status);
  }

  async restart(slot: SlotName, signal: AbortSignal): Promise<void> {
    const { state } = await new SlotStore(this.#options.disk).read();
    if (state.trial?.slot === slot) await this.#deploy(slot, signal);
    else await this.#goBack(signal);
  }

  async prove(proof: Proof, signal: AbortSignal): Promise<string | null> {
    const { clock } = this.#options;
    const until = clock.nowMs() + READY_WITHIN_MS;
    let well: { sinceMs: number; beats: number } | null = null;
    for (;;) {
      signal.throwIfAborted();
      const status = this.#status;
      if (proof === 'processes-ready' && isUp(status)) return null;
      const fault = proof === 'processes-ready' ? null : this.#faultSince(status);
      if (fault !== null) return fault;
      if (status.state !== 'running') well = null;
      else well ??= { sinceMs: clock.nowMs(), beats: status.heartbeats };
      const now = well !== null && this.#hasProved(well, status) ? await this.#now() : null;
      if (now !== null) return this.#isOfTrial(now) ? null : 'other flows were deployed meanwhile';
      if (clock.nowMs() >= until) return `the flows were not ready within ${READY_WITHIN_MS / 1000} s`;
      await this.#pause();
    }
  }

  async hasKept(): Promise<boolean> {
    return this.#trial.replaced !== null;
  }

  async settle({ current, state }: SlotsOnDisk): Promise<void> {
    const { flows, logger } = this.#options;
    const replaced = this.#trial.replaced;
    this.#deployed = null;
    if (replaced === null) return;
    if (replaced.slot === current && state.trial === null) {
      if (replaced.isEdited) {
        await flows.keeper.keepReplaced(replaced.before);
        logger.warn({}, 'a release has replaced flows that were edited here; they are in flows-replaced.json');
      }
    }
    // They have run well for some seconds: whether they are to come back where others don't run, the watch knows later.
    await this.#trial.end();
  }

  get #trial() {
    return this.#options.flows.keeper.trial;
  }

  get #status(): Status {
    return this.#options.flows.status;
  }

  /** Puts the release in the place of what is there, which is kept first. */
  async #deploy(slot: SlotName, signal: AbortSignal): Promise<void> {
    const { api } = this.#options.flows.keeper;
    const release = await this.#flowsOf(slot);
    for (let tries = 1; ; tries++) {
      const now = await this.#reached(signal);
      const before = this.#trial.replaced;
      // Begun before this process was.
      if (before?.slot === slot && isOfRelease(before, now) && before.deployedRev !== null) return;
      await this.#keepBefore(slot);
      const { crashes, hangs, restores } = this.#status;
      this.#from = { crashes, hangs, restores };
      try {
        await this.#trial.deployed(await api.deployFlows({ flows: release, rev: now.rev }));
        this.#deployed = slot;
        return;
      } catch (error) {
        const code = error instanceof AppError ? error.code : '';
        if (code === 'flows-conflict' && tries < MOST_DEPLOYS) continue;
        if (code !== 'flows-unreachable') throw error;
        throw new AppError('flows-not-running', 'the flows process did not answer any more when they were deployed');
      }
    }
  }

  async #keepBefore(slot: SlotName): Promise<void> {
    const known = this.#trial.replaced;
    // Deployed, but not noted, when the power went: what was before is in the note.
    if (known?.slot === slot && known.deployedRev === null) return;
    const before = this.#trial.owed?.before ?? (await this.#options.flows.keeper.api.getAll());
    const installed = await this.#flowsOf(otherSlot(slot), readFlows).catch(() => null);
    const isEdited = JSON.stringify(installed) !== JSON.stringify(before.flows);
    await this.#trial.begin({ slot, isEdited, deployedRev: null, before });
  }

  /** What the release replaced is put back: at once where flows answer, else by a start in safe mode. */
  async #goBack(signal: AbortSignal): Promise<void> {
    const { flows, clock, logger } = this.#options;
    this.#deployed = null;
    const until = clock.nowMs() + READY_WITHIN_MS;
    let isSafeNext = false;
    while (this.#trial.replaced !== null) {
      signal.throwIfAborted();
      const { state } = this.#status;
      // What hangs the watch has restarted, and what crashed starts by itself: then without the release's flows.
      if (!isSafeNext && (state === 'hung' || state === 'absent')) {
        flows.keeper.startSafely(true);
        isSafeNext = true;
      }
      if (isUp(this.#status) || state === 'stopped') {
        await this.#trial
          .putBack(flows.keeper.api)
          .catch((error: unknown) =>
            logger.warn({ state, error: errorText(error) }, 'the flows before are not back yet'),
          );
      }
      if (this.#trial.replaced === null) break;
      if (clock.nowMs() >= until) {
        logger.error({}, 'the flows process does not come: what a release has replaced is put back when it does');
        flows.keeper.startSafely(true);
        await this.#trial.owe();
        return;
      }
      await this.#pause();
    }
    if (isSafeNext && isUp(this.#status)) flows.keeper.startSafely(false);
  }

  #faultSince({ state, crashes, hangs, restores, fault }: Status): string | null {
    const text = fault?.text ?? 'it is not known why';
    if (crashes > this.#from.crashes) return `the flows process ended unasked`;
    if (hangs > this.#from.hangs) return `the flows hang: ${text}`;
    if (restores > this.#from.restores) return `the flows before were put back: ${text}`;
    return state === 'stopped' || state === 'restoring' ? text : null;
  }

  #hasProved({ sinceMs, beats }: { sinceMs: number; beats: number }, { heartbeats }: Status): boolean {
    const { clock, goodAfterMs } = this.#options;
    return clock.nowMs() - sinceMs >= Math.min(PROOF_MS, goodAfterMs) && heartbeats - beats >= LEAST_BEATS;
  }

  #isOfTrial(now: FlowsAtRev): boolean {
    const { replaced } = this.#trial;
    return replaced !== null && isOfRelease(replaced, now);
  }

  async #now(): Promise<FlowsAtRev | null> {
    try {
      return await this.#options.flows.keeper.api.getFlows();
    } catch {
      return null;
    }
  }

  /** @throws AppError `flows-unreachable` */
  async #reached(signal: AbortSignal): Promise<FlowsAtRev> {
    const { clock } = this.#options;
    const until = clock.nowMs() + READY_WITHIN_MS;
    for (;;) {
      signal.throwIfAborted();
      const now = await this.#now();
      if (now !== null) return now;
      if (clock.nowMs() >= until) {
        throw new AppError('flows-unreachable', `the flows process was not there within ${READY_WITHIN_MS / 1000} s`);
      }
      await this.#pause();
    }
  }

  /** @throws AppError `flow-file-invalid` */
  async #flowsOf(slot: SlotName, read: typeof readFlows = readReleaseFlows): Promise<FlowNodes> {
    const { disk } = this.#options;
    const path = `${slot}/${FLOWS_IN_RELEASE}`;
    const isTooLarge = (await disk.readRange(path, MOST_FLOW_BYTES, 1)) !== null;
    const bytes = isTooLarge ? null : await disk.read(path);
    if (bytes === null) {
      const what = isTooLarge ? `has more than ${MOST_FLOW_BYTES} bytes` : 'is not in the release';
      throw new AppError('flow-file-invalid', `${FLOWS_IN_RELEASE} ${what}`);
    }
    return read(Buffer.from(bytes).toString(), FLOWS_IN_RELEASE);
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => this.#options.clock.after(LOOK_EVERY_MS, resolve));
  }
}

/** @param parts.flows undefined where the configuration has none */
export function flowsTarget({
  flows,
  config,
  ...rest
}: Omit<FlowsTargetOptions, 'flows' | 'goodAfterMs'> & {
  readonly flows: FlowsTargetOptions['flows'] | undefined;
  readonly config: Config;
}): ReleaseTarget | Untaken {
  if (flows === undefined) return { untaken: 'this station runs without flows (flows.enabled)' };
  return new FlowsTarget({ flows, goodAfterMs: config.flows.goodAfterMs, ...rest });
}

function isUp({ state }: Status): boolean {
  return state === 'running' || state === 'idle';
}
