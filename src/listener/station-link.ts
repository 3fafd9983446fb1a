import { LastingRpc } from '../adapters/sockets/lasting-rpc.js';
import { Backoff } from '../core/backoff.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { errorText } from '../core/errors.js';
import { LogRelay } from '../core/log-relay.js';
import type { LogTap } from '../core/log-tap.js';
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
  readonly #logger: Logger;
  readonly #link: LastingRpc<typeof inferenceRequests, typeof inferenceNotifications>;
  #report: InferenceReport;
  readonly #relay: LogRelay;
  #waiting = 0;

  /** @param options.onListen whether somebody wants decisions; nobody does while the station is away */
  constructor(options: {
    path: string;
    first: InferenceReport;
    logTap: LogTap;
    clock: Clock;
    logger: Logger;
    onListen: (on: boolean) => void;
    onRestart: () => void;
  }) {
    const { path, logTap, clock, logger, onListen, onRestart } = options;
    this.#logger = logger;
    this.#report = options.first;
    this.#link = new LastingRpc({
      path,
      requests: inferenceRequests,
      notifications: inferenceNotifications,
      timeoutMs: TIMEOUT_MS,
      backoff: new Backoff({ firstMs: 100, mostMs: 2_000 }),
      clock,
      onNotification: (name, params) => {
        if (!('on' in params)) onRestart();
        else if (name === 'log.follow') this.#relay.follow(params.on);
        else onListen(params.on);
      },
      onConnected: () => void this.#send(),
      onLost: () => {
        this.#relay.follow(false);
        onListen(false);
      },
    });
    // That lines were not taken would be a line again.
    const send = (lines: string[]) => void this.#link.current?.call('log.lines', { lines }).catch(() => {});
    this.#relay = new LogRelay({ tap: logTap, clock, send });
  }

  get report(): InferenceReport {
    return this.#report;
  }

  async say(change: Partial<InferenceReport>): Promise<void> {
    this.#report = { ...this.#report, ...change };
    await this.#send();
  }

  decided(decision: HeardDecision): void {
    const rpc = this.#link.current;
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
    await this.#link.current
      ?.call('inference.figures', figures)
      .catch((error: unknown) => this.#logger.debug({ error: errorText(error) }, 'figures were not taken'));
  }

  close(): void {
    this.#link.close();
    this.#relay.follow(false);
  }

  async #send(): Promise<void> {
    try {
      await this.#link.current?.call('inference.report', this.#report);
    } catch (error) {
      this.#logger.warn({ error: errorText(error) }, 'the station was not told what inference is');
    }
  }
}
