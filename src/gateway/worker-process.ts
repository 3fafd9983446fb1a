import { type ChildProcess, fork } from 'node:child_process';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { parseJson } from '../protocol/call-message.js';
import { type FromWorker, fromWorker, type ToWorker, type WorkerRequest } from '../protocol/gateway-worker.js';

const REQUEST_MS = 1_000;

export interface WorkerLimits {
  /** From its start until it says that it is ready. */
  readonly initMs: number;
  readonly pingEveryMs: number;
  /** A worker that doesn't answer for so long is ended. */
  readonly pongWithinMs: number;
  /** Of memory that it may hold. */
  readonly memoryBytes: number;
}

/** Why a worker is no more: its exit, or what it was ended for. */
export type WorkerEnd = 'init-deadline' | 'ping-lost' | 'memory-limit' | 'stopped' | `exit ${string}`;

export interface WorkerProcessOptions {
  /** Module to fork. */
  readonly program: string;
  /** Of its UDP ports. */
  readonly address: string;
  readonly limits: WorkerLimits;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly onReady: () => void;
  /** Once, and nothing after it. */
  readonly onEnd: (why: WorkerEnd) => void;
  readonly onMoved: (moved: Extract<FromWorker, { type: 'leg.moved' }>) => void;
}

interface Pending {
  readonly resolve: (answer: FromWorker) => void;
  readonly reject: (error: AppError) => void;
  readonly timer: Timer;
}

/** One run of a room worker, seen from the dispatcher, from its fork until its end. */
export class WorkerProcess {
  /** What it sent that is no message of a worker, or answers nothing that was asked. */
  readonly refused = new Counters<'malformed' | 'unasked'>();
  readonly #options: WorkerProcessOptions;
  readonly #child: ChildProcess;
  readonly #pending = new Map<number, Pending>();
  #nextRequest = 1;
  #isReady = false;
  #why: WorkerEnd | null = null;
  #deadline: Timer;
  #ping: Timer | null = null;
  #memoryRssBytes = 0;

  constructor(options: WorkerProcessOptions) {
    this.#options = options;
    const { program, clock, limits, address } = options;
    // A group of its own: a terminal's Ctrl-C is the dispatcher's to act upon.
    this.#child = fork(program, [], { detached: true, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#deadline = clock.after(limits.initMs, () => this.#end('init-deadline'));
    this.#child.on('message', (json) => this.#take(json));
    this.#child.on('error', (error) => {
      options.logger.error({ error: error.message }, 'a worker could not be started or told');
      if (this.#child.pid === undefined) this.#ended('exit not-started');
    });
    this.#child.once('exit', (code, signal) => this.#ended(`exit ${signal ?? code}`));
    this.#send({ type: 'init', address });
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  get isReady(): boolean {
    return this.#isReady && this.#why === null;
  }

  get memoryRssBytes(): number {
    return this.#memoryRssBytes;
  }

  /** @throws AppError what the worker says, `worker-gone`, `worker-late` (as a rejection) */
  ask(content: WorkerRequest): Promise<FromWorker> {
    if (this.#why !== null) return Promise.reject(gone());
    const request = this.#nextRequest++;
    return new Promise((resolve, reject) => {
      const timer = this.#options.clock.after(REQUEST_MS, () => {
        this.#pending.delete(request);
        reject(new AppError('worker-late', 'A worker did not answer in time'));
      });
      this.#pending.set(request, { resolve, reject, timer });
      this.#send({ ...content, request } as ToWorker);
    });
  }

  stop(): void {
    this.#end('stopped');
  }

  #send(message: ToWorker): void {
    if (this.#child.connected) this.#child.send(message, () => {});
  }

  #take(json: unknown): void {
    const parsed = parseJson(fromWorker, json);
    if (!parsed.ok) {
      this.refused.count('malformed');
      return;
    }
    const message = parsed.value;
    switch (message.type) {
      case 'ready':
        if (this.#isReady || this.#why !== null) return;
        this.#isReady = true;
        this.#keepAsking(0);
        this.#options.onReady();
        return;
      case 'pong':
        this.#memoryRssBytes = message.memoryRssBytes;
        if (message.memoryRssBytes > this.#options.limits.memoryBytes) this.#end('memory-limit');
        else this.#expectPong();
        return;
      case 'leg.moved':
        this.#options.onMoved(message);
        return;
      default: {
        const pending = this.#pending.get(message.request);
        if (pending === undefined) {
          this.refused.count('unasked');
          return;
        }
        this.#pending.delete(message.request);
        pending.timer.cancel();
        if (message.type === 'failed') pending.reject(new AppError(message.code, message.text));
        else pending.resolve(message);
      }
    }
  }

  #keepAsking(seq: number): void {
    if (seq === 0) this.#expectPong();
    this.#send({ type: 'ping', seq });
    this.#ping = this.#options.clock.after(this.#options.limits.pingEveryMs, () => this.#keepAsking(seq + 1));
  }

  #expectPong(): void {
    this.#deadline.cancel();
    this.#deadline = this.#options.clock.after(this.#options.limits.pongWithinMs, () => this.#end('ping-lost'));
  }

  /** SIGKILL: what hangs hears nothing else, and nothing that a worker holds outlives it. */
  #end(why: WorkerEnd): void {
    if (this.#why !== null) return;
    this.#why = why;
    this.#deadline.cancel();
    this.#ping?.cancel();
    this.#child.kill('SIGKILL');
  }

  #ended(how: WorkerEnd): void {
    const why = this.#why ?? how;
    this.#why = why;
    this.#deadline.cancel();
    this.#ping?.cancel();
    for (const { timer, reject } of this.#pending.values()) {
      timer.cancel();
      reject(gone());
    }
    this.#pending.clear();
    this.#options.onEnd(why);
  }
}

function gone(): AppError {
  return new AppError('worker-gone', 'The worker has ended');
}
