import type { Clock, Timer } from './clock.js';
import type { LogTap } from './log-tap.js';

/** Lines that go together, and how often. */
const FLUSH_MS = 500;
export const MOST_LINES_AT_ONCE = 20;
/** pino's number. */
const WARN = 40;

/** Hands on what this process logs while somebody wants it, a few lines at a time; of more there is a line that says how many. */
export class LogRelay {
  readonly #options: {
    readonly tap: LogTap;
    readonly clock: Clock;
    readonly send: (lines: string[]) => void;
  };
  #lines: string[] = [];
  #dropped = 0;
  #timer: Timer | null = null;
  #unlisten: (() => void) | null = null;

  constructor(options: { tap: LogTap; clock: Clock; send: (lines: string[]) => void }) {
    this.#options = options;
  }

  /** Whether anybody wants them from now on; nobody does at first. */
  follow(on: boolean): void {
    if (on === (this.#unlisten !== null)) return;
    if (on) {
      this.#unlisten = this.#options.tap.listen((line) => this.#take(line));
      return;
    }
    this.#unlisten?.();
    this.#unlisten = null;
    this.#timer?.cancel();
    this.#timer = null;
    this.#lines = [];
    this.#dropped = 0;
  }

  #take(line: string): void {
    this.#timer ??= this.#options.clock.after(FLUSH_MS, () => this.#flush());
    if (this.#lines.length >= MOST_LINES_AT_ONCE) this.#dropped += 1;
    else this.#lines.push(line.trimEnd());
  }

  #flush(): void {
    this.#timer = null;
    const lines = this.#lines;
    if (this.#dropped > 0) {
      lines.push(JSON.stringify({ level: WARN, msg: `${this.#dropped} lines were too many, and are not here` }));
    }
    this.#lines = [];
    this.#dropped = 0;
    this.#options.send(lines);
  }
}
