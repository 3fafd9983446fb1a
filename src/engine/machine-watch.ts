import type { PeriodMs } from '../audio/ports.js';
import type { Clock, Timer } from '../core/clock.js';
import type { Logger } from '../core/logger.js';
import { LocalLadder, type LocalStep } from '../quality/local-ladder.js';

const LOOK_EVERY_MS = 1_000;

export interface MachineWatchOptions {
  readonly clock: Clock;
  readonly logger: Logger;
  /** As configured. */
  readonly complexity: number;
  readonly capturePeriodMs: PeriodMs;
  /** Of the session that encodes slowest; null while none does. */
  encoding(): { readonly encodeMs: number; readonly packetTimeMs: number } | null;
  /** Buffers of both cards that ran over or dry, since the start. */
  xruns(): number;
  bear(step: LocalStep): void;
}

/** Looks once a second whether this machine keeps up with its calls, and makes them cheaper where it does not. */
export class MachineWatch {
  readonly #options: MachineWatchOptions;
  readonly #ladder: LocalLadder;
  #timer: Timer;

  constructor(options: MachineWatchOptions) {
    this.#options = options;
    const { complexity, capturePeriodMs, clock } = options;
    this.#ladder = new LocalLadder({ complexity, capturePeriodMs }, clock.nowMs());
    this.#timer = this.#lookLater();
  }

  get wantsG711(): boolean {
    return this.#ladder.step.wantsG711;
  }

  close(): void {
    this.#timer.cancel();
  }

  #lookLater(): Timer {
    return this.#options.clock.after(LOOK_EVERY_MS, () => {
      this.#look();
      this.#timer = this.#lookLater();
    });
  }

  #look(): void {
    const { encoding, xruns, clock, logger, bear } = this.#options;
    const now = encoding();
    if (now === null) return;
    const step = this.#ladder.report({ atMs: clock.nowMs(), ...now, xruns: xruns() });
    if (step === null) return;
    const { reason, complexity, wantsG711, capturePeriodMs } = step;
    logger.warn(
      { reason, complexity, wantsG711, capturePeriodMs, ...now, xruns: xruns() },
      'this machine is asked for less, or for more again',
    );
    bear(step);
  }
}
