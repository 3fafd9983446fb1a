import { connectRpc, type RpcClient } from '../adapters/sockets/rpc.js';
import { Backoff } from '../core/backoff.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { HeardDecision, HearingFigures } from '../protocol/hearing.js';
import { type InferenceReport, inferenceNotifications, inferenceRequests } from '../protocol/inference-api.js';

const TIMEOUT_MS = 2_000;
/** Decisions that the station has not yet confirmed. */
const MOST_WAITING = 16;

/** Tells the station what inference is and what it hears; connects, and connects again, until `close()`. */
export class StationLink {
  /** Decisions that did not reach the station: `station-away`, `station-slow`, or its code of refusal. */
  readonly undelivered = new Counters<string>();
  readonly #options: {
    path: string;
    clock: Clock;
    logger: Logger;
    onListen: (on: boolean) => void;
    onRestart: () => void;
  };
  readonly #backoff = new Backoff({ firstMs: 100, mostMs: 2_000 });
  #report: InferenceReport;
  #rpc: RpcClient<typeof inferenceRequests> | undefined;
  #retry: Timer | undefined;
  #waiting = 0;
  #isClosed = false;

  /** @param options.onListen whether somebody wants decisions; nobody does while the station is away */
  constructor(options: {
    path: string;
    first: InferenceReport;
    clock: Clock;
    logger: Logger;
    onListen: (on: boolean) => void;
    onRestart: () => void;
  }) {
    this.#options = options;
    this.#report = options.first;
    void this.#connect();
  }

  get report(): InferenceReport {
    return this.#report;
  }

  async say(change: Partial<InferenceReport>): Promise<void> {
    this.#report = { ...this.#report, ...change };
    await this.#send();
  }

  decided(decision: HeardDecision): void {
    const rpc = this.#rpc;
    if (rpc === undefined || this.#waiting >= MOST_WAITING) {
      this.undelivered.count(rpc === undefined ? 'station-away' : 'station-slow');
      return;
    }
    this.#waiting += 1;
    rpc
      .call('inference.decided', decision)
      .catch((error: unknown) => this.undelivered.count((error as { code?: string }).code ?? 'failed'))
      .finally(() => {
        this.#waiting -= 1;
      });
  }

  async figures(figures: HearingFigures): Promise<void> {
    await this.#rpc
      ?.call('inference.figures', figures)
      .catch((error: unknown) => this.#options.logger.debug({ error: errorText(error) }, 'figures were not taken'));
  }

  close(): void {
    this.#isClosed = true;
    this.#retry?.cancel();
    this.#rpc?.close();
  }

  async #connect(): Promise<void> {
    try {
      const rpc = await connectRpc({
        path: this.#options.path,
        requests: inferenceRequests,
        notifications: inferenceNotifications,
        onNotification: (_name, params) => {
          if ('on' in params) this.#options.onListen(params.on);
          else this.#options.onRestart();
        },
        onClose: () => this.#lost(),
        timeoutMs: TIMEOUT_MS,
      });
      if (this.#isClosed) return rpc.close();
      this.#rpc = rpc;
      this.#backoff.reset();
    } catch {
      this.#tryLater();
      return;
    }
    await this.#send();
  }

  #lost(): void {
    this.#rpc = undefined;
    this.#options.onListen(false);
    this.#tryLater();
  }

  #tryLater(): void {
    if (this.#isClosed) return;
    this.#retry = this.#options.clock.after(this.#backoff.nextDelayMs(), () => void this.#connect());
  }

  async #send(): Promise<void> {
    try {
      await this.#rpc?.call('inference.report', this.#report);
    } catch (error) {
      this.#options.logger.warn({ error: errorText(error) }, 'the station was not told what inference is');
    }
  }
}
