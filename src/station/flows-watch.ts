import type { Clock, Timer } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { type FlowsReport, HEARTBEAT_MS } from '../protocol/flows-api.js';

export type FlowsState = 'absent' | 'starting' | 'running' | 'idle' | 'hung' | 'stopped' | 'restoring';

export interface FlowsFault {
  readonly code: string;
  readonly text: string;
}

export interface FlowsStatus {
  readonly state: FlowsState;
  readonly isSafeMode: boolean;
  /** Why it is not as it should be, or why it last was not. */
  readonly fault: FlowsFault | null;
  readonly rev: string | null;
  readonly pid: number | null;
  readonly url: string | null;
  /** Times that it ended unasked, that it was found hung, that the last good flows were put back. */
  readonly crashes: number;
  readonly hangs: number;
  readonly restores: number;
}

/** What the watch has done for it. */
export interface FlowsCare {
  /** Asks the supervisor: SIGTERM, SIGKILL when it is deaf, and a new start. */
  askRestart(reason: string): void;
  /** Whether the next start is one in safe mode: editor and Admin API, but no flow runs. */
  startSafely(isSafe: boolean): void;
  /** Keeps what runs now as the last good flows. */
  keepGood(): Promise<void>;
  /** Deploys the last good flows in the place of those that are there. @throws AppError `flows-same`, `flows-conflict`, … */
  restoreGood(): Promise<void>;
  /** Whether the flows that are deployed have a config node, which would say heartbeats. */
  expectsHeartbeat(): Promise<boolean>;
  /** Flows crashed or hang: what they had taken on is not done by them. */
  brokeDown(): void;
}

const TICK_MS = 500;
/** Three heartbeats, and what a busy machine may be late by. */
export const HUNG_AFTER_MS = 3 * HEARTBEAT_MS + 500;
/** How long after `running` the first heartbeat may take. */
export const FIRST_BEAT_MS = 4_000;
const START_MS = 90_000;
const IGNORED_PRESSES = 2;
const FALLS = 3;
const FALLS_WITHIN_MS = 60_000;
const SETTLE_MS = 1_000;
/** Flows that fell though they were good are tried again so much later: what made them fall may have passed. */
const SAFE_MODE_MS = 600_000;
const RETRY_MS = 10_000;

/**
 * Watches the flows process, and gets flows running again, a rung at a time:
 *
 *   hangs (no heartbeat, presses ignored) ─▶ the supervisor restarts it
 *   crashes                               ─▶ the supervisor has restarted it already
 *   three of these in a minute            ─▶ it starts in safe mode ─┐
 *   does not run what it was given        ───────────────────────────┴─▶ the last good flows are deployed
 *   and those don't run either            ─▶ it stays as it is, for the installer; presses do what is configured;
 *                                            out of safe mode it is tried again after ten minutes
 */
