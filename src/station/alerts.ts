import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import type { AlertBody } from '../protocol/alert.js';

const MOST = 12;
const PER_MS = 60_000;

/** What flows report to the broker, by the outbox: kept on disk until it is there. Not without bound: a flow that goes round in circles floods nobody. */
export class Alerts {
  /** `raised`, `too-many-alerts`, `alert-not-kept` */
  readonly counted = new Counters<string>();
  readonly #keep: (body: AlertBody) => string | null;
  readonly #logger: Logger;
  readonly #rate: RateLimit;

  /** @param options.keep into the outbox @returns the event's id; null where it could not be kept */
  constructor(options: { keep: (body: AlertBody) => string | null; clock: Clock; logger: Logger }) {
    this.#keep = options.keep;
    this.#logger = options.logger;
    this.#rate = new RateLimit({ most: MOST, perMs: PER_MS, clock: options.clock });
  }

  /**
   * @returns the event's id
   * @throws AppError `too-many-alerts`, `alert-not-kept`, `bad-event`
   */
  raise(alert: AlertBody): string {
    if (this.#rate.admit() === undefined) {
      throw this.#refused('too-many-alerts', `more than ${MOST} alerts in a minute`, 'Give the flow a cool-down');
    }
    const id = this.#keep(alert);
    if (id === null) throw this.#refused('alert-not-kept', 'the outbox takes nothing', 'See the disk, and the log');
    this.counted.count('raised');
    const { kind, detection, clip } = alert;
    this.#logger.info({ alert: kind, label: detection?.label, clip: clip !== undefined }, 'flows raise an alert');
    return id;
  }

  #refused(code: string, message: string, remedy: string): AppError {
    this.counted.count(code);
    return new AppError(code, message, { remedy });
  }
}
