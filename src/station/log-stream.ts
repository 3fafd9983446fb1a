import type { Clock, Timer } from '../core/clock.js';
import type { LogTap } from '../core/log-tap.js';
import { redactedLine } from '../core/redaction.js';

/** Lines that go together, and how often. */
const FLUSH_MS = 500;
const MOST_LINES_AT_ONCE = 50;
const MOST_LINE_CHARS = 1_024;
/** A message of them stays far below what the broker takes. */
const MOST_MESSAGE_BYTES = 24_576;
/** Of one stream, all in all: more than ten calm minutes have, and nothing on a line by mobile network. */
const MOST_STREAM_BYTES = 1_048_576;
/** pino's numbers. */
const LEVELS = { info: 30, warn: 40 } as const;

export interface LogBatch {
  readonly lines: string[];
  readonly dropped: number;
  readonly ended: string | null;
}

/**
 * What a process logs, for a while and for somebody: at most 50 lines each half second and 1 MiB in all, secrets left out. Ends by
 * itself. What is too much is counted and told.
 */
export class LogStream {
  readonly #tell: (batch: LogBatch) => void;
  readonly #clock: Clock;
  readonly #least: number;
  readonly #endsAtMs: number;
  readonly #unlisten: () => void;
  #lines: string[] = [];
  #bytes = 0;
  #streamBytes = 0;
  #dropped = 0;
  #timer: Timer;
  #isOver = false;

  constructor(options: {
    tap: LogTap;
    clock: Clock;
    forMs: number;
    level: keyof typeof LEVELS;
    tell: (batch: LogBatch) => void;
  }) {
    this.#tell = options.tell;
    this.#clock = options.clock;
    this.#least = LEVELS[options.level];
    this.#endsAtMs = options.clock.nowMs() + options.forMs;
    this.#unlisten = options.tap.listen((line) => this.#take(line));
    this.#timer = options.clock.after(FLUSH_MS, () => this.#turn());
  }

  /** @param why `stopped`, `replaced`, … */
  end(why: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#unlisten();
    this.#timer.cancel();
    this.#flush(why);
  }

  #take(line: string): void {
    const text = redactedLine(line.trimEnd()).slice(0, MOST_LINE_CHARS);
    if (text === '' || levelOf(text) < this.#least) return;
    const sizeBytes = Buffer.byteLength(text);
    if (this.#lines.length >= MOST_LINES_AT_ONCE || this.#bytes + sizeBytes > MOST_MESSAGE_BYTES) {
      this.#dropped += 1;
      return;
    }
    this.#lines.push(text);
    this.#bytes += sizeBytes;
    this.#streamBytes += sizeBytes;
  }

  #turn(): void {
    if (this.#streamBytes >= MOST_STREAM_BYTES) this.end('size');
    else if (this.#clock.nowMs() >= this.#endsAtMs) this.end('time');
    if (this.#isOver) return;
    if (this.#lines.length > 0 || this.#dropped > 0) this.#flush(null);
    this.#timer = this.#clock.after(FLUSH_MS, () => this.#turn());
  }

  #flush(ended: string | null): void {
    const batch = { lines: this.#lines, dropped: this.#dropped, ended };
    this.#lines = [];
    this.#bytes = 0;
    this.#dropped = 0;
    this.#tell(batch);
  }
}

function levelOf(line: string): number {
  return Number(/"level":(\d{2})\b/.exec(line)?.[1] ?? LEVELS.info);
}
