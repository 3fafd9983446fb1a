import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter } from 'node:events';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { notice } from './notify.js';

/** One process to keep alive; what a systemd unit says in its [Service] section. */
export interface ServiceSpec {
  readonly name: string;
  /** Program and arguments. */
  readonly command: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** TimeoutStartSec=: `ready` must come within it. */
  readonly startTimeoutMs: number;
  /** WatchdogSec=: ended by SIGKILL when no `watchdog` came for so long; undefined: not watched. */
  readonly watchdogMs?: number;
  /** TimeoutStopSec=: from SIGTERM to SIGKILL. */
  readonly stopTimeoutMs: number;
  /** ExecStartPre= and ExecStopPost=: run before each start and after each end, for whatever reason it ended. */
  readonly makeSafe?: readonly string[];
}

export interface ServiceEvents {
  ready: [];
  exited: [reason: string];
  status: [text: string];
  /** This process asks for another to be restarted. */
  restart: [service: string, reason: string];
}

/** What the supervisor's child said on its stderr and stdout goes here, line by line unchanged. */
export type OutputSink = (chunk: Buffer) => void;

/** A timer that is so late tells of its own process, not of the one that is watched. */
const AWAY_MS = 250;

/**
 * Keeps one process alive in the foreground, as systemd does on a board: start deadline, watchdog, restart with backoff,
 * and `makeSafe` around every run.
 *
 *   stopped ─start→ safe ─→ starting ─ready→ running ─exit│watchdog→ safe ─backoff→ starting …
 */
export class Service extends EventEmitter<ServiceEvents> {
  readonly spec: ServiceSpec;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #output: OutputSink;
  readonly #backoff = new Backoff({ firstMs: 100, mostMs: 5_000 });
  #child: ChildProcess | undefined;
  #ready = false;
  #stopping = false;
  #deadline: Timer | undefined;
  #restart: Timer | undefined;
  #settled: Promise<void> = Promise.resolve();
  #restarts = 0;

  constructor(options: { spec: ServiceSpec; clock: Clock; logger: Logger; output: OutputSink }) {
    super();
    this.spec = options.spec;
    this.#clock = options.clock;
    this.#logger = options.logger.child({ service: options.spec.name });
    this.#output = options.output;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  get isReady(): boolean {
    return this.#ready;
  }

  get restarts(): number {
    return this.#restarts;
  }

