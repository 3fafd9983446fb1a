import { LastingRpc } from '../adapters/sockets/lasting-rpc.js';
import { Backoff } from '../core/backoff.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import { LogRelay } from '../core/log-relay.js';
import type { LogTap } from '../core/log-tap.js';
import type { Logger } from '../core/logger.js';
import { type FlowsReport, flowsNotifications, flowsRequests } from '../protocol/flows-api.js';

const TIMEOUT_MS = 2_000;

/** Tells the station how the flows process is: at once, on each change, and again whenever the station has restarted. */
export class StationReporter {
  readonly #options: { logger: Logger; onToken: (adminToken: string) => void };
  readonly #link: LastingRpc<typeof flowsRequests, Pick<typeof flowsNotifications, 'log.follow'>>;
  readonly #relay: LogRelay;
  #report: FlowsReport;

  constructor(options: {
    path: string;
    first: FlowsReport;
    logTap: LogTap;
    clock: Clock;
    logger: Logger;
    /** What opens the Admin API to the station. */
    onToken: (adminToken: string) => void;
  }) {
    this.#options = options;
    this.#report = options.first;
    this.#link = new LastingRpc({
      path: options.path,
      requests: flowsRequests,
      notifications: { 'log.follow': flowsNotifications['log.follow'] },
      timeoutMs: TIMEOUT_MS,
      backoff: new Backoff({ firstMs: 100, mostMs: 2_000 }),
      clock: options.clock,
      onNotification: (_name, { on }) => this.#relay.follow(on),
      onConnected: () => void this.#send(),
      onLost: () => this.#relay.follow(false),
    });
    // That lines were not taken would be a line again.
    const send = (lines: string[]) => void this.#link.current?.call('log.lines', { lines }).catch(() => {});
    this.#relay = new LogRelay({ tap: options.logTap, clock: options.clock, send });
  }

  get report(): FlowsReport {
    return this.#report;
  }

  async say(change: Partial<FlowsReport>): Promise<void> {
    this.#report = { ...this.#report, ...change };
    await this.#send();
  }

  close(): void {
    this.#link.close();
    this.#relay.follow(false);
  }

  async #send(): Promise<void> {
    try {
      const answer = await this.#link.current?.call('flows.report', this.#report);
      if (answer !== undefined) this.#options.onToken(answer.adminToken);
    } catch (error) {
      this.#options.logger.warn({ error: errorText(error) }, 'the station was not told how the flows are');
    }
  }
}
