import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { FlowsService, PathChoice } from '../protocol/flows-api.js';
import type { CallControl } from './call-control.js';
import type { EngineClient } from './engine-client.js';

/** How long after one of a kind the next is refused: a flow that goes round in circles must cost a call nothing. */
const COOL_DOWN_MS = { limit: 1_000, path: 3_000, restart: 30_000, 'fall-back': 60_000 } as const;
type Kind = keyof typeof COOL_DOWN_MS;
type Nothing = Record<string, never>;

export interface MendingOptions {
  readonly calls: Pick<CallControl, 'current' | 'preferPath'>;
  readonly engine: Pick<EngineClient, 'limitSession' | 'restart'>;
  /** How other processes than media are restarted, of those that this station has. */
  readonly restarts?: Partial<Record<FlowsService, () => void | Promise<void>>>;
  /** Puts back the last good flows. @throws AppError `flows-same`, `flows-conflict`, `flows-unreachable` */
  readonly fallBack: () => Promise<void>;
  /** Keeps an event for the broker. */
  readonly note: (kind: string, body: object) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * What flows may do about a call that is heard badly, and about parts that don't work: less bits, another path, a restart of a
 * process that its supervisor starts again and that loses nothing by it, the last good flows. Each at its pace and no faster, in the
 * log, counted, and told to the broker (`up/evt/action`).
 */
export class Mending {
  /** What was done, by kind, and what was refused (`restart-too-soon`, `path-no-call`, …). */
  readonly counted = new Counters<string>();
  readonly #options: MendingOptions;
  readonly #lastMs = new Map<string, number>();

  constructor(options: MendingOptions) {
    this.#options = options;
  }

  /** The most that is sent in this call, headers and copies included. @throws AppError `no-call`, `too-soon` */
  limit(bitrateBps: number | null): Promise<{ readonly callId: string }> {
    return this.#act('limit', { bitrateBps }, async () => {
      const callId = this.#talking();
      await this.#options.engine.limitSession(callId, bitrateBps);
      return { callId };
    });
  }

  /** Keeps this call to a path, at both ends, or lets it find its own. @throws AppError `no-call`, `path-unavailable`, `too-soon` */
  path(path: PathChoice): Promise<{ readonly callId: string }> {
    return this.#act('path', { path }, async () => ({ callId: this.#options.calls.preferPath(path) }));
  }

  /** @throws AppError `service-absent`, `too-soon`, and what stands in the way */
  restart(service: FlowsService): Promise<Nothing> {
    const { engine, restarts } = this.#options;
    const doIt = service === 'media' ? () => engine.restart() : restarts?.[service];
    return this.#act('restart', { service }, async () => {
      if (doIt === undefined) throw new AppError('service-absent', `this station has no ${service} process`);
      await doIt();
      return {};
    });
  }

  /** @throws AppError `too-soon`, and what `fallBack` says */
  fallBack(): Promise<Nothing> {
    return this.#act('fall-back', {}, async () => {
      await this.#options.fallBack();
      return {};
    });
  }

  /** @returns the call's id @throws AppError `no-call` */
  #talking(): string {
    const call = this.#options.calls.current;
    if (call?.state === 'answered') return call.callId;
    throw new AppError('no-call', 'there is no answered call at this station');
  }

  async #act<T extends object>(kind: Kind, what: Record<string, unknown>, step: () => Promise<T>): Promise<T> {
    const { clock, logger, note } = this.#options;
    const name = kind === 'restart' ? `${kind}-${what.service}` : kind;
    const nowMs = clock.nowMs();
    const before = this.#lastMs.get(name);
    try {
      this.#mayNow(name, kind, nowMs);
      // Before it is done: while it is, another must not begin.
      this.#lastMs.set(name, nowMs);
      const result = await step();
      this.counted.count(name);
      logger.warn({ action: name, ...what, ...result, by: 'flows' }, 'flows have done something about a fault');
      note('action', { action: kind, ...what, ...result, by: 'flows' });
      return result;
    } catch (error) {
      const code = error instanceof AppError ? error.code : 'failed';
      this.counted.count(`${name}-${code}`);
      // What was not done needs no rest after it.
      if (code !== 'too-soon') {
        if (before === undefined) this.#lastMs.delete(name);
        else this.#lastMs.set(name, before);
      }
      logger.debug({ action: name, error: errorText(error) }, 'an action of flows was refused');
      throw error;
    }
  }

  #mayNow(name: string, kind: Kind, nowMs: number): void {
    const restMs = (this.#lastMs.get(name) ?? Number.NEGATIVE_INFINITY) + COOL_DOWN_MS[kind] - nowMs;
    if (restMs <= 0) return;
    throw new AppError('too-soon', `${name} was done less than ${COOL_DOWN_MS[kind] / 1_000} s ago`, {
      remedy: `It may be done again in ${Math.ceil(restMs / 1_000)} s`,
    });
  }
}