  /**
   * Starts it and keeps it. Resolves at its first `ready`.
   * @throws AppError `service-failed` when it does not become ready within `startTimeoutMs`, restarts included, or ends
   *   with exit code 2 (a configuration that is wrong stays wrong); it is stopped then. `service-stopped` when `stop` was
   *   called meanwhile
   */
  async start(): Promise<void> {
    this.#stopping = false;
    this.#settled = this.#makeSafe();
    await this.#settled;
    if (this.#stopping) throw this.#stopped();
    let giveUp: Timer | undefined;
    let exited: (reason: string) => void = () => {};
    const started = new Promise<void>((resolve, reject) => {
      exited = (reason) => {
        if (this.#stopping) reject(this.#stopped());
        else if (reason === 'exit code 2') reject(this.#failed('ended with exit code 2; its lines above say why'));
      };
      this.once('ready', resolve);
      this.on('exited', exited);
      giveUp = this.#clock.after(this.spec.startTimeoutMs, () =>
        reject(this.#failed(`was not ready within ${this.spec.startTimeoutMs} ms`)),
      );
    });
    this.#spawn();
    try {
      await started;
    } catch (error) {
      await this.stop();
      throw error;
    } finally {
      giveUp?.cancel();
      this.off('exited', exited);
    }
  }

  /** SIGTERM, then SIGKILL after `timeoutMs`; resolves when it has ended and is made safe. */
  async stop(timeoutMs = this.spec.stopTimeoutMs): Promise<void> {
    this.#stopping = true;
    this.#restart?.cancel();
    await this.#end(timeoutMs);
    await this.#settled;
  }

  /** Ends what runs now, as `stop` does, and starts it anew. One that is not running is about to start anyway. */
  async restart(reason: string): Promise<void> {
    if (this.#stopping || this.#child === undefined) return;
    this.#logger.warn({ reason }, 'restarted');
    await this.#end(this.spec.stopTimeoutMs);
  }

  async #end(timeoutMs: number): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    child.kill('SIGTERM');
    const kill = this.#clock.after(timeoutMs, () => {
      this.#logger.warn({}, `did not end within ${timeoutMs} ms of SIGTERM: SIGKILL`);
      child.kill('SIGKILL');
    });
    await new Promise<void>((resolve) => {
      if (child.exitCode !== null || child.signalCode !== null) resolve();
      else child.once('exit', () => resolve());
    });
    kill.cancel();
  }

  #spawn(): void {
    const [program = '', ...args] = this.spec.command;
    const child = spawn(program, args, {
      env: { ...process.env, ...this.spec.env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // A group of its own: a terminal's Ctrl-C reaches the supervisor alone, which then ends its children in order.
      detached: true,
    });
    this.#child = child;
    child.stdout?.on('data', this.#output);
    child.stderr?.on('data', this.#output);
    child.on('message', (message) => this.#heard(message, child));
    child.on('error', (error) => {
      this.#logger.error({ error: error.message }, `${program} can't be started`);
      if (child.pid === undefined) this.#ended('not started');
    });
    child.once('exit', (code, signal) => this.#ended(signal === null ? `exit code ${code}` : signal));
    this.#expectWithin(child, this.spec.startTimeoutMs, 'was not ready');
  }

  #heard(message: unknown, child: ChildProcess): void {
    const parsed = notice.safeParse(message);
    if (!parsed.success || child !== this.#child) return;
    if (parsed.data.notice === 'status') {
      this.emit('status', parsed.data.text);
      return;
    }
    if (parsed.data.notice === 'restart') {
      this.emit('restart', parsed.data.service, parsed.data.reason);
      return;
    }
    if (parsed.data.notice === 'ready' && !this.#ready) {
      this.#ready = true;
      this.#backoff.reset();
      this.emit('ready');
    }
    if (!this.#ready) return;
    this.#deadline?.cancel();
    if (this.spec.watchdogMs !== undefined) this.#expectWithin(child, this.spec.watchdogMs, 'gave no sign of life');
  }

  #expectWithin(child: ChildProcess, withinMs: number, fault: string): void {
    this.#deadline?.cancel();
    const dueMs = this.#clock.nowMs() + withinMs;
    this.#deadline = this.#clock.after(withinMs, () => {
      // A supervisor that was away itself has signs of life to read yet.
      if (this.#clock.nowMs() - dueMs > AWAY_MS) {
        this.#expectWithin(child, withinMs, fault);
        return;
      }
      this.#logger.error({ pid: child.pid }, `${fault} for ${withinMs} ms: SIGKILL`);
      child.kill('SIGKILL');
    });
  }

  #ended(reason: string): void {
    this.#deadline?.cancel();
    this.#child = undefined;
    this.#ready = false;
    this.emit('exited', reason);
    if (!this.#stopping) this.#logger.warn({ reason }, 'ended unasked');
    this.#settled = this.#makeSafe();
    if (this.#stopping) return;
    const delayMs = this.#backoff.nextDelayMs();
    this.#restart = this.#clock.after(delayMs, () => {
      void this.#settled.then(() => {
        if (this.#stopping) return;
        this.#restarts += 1;
        this.#spawn();
      });
    });
  }

  #stopped(): AppError {
    return new AppError('service-stopped', `${this.spec.name} was stopped before it was ready`);
  }

  #failed(text: string): AppError {
    return new AppError('service-failed', `${this.spec.name} ${text}`);
  }

  async #makeSafe(): Promise<void> {
    const [program, ...args] = this.spec.makeSafe ?? [];
    if (program === undefined) return;
    await new Promise<void>((resolve) => {
      const child = spawn(program, args, {
        env: { ...process.env, ...this.spec.env },
        stdio: ['ignore', 'pipe', 'pipe'],
        detached: true,
      });
      child.stdout.on('data', this.#output);
      child.stderr.on('data', this.#output);
      child.on('error', (error) => {
        this.#logger.error({ error: error.message }, `${program} can't be started`);
        resolve();
      });
      child.once('exit', (code) => {
        if (code !== 0) this.#logger.error({ code }, 'could not be made safe');
        resolve();
      });
    });
  }
}
