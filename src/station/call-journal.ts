import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { isDeepStrictEqual } from 'node:util';
import * as z from 'zod';
import type { Call } from '../call/call.js';
import { type AudioDescription, parseSdp, writeSdp } from '../call/sdp.js';
import { writeDurably } from '../core/durable-file.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';

const MOST_SEQ = 0xffff_ffff;
const sdp = z.string().max(16_384);

const entry = z.object({
  callId: z.string().regex(/^[a-z0-9-]{8,64}$/),
  peer: z.string().min(1).max(160),
  /** What it takes to go on with a call that was answered; null before. */
  talk: z
    .object({
      direction: z.enum(['out', 'in']),
      peerName: z.string().max(80),
      local: sdp,
      remote: sdp,
      muted: z.boolean(),
      /** Since when they talk, in ms since 1970. */
      sinceMs: z.number(),
      /** Of our next message, and the highest of the peer's. */
      nextSeq: z.int().min(0).max(MOST_SEQ),
      highestSeq: z.int().min(-1).max(MOST_SEQ),
    })
    .nullable()
    .default(null),
});
const journal = entry.extend({ v: z.literal(1) });
export type JournalEntry = z.output<typeof entry>;

/** An answered call as a later run of the station takes it up. */
export type TakenUp = Omit<NonNullable<JournalEntry['talk']>, 'local' | 'remote'> & {
  readonly callId: string;
  readonly peer: string;
  readonly local: AudioDescription;
  readonly remote: AudioDescription;
};

/** More than is sent between two writes of the journal: door messages don't change it. */
const SEQ_AHEAD = 10_000;

/** What the journal keeps of a call that lives. */
export function keep(
  call: Call,
  { sinceMs, nextSeq, muted }: { readonly sinceMs: number; readonly nextSeq: number; readonly muted: boolean },
): JournalEntry {
  const { callId, peer, peerName, state, direction, local, remote, seen } = call;
  if (state !== 'answered' || local === null || remote === null) return { callId, peer, talk: null };
  const told = { local: writeSdp(local), remote: writeSdp(remote) };
  const { highestSeq } = seen;
  return { callId, peer, talk: { direction, peerName, ...told, muted, sinceMs, nextSeq, highestSeq } };
}

/** @returns undefined where the call was not answered yet, or its descriptions are damaged */
export function takeUp({ callId, peer, talk }: JournalEntry): TakenUp | undefined {
  if (talk === null) return undefined;
  const local = parseSdp(talk.local);
  const remote = parseSdp(talk.remote);
  if (!local.ok || !remote.ok) return undefined;
  const nextSeq = Math.min(talk.nextSeq + SEQ_AHEAD, MOST_SEQ);
  return { ...talk, callId, peer, nextSeq, local: local.value, remote: remote.value };
}

/**
 * The one call that lives, on disk: what a station that was killed finds at its next start, so that it goes on with the
 * call, or tells the peer. Written durably, in the background; the latest wins.
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
    if (this.#writing !== undefined || isDeepStrictEqual(call, this.#onDisk)) return;
    this.#writing = this.#write().finally(() => {
      this.#writing = undefined;
    });
  }

  /** Resolves when what was noted last is on disk. */
  async settled(): Promise<void> {
    await this.#writing;
  }

  async #write(): Promise<void> {
    while (!isDeepStrictEqual(this.#wanted, this.#onDisk)) {
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
      const { v: _, ...found } = journal.parse(JSON.parse(readFileSync(this.#path, 'utf8')));
      return found;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#logger.warn({ error: errorText(error) }, "the call's journal is damaged; taken as empty");
      }
      return null;
    }
  }
}
