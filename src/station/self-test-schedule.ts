import type { Clock, Timer } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { SelfTestResult } from '../protocol/selftest.js';

const LOOK_EVERY_MS = 30_000;
/** In a call, or interrupted by one: it is tried again, so often. */
const MOST_TRIES = 10;
const HOUR_MS = 3_600_000;

export interface SelfTestTimes {
  /** `HH:MM`, by the machine's own clock. */
  readonly dailyAt?: string | undefined;
  readonly everyHours?: number | undefined;
}

export interface SelfTestScheduleOptions {
  readonly times: SelfTestTimes;
  readonly run: () => Promise<Pick<SelfTestResult, 'verdict'>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Runs the self-test at its times, and not in a call. A start after today's time waits for tomorrow's. */
export class SelfTestSchedule {
  readonly #options: SelfTestScheduleOptions;
  #timer: Timer | undefined;
  #lastMs: number;
  #lastDay: string;
  #tries = 0;
  #isRunning = false;

  constructor(options: SelfTestScheduleOptions) {
    const { times, clock } = options;
    this.#options = options;
    this.#lastMs = clock.nowMs();
    const now = new Date(clock.wallMs());
    this.#lastDay = isPast(times.dailyAt, now) ? dayOf(now) : '';
    if (times.dailyAt !== undefined || times.everyHours !== undefined) this.#later();
  }

  close(): void {
    this.#timer?.cancel();
  }

  #later(): void {
    this.#timer = this.#options.clock.after(LOOK_EVERY_MS, () => {
      this.#later();
      if (this.#isDue() && !this.#isRunning) void this.#try();
    });
  }

  #isDue(): boolean {
    const { times, clock } = this.#options;
    if (times.everyHours !== undefined) return clock.nowMs() - this.#lastMs >= times.everyHours * HOUR_MS;
    const now = new Date(clock.wallMs());
    return isPast(times.dailyAt, now) && this.#lastDay !== dayOf(now);
  }

  async #try(): Promise<void> {
    this.#isRunning = true;
    this.#tries += 1;
    const isDecided = await this.#options.run().then(
      ({ verdict }) => verdict !== 'undecided',
      (error: unknown) => {
        const isBusy = error instanceof AppError && error.code === 'line-busy';
        if (!isBusy) this.#options.logger.warn({ error: errorText(error) }, 'the self-test could not be run');
        return !isBusy;
      },
    );
    this.#isRunning = false;
    if (!isDecided && this.#tries < MOST_TRIES) return;
    const { clock } = this.#options;
    this.#tries = 0;
    this.#lastMs = clock.nowMs();
    this.#lastDay = dayOf(new Date(clock.wallMs()));
  }
}

function isPast(time: string | undefined, now: Date): boolean {
  const [hours = 0, minutes = 0] = (time ?? '').split(':').map(Number);
  return time !== undefined && now.getHours() * 60 + now.getMinutes() >= hours * 60 + minutes;
}

function dayOf(now: Date): string {
  return `${now.getFullYear()}-${now.getMonth()}-${now.getDate()}`;
}
