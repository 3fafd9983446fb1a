import { connectRpc, type RpcClient } from '../adapters/sockets/rpc.js';
import { Backoff } from '../core/backoff.js';
import type { Clock, Timer } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { type FlowsReport, flowsRequests } from '../protocol/flows-api.js';

const TIMEOUT_MS = 2_000;

/** Tells the station how the flows process is: at once, on each change, and again whenever the station has restarted. */
export class StationReporter {
  readonly #options: { path: string; clock: Clock; logger: Logger; onToken: (adminToken: string) => void };
  readonly #backoff = new Backoff({ firstMs: 100, mostMs: 2_000 });
  #report: FlowsReport;
  #rpc: RpcClient<typeof flowsRequests> | undefined;
  #retry: Timer | undefined;
  #isClosed = false;

  constructor(options: {
    path: string;
    first: FlowsReport;
    clock: Clock;
    logger: Logger;
    /** What opens the Admin API to the station. */
    onToken: (adminToken: string) => void;
  }) {
    this.#options = options;
    this.#report = options.first;
    void this.#connect();
  }

  get report(): FlowsReport {
    return this.#report;
  }

  async say(change: Partial<FlowsReport>): Promise<void> {
    this.#report = { ...this.#report, ...change };
    await this.#send();
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
        requests: flowsRequests,
        notifications: {},
        onNotification: () => {},
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
    this.#tryLater();
  }

  #tryLater(): void {
    if (this.#isClosed) return;
    this.#retry = this.#options.clock.after(this.#backoff.nextDelayMs(), () => void this.#connect());
  }

  async #send(): Promise<void> {
    try {
      const answer = await this.#rpc?.call('flows.report', this.#report);
      if (answer !== undefined) this.#options.onToken(answer.adminToken);
    } catch (error) {
      this.#options.logger.warn({ error: errorText(error) }, 'the station was not told how the flows are');
    }
  }
}