export class FlowsWatch {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #goodAfterMs: number;
  readonly #care: FlowsCare;
  readonly #onChange: (status: FlowsStatus) => void;
  #status: FlowsStatus = {
    state: 'absent',
    isSafeMode: false,
    fault: null,
    rev: null,
    pid: null,
    url: null,
    crashes: 0,
    hangs: 0,
    restores: 0,
  };
  #isEnding = false;
  #falls: number[] = [];
  #sinceMs: number;
  #beatAtMs: number | undefined;
  #goodSinceMs: number | undefined;
  #isKept = false;
  #isAsking = false;
  #tickAtMs: number;
  #tick: Timer;
  #settle: Timer | undefined;

  constructor(options: {
    clock: Clock;
    logger: Logger;
    goodAfterMs: number;
    care: FlowsCare;
    onChange: (status: FlowsStatus) => void;
  }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#goodAfterMs = options.goodAfterMs;
    this.#care = options.care;
    this.#onChange = options.onChange;
    this.#sinceMs = this.#tickAtMs = this.#clock.nowMs();
    this.#tick = this.#nextTick();
  }

  get status(): FlowsStatus {
    return this.#status;
  }

  /** The process has said how it is. */
  reported(report: FlowsReport): void {
    const { pid, url, rev, isSafeMode, fault } = report;
    const isOther = rev !== this.#status.rev || pid !== this.#status.pid;
    this.#isEnding = report.state === 'ending';
    this.#settle?.cancel();
    if (isOther) this.#isKept = false;
    this.#goodSinceMs = undefined;
    if (report.state === 'starting') {
      this.#beatAtMs = undefined;
      if (isSafeMode) this.#care.startSafely(false);
    }
    if (report.state === 'stopped') {
      this.#is('stopped', { pid, url, rev, isSafeMode, fault });
      this.#settle = this.#clock.after(SETTLE_MS, () => void this.#restore());
      return;
    }
    const state = report.state === 'ending' ? this.#status.state : report.state;
    this.#is(state, { pid, url, rev, isSafeMode });
  }

  /** Its connection has ended. */
  lost(): void {
    this.#settle?.cancel();
    const wasAsked = this.#isEnding || this.#status.state === 'hung';
    this.#beatAtMs = undefined;
    if (!wasAsked) {
      this.#logger.warn({ pid: this.#status.pid }, 'the flows process ended unasked');
      this.#is('absent', { crashes: this.#status.crashes + 1, fault: { code: 'crashed', text: 'it ended unasked' } });
      this.#fell();
    } else {
      this.#is('absent', {});
    }
  }

  /** A config node's heartbeat. */
  beat(): void {
    this.#beatAtMs = this.#clock.nowMs();
    if (this.#status.state !== 'running' && this.#status.state !== 'idle') return;
    this.#goodSinceMs ??= this.#beatAtMs;
    if (this.#status.state === 'idle') this.#is('running', {});
  }

  /** The last config node has closed its connection: a deployment is under way, or flows are without one now. */
  nodeGone(): void {
    this.#beatAtMs = undefined;
    this.#goodSinceMs = undefined;
    this.#sinceMs = this.#clock.nowMs();
  }

  /** The last good flows were put back at the wish of those that ran. */
  fellBack(): void {
    this.#is(this.#state(), {
      restores: this.#status.restores + 1,
      fault: { code: 'fell-back', text: 'flows asked for the last good ones' },
    });
    this.#logger.warn({}, 'the last good flows were put back, as flows asked');
  }

  pressesIgnored(inARow: number): void {
    if (inARow >= IGNORED_PRESSES) this.#hangs(`${inARow} presses in a row were not acknowledged`);
  }

  close(): void {
    this.#tick.cancel();
    this.#settle?.cancel();
  }

  #nextTick(): Timer {
    return this.#clock.after(TICK_MS, () => {
      const nowMs = this.#clock.nowMs();
      // Who was not running himself has heard no heartbeats either.
      const wasAway = nowMs - this.#tickAtMs > 2 * TICK_MS;
      this.#tickAtMs = nowMs;
      if (wasAway && this.#beatAtMs !== undefined) this.#beatAtMs = nowMs;
      else this.#look(nowMs);
      this.#tick = this.#nextTick();
    });
  }

  #look(nowMs: number): void {
    const { state } = this.#status;
    if (state === 'starting' && nowMs - this.#sinceMs > START_MS) this.#hangs('its start does not end');
    if (state !== 'running') return;
    if (this.#beatAtMs === undefined) {
      if (nowMs - this.#sinceMs > FIRST_BEAT_MS) void this.#missBeats();
    } else if (nowMs - this.#beatAtMs > HUNG_AFTER_MS) {
      this.#hangs(`no heartbeat for ${Math.round(nowMs - this.#beatAtMs)} ms`);
    } else if (!this.#isKept && nowMs - (this.#goodSinceMs ?? nowMs) >= this.#goodAfterMs) {
      this.#isKept = true;
      this.#keep();
    }
  }

  #keep(): void {
    this.#care.keepGood().then(
      () => this.#logger.info({ rev: this.#status.rev }, 'these flows are kept as the last good ones'),
      (error: unknown) => {
        this.#isKept = false;
        this.#goodSinceMs = this.#clock.nowMs();
        this.#logger.warn({ error: errorText(error) }, 'good flows could not be kept; tried again');
      },
    );
  }

  /** Running without heartbeats: hung, unless there is nothing that would say them. */
  async #missBeats(): Promise<void> {
    if (this.#isAsking) return;
    this.#isAsking = true;
    const expected = await this.#care.expectsHeartbeat().catch(() => true);
    this.#isAsking = false;
    if (this.#status.state !== 'running' || this.#beatAtMs !== undefined) return;
    if (expected) this.#hangs('no heartbeat since it runs');
    else this.#is('idle', { fault: { code: 'no-config-node', text: 'no flow has an entryphone-station node' } });
  }

  #hangs(text: string): void {
    if (this.#status.state === 'hung' || this.#status.state === 'absent') return;
    this.#logger.error({ pid: this.#status.pid, text }, 'the flows hang; they are restarted');
    this.#is('hung', { hangs: this.#status.hangs + 1, fault: { code: 'hung', text } });
    this.#fell();
    this.#care.askRestart(text);
  }

  #fell(): void {
    const nowMs = this.#clock.nowMs();
    this.#care.brokeDown();
    this.#falls = [...this.#falls.filter((atMs) => nowMs - atMs < FALLS_WITHIN_MS), nowMs];
    if (this.#falls.length < FALLS) return;
    this.#logger.error({ falls: this.#falls.length }, 'the flows broke down again and again; next in safe mode');
    this.#falls = [];
    this.#care.startSafely(true);
  }

  async #restore(): Promise<void> {
    if (this.#status.state !== 'stopped') return;
    const { fault } = this.#status;
    this.#is('restoring', {});
    try {
      await this.#care.restoreGood();
    } catch (error) {
      this.#logger.error({ error: errorText(error) }, 'the last good flows could not be put back');
      if (this.#state() !== 'restoring') return;
      this.#is('stopped', { fault });
      this.#afterFailure(error instanceof AppError ? error.code : '');
      return;
    }
    this.#falls = [];
    this.#is(this.#state(), { restores: this.#status.restores + 1, fault });
    this.#logger.warn({ fault }, 'the last good flows were put back');
  }

  #afterFailure(code: string): void {
    // Whoever has deployed since, it is theirs now.
    if (code === 'flows-conflict') return;
    if (code !== 'flows-same') this.#settle = this.#clock.after(RETRY_MS, () => void this.#restore());
    else if (this.#status.isSafeMode) {
      this.#settle = this.#clock.after(SAFE_MODE_MS, () => this.#care.askRestart('once more out of safe mode'));
    }
  }

  /** Read anew: it may have changed while something was awaited. */
  #state(): FlowsState {
    return this.#status.state;
  }

  #is(state: FlowsState, more: Partial<FlowsStatus>): void {
    if (state !== this.#status.state) this.#sinceMs = this.#clock.nowMs();
    this.#status = { ...this.#status, ...more, state };
    this.#onChange(this.#status);
  }
}
