import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { LogTap } from '../core/log-tap.js';
import { RateLimit } from '../core/rate-limit.js';

/** A little more than `LogRelay` of an honest process sends: nobody's lines drive the station's own out. */
const MOST_LINES = 25;
const PER_MS = 500;
const MOST_TEXT_CHARS = 800;
/** pino's numbers. */
const LEVELS = [10, 20, 30, 40, 50, 60];
const INFO = 30;

export const OTHER_PROCESSES = ['media', 'flows', 'inference'] as const;
export type OtherProcess = (typeof OTHER_PROCESSES)[number];

/** Has a process hand on what it logs, those too that come in its place. */
interface Followed {
  followLog(on: boolean): void;
}

/**
 * What the station's other processes log, while the station's log is followed: they hand it over on the sockets that they have with it,
 * and it goes where the station's own lines go. Whose a line is the station says, not the line.
 *
 * ```
 *   media, inference, flows ── LogRelay ── their socket ──▶ OtherLogs ──▶ LogTap ──▶ LogStream ──▶ up/res
 * ```
 */
export class OtherLogs {
  /** Lines that were too many, by process. */
  readonly dropped = new Counters<OtherProcess>();
  /** Of the station's own lines, and of these. */
  readonly tap: LogTap;
  readonly #processes: () => readonly (Followed | undefined)[];
  readonly #rates: Readonly<Record<OtherProcess, RateLimit>>;
  #isFollowed = false;

  /** @param options.processes what of the station reaches them; those that it has not are undefined */
  constructor(options: {
    tap: LogTap | undefined;
    clock: Clock;
    processes: () => readonly (Followed | undefined)[];
  }) {
    this.tap = options.tap ?? new LogTap();
    this.#processes = options.processes;
    const rate = (): RateLimit => new RateLimit({ most: MOST_LINES, perMs: PER_MS, clock: options.clock });
    this.#rates = { media: rate(), flows: rate(), inference: rate() };
  }

  follow(on: boolean): void {
    if (on === this.#isFollowed) return;
    this.#isFollowed = on;
    for (const one of this.#processes()) one?.followLog(on);
  }

  /** What a process has logged. Never throws. */
  took(name: OtherProcess, lines: readonly string[]): void {
    if (!this.#isFollowed) return;
    for (const line of lines) {
      if (this.#rates[name].admit() === undefined) this.dropped.count(name);
      else this.tap.tell(lineOf(name, line));
    }
  }
}

function lineOf(name: OtherProcess, line: string): string {
  try {
    const said: unknown = JSON.parse(line);
    if (typeof said === 'object' && said !== null && !Array.isArray(said)) {
      const { level, ...rest } = said as Record<string, unknown>;
      return JSON.stringify({ level: LEVELS.find((one) => one === level) ?? INFO, ...rest, name });
    }
  } catch {
    // It was cut, or is no line of ours.
  }
  return JSON.stringify({ level: INFO, name, msg: line.slice(0, MOST_TEXT_CHARS) });
}
