import { readFileSync } from 'node:fs';
import * as z from 'zod';
import type { LiveCall } from '../call/call-routing.js';
import { ELSEWHERE } from '../call/directory.js';
import { writeDurably } from '../core/durable-file.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { parseBody } from '../protocol/call-message.js';
import { ID_PATTERN } from '../protocol/topics.js';

const station = z.union([z.string().regex(ID_PATTERN), z.literal(ELSEWHERE)]);
const journal = z.object({
  v: z.literal(1),
  calls: z.array(
    z.object({
      callId: z.string().min(8).max(64),
      caller: station,
      callee: station,
      answered: z.boolean(),
      leftMs: z.number().min(0),
    }),
  ),
});

/** The switchboard's live calls on disk, so that after its restart their parties can still hang up, or go on. */
export class RoutingJournal {
  readonly #path: string;
  readonly #logger: Logger;
  #wanted: readonly LiveCall[] | null = null;
  #writing: Promise<void> | null = null;

  constructor(options: { path: string; logger: Logger }) {
    this.#path = options.path;
    this.#logger = options.logger;
  }

  /** What the last run left; nothing where there is no file, or one that can't be read. */
  read(): LiveCall[] {
    try {
      const parsed = parseBody(journal, readFileSync(this.#path));
      if (parsed.ok) return parsed.value.calls;
      this.#logger.warn({ path: this.#path, fault: parsed.fault }, "the switchboard's journal is damaged; left aside");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#logger.warn({ error: errorText(error) }, "the switchboard's journal can't be read");
      }
    }
    return [];
  }

  /** Written in the background; the latest wins. */
  note(calls: readonly LiveCall[]): void {
    this.#wanted = calls;
    this.#writing ??= this.#write().finally(() => {
      this.#writing = null;
    });
  }

  /** Resolves when what was noted last is on disk. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async #write(): Promise<void> {
    while (this.#wanted !== null) {
      const calls = this.#wanted;
      this.#wanted = null;
      try {
        await writeDurably(this.#path, JSON.stringify({ v: 1, calls }));
      } catch (error) {
        this.#logger.error({ error: errorText(error) }, "the switchboard's journal can't be written");
      }
    }
  }
}
