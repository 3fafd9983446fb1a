import { basename, join } from 'node:path';
import type { Notifier } from '../adapters/supervisor/notify.js';
import type { Board, Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { Architecture } from '../fleet/manifest.js';
import type { Proof, Restarted } from '../fleet/update-plan.js';
import type { SelfTestName, SelfTestResult } from '../protocol/selftest.js';
import type { UpdateStation } from '../update/step-context.js';
import { askByFile } from './ask-by-file.js';

/**
 * In the `run` folder, unless the unit names another file. Written with the reason: all processes of the station are to be restarted, into
 * what `current` names now.
 */
export const UPDATE_RESTART_FILE = 'ask/update-restart';

/** A process that is not up. */
export interface Lacking {
  /** In words. */
  readonly text: string;
  /** How long a release on trial may lack it. */
  readonly withinMs: number;
}

export interface UpdatedStationOptions {
  readonly config: Config;
  readonly board: Board;
  readonly firmware: string;
  /** What would be disturbed, in words; null: nothing. */
  readonly noise: () => string | null;
  /** Which process is not up that should be; null: all are. */
  readonly lacks: () => Promise<Lacking | null>;
  readonly isOnBroker: () => boolean;
  readonly selfTest: () => Promise<SelfTestResult>;
  readonly notify: Pick<Notifier, 'restart'>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** From when all were ready. */
const STAYS_MS = 5_000;
const BROKER_WITHIN_MS = 60_000;
const LOOK_EVERY_MS = 250;
/** A visitor who calls in the middle of it comes first; it is tried again. */
const SELF_TEST_TRIES = 5;
const SELF_TEST_AGAIN_MS = 5_000;
/** What a busy board or line does for a moment, as well as a bad release for good: only the last of these tries is its verdict. */
const MAY_PASS_BY: ReadonlySet<string> = new Set(['poor', 'distorted']);
const VERDICT_TRIES = 3;
/** For the answer of a last request, and the word of the job, to leave. */
const LAST_WORDS_MS = 300;

/** Which checks of the self-test stand for a proof. */
const CHECKS_OF: Readonly<Record<'self-test' | 'test-call', readonly SelfTestName[]>> = {
  'self-test': ['sound'],
  'test-call': ['call'],
};

/** What an update sees of the station that it changes, and asks of it, whatever kind the release is of. */
export class UpdatedStation implements UpdateStation {
  readonly facts: UpdateStation['facts'];
  readonly #options: UpdatedStationOptions;
  /** One run of it stands for both of its proofs. */
  #tested: SelfTestResult | null = null;
  #readyAtMs = 0;

  constructor(options: UpdatedStationOptions) {
    const { config, board, firmware } = options;
    this.#options = options;
    this.facts = {
      architecture: process.arch as Exclude<Architecture, 'any'>,
      // An installed one is called board.yaml, whatever board it is.
      board: board.profile ?? basename(config.board).replace(/\.yaml$/, ''),
      nodeAbi: Number(process.versions.modules),
      firmware,
    };
  }

  async isReady(): Promise<boolean> {
    return (await this.#options.lacks()) === null;
  }

  noise(): string | null {
    return this.#options.noise();
  }

  async untilQuiet(signal: AbortSignal): Promise<void> {
    await this.#until(() => this.noise() === null, signal);
  }

  /** Orders the supervisor. Where everything is restarted, this process ends before long. */
  async restart(what: Restarted): Promise<void> {
    const { config, notify, clock, logger } = this.#options;
    await new Promise<void>((resolve) => clock.after(LAST_WORDS_MS, resolve));
    logger.warn({ what }, 'the processes are restarted into another release');
    // Units are not updated with the release: where theirs is looked for, they say.
    askByFile(process.env.ENTRYPHONE_UPDATE_RESTART ?? join(config.run, UPDATE_RESTART_FILE), `${what}\n`);
    notify.restart(what, 'update');
  }

  /** @returns what is wrong, in words; null where nothing is */
  async prove(proof: Proof, signal: AbortSignal): Promise<string | null> {
    const { isOnBroker, config } = this.#options;
    switch (proof) {
      case 'processes-ready':
      case 'flows-run':
      case 'inference-ready':
        return this.#ready(signal);
      case 'broker-reached':
        return (await this.#until(isOnBroker, signal, BROKER_WITHIN_MS)) ? null : 'the broker was not reached';
      case 'self-test':
        return config.update.needsSelfTest ? this.#selfTest(CHECKS_OF[proof], signal) : null;
      case 'test-call': {
        const fault = config.update.needsSelfTest ? await this.#selfTest(CHECKS_OF[proof], signal) : null;
        return fault ?? this.#staysReady(signal);
      }
    }
  }

  async #ready(signal: AbortSignal): Promise<string | null> {
    const { clock, lacks } = this.#options;
    const sinceMs = clock.nowMs();
    for (;;) {
      signal.throwIfAborted();
      const lacking = await lacks();
      this.#readyAtMs = clock.nowMs();
      if (lacking === null) return null;
      if (this.#readyAtMs - sinceMs >= lacking.withinMs) return `not all processes became ready: ${lacking.text}`;
      await new Promise<void>((resolve) => clock.after(LOOK_EVERY_MS, resolve));
    }
  }

  /** The last proof. A process that ends again and again is there between two starts. */
  async #staysReady(signal: AbortSignal): Promise<string | null> {
    const { clock, lacks } = this.#options;
    for (;;) {
      const lacking = await lacks();
      if (lacking !== null) return `not all processes stayed up: ${lacking.text}`;
      if (clock.nowMs() - this.#readyAtMs >= STAYS_MS) return null;
      await new Promise<void>((resolve) => clock.after(LOOK_EVERY_MS, resolve));
      signal.throwIfAborted();
    }
  }

  async #selfTest(needed: readonly SelfTestName[], signal: AbortSignal): Promise<string | null> {
    for (let tries = 1; ; tries++) {
      signal.throwIfAborted();
      this.#tested ??= await this.#options.selfTest().catch((error: unknown) => {
        this.#options.logger.warn({ error: errorText(error) }, 'the self-test could not be begun');
        return null;
      });
      const checks = this.#tested?.checks.filter(({ name }) => needed.includes(name)) ?? [];
      const failed = checks.find(({ outcome }) => outcome === 'fail');
      const mayPassBy = failed !== undefined && MAY_PASS_BY.has(failed.reason) && tries < VERDICT_TRIES;
      if (failed !== undefined && !mayPassBy) return `self-test, ${failed.name}: ${failed.reason} (${failed.text})`;
      if (mayPassBy) this.#options.logger.warn({ ...failed }, 'a check of the self-test is made again');
      if (checks.length > 0 && checks.every(({ outcome }) => outcome === 'pass')) return null;
      if (tries === SELF_TEST_TRIES) return 'the self-test was not passed: it was interrupted again and again';
      this.#tested = null;
      await new Promise<void>((resolve) => this.#options.clock.after(SELF_TEST_AGAIN_MS, resolve));
    }
  }

  /** @returns whether it came true; without a limit it does, or the signal's reason is thrown */
  async #until(
    what: () => boolean | Promise<boolean>,
    signal: AbortSignal,
    withinMs = Number.POSITIVE_INFINITY,
  ): Promise<boolean> {
    const { clock } = this.#options;
    const until = clock.nowMs() + withinMs;
    for (;;) {
      signal.throwIfAborted();
      if (await what()) return true;
      if (clock.nowMs() >= until) return false;
      await new Promise<void>((resolve) => clock.after(LOOK_EVERY_MS, resolve));
    }
  }
}
