import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { z } from 'zod';
import { writeDurably } from '../adapters/pki/durable-file.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';

const entry = z.object({
  v: z.literal(1),
  callId: z.string().regex(/^[a-z0-9-]{8,64}$/),
  peer: z.string().min(1).max(80),
});
export type JournalEntry = Omit<z.infer<typeof entry>, 'v'>;

/**
 * The one call that lives, on disk: what a station that was killed finds at its next start, so that it can tell the peer.
 * Written durably, in the background; the latest wins.
 */
export class CallJournal {
  readonly #path: string;
  readonly #logger: Logger;
  #wanted: JournalEntry | null;
  /** On disk, or being written. */
  #onDisk: JournalEntry | null;
  #writing: Promise<void> | undefined;
  /** What was found at the start: a call that the last run left behind. */
  readonly leftBehind: JournalEntry | null;

  constructor(options: { path: string; logger: Logger }) {
    this.#path = options.path;
    this.#logger = options.logger;
    this.leftBehind = this.#read();
    this.#wanted = this.leftBehind;
    this.#onDisk = this.leftBehind;
  }

  /** Notes the call that lives now, or that there is none. */
  note(call: JournalEntry | null): void {
    this.#wanted = call;
    if (this.#writing !== undefined || isSame(call, this.#onDisk)) return;
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Resolves when what was noted last is on disk. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async #write(): Promise<void> {
    while (!isSame(this.#wanted, this.#onDisk)) {
      this.#onDisk = this.#wanted;
      try {
        if (this.#wanted === null) await rm(this.#path, { force: true });
        else await writeDurably(this.#path, JSON.stringify({ v: 1, ...this.#wanted }));
      } catch (error) {
        this.#logger.error({ error: errorText(error) }, "the call's journal can't be written");
      }
    }
  }

  #read(): JournalEntry | null {
    try {
      const { callId, peer } = entry.parse(JSON.parse(readFileSync(this.#path, 'utf8')));
      return { callId, peer };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#logger.warn({ error: errorText(error) }, "the call's journal is damaged; taken as empty");
      }
      return null;
    }
  }
}

function isSame(a: JournalEntry | null, b: JournalEntry | null): boolean {
  return a?.callId === b?.callId && a?.peer === b?.peer;
}
