import { randomUUID } from 'node:crypto';
import type { MqttLink, Publication } from '../adapters/mqtt/mqtt-link.js';
import type { OutgoingMessage } from '../call/call.js';
import { writeSdp } from '../call/sdp.js';
import type { Clock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { CallMessage, CallMessageType } from '../protocol/call-message.js';
import { topic } from '../protocol/topics.js';

/** How long a message is worth sending, in s. A press must fail fast; that a call ended is news for longer. */
const EXPIRY_S: Readonly<Record<CallMessageType, number>> = {
  invite: 1.5,
  ringing: 5,
  answer: 5,
  reject: 30,
  update: 10,
  bye: 30,
  'door-request': 1.5,
  'door-challenge': 1.5,
  'door-open': 1.5,
  'door-result': 5,
};

/** The switchboard may subscribe a moment after the broker is there; until then what it is told would be lost. */
const UNHEARD_RETRY_MS = 100;

type Content<M> = M extends unknown ? Omit<M, 'v' | 'id' | 'seq' | 'callId' | 'from' | 'to'> : never;
/** A call message without its header. */
export type CallMessageContent = Content<CallMessage>;

/** What a call says, as it is written; an invite in the name of this station. */
export function contentOf(message: OutgoingMessage, ownName: string): CallMessageContent {
  switch (message.type) {
    case 'invite':
      return { type: 'invite', fromName: ownName, sdp: writeSdp(message.local), ringMs: message.ringMs };
    case 'answer':
    case 'update':
      return { type: message.type, sdp: writeSdp(message.local) };
    default:
      return message;
  }
}

/** Writes a station's call messages: their headers, their topic, and how long each may wait for the broker. */
export class Signalling {
  readonly #link: Pick<MqttLink, 'publish'>;
  readonly #site: string;
  readonly #own: string;
  readonly #clock: Clock;
  readonly #nextSeq = new Map<string, number>();
  readonly #sending = new Set<Promise<unknown>>();
  /** What nobody heard yet, by call: the rest of that call comes after it. */
  readonly #unheard = new Map<string, Promise<unknown>>();

  constructor(options: { link: Pick<MqttLink, 'publish'>; site: string; station: string; clock: Clock }) {
    this.#clock = options.clock;
    this.#link = options.link;
    this.#site = options.site;
    this.#own = options.station;
  }

  /** @throws AppError (as a rejection) where it could not be handed in time to the broker, and to the switchboard by it */
  send(callId: string, to: string, content: CallMessageContent): Promise<void> {
    const seq = this.#nextSeq.get(callId) ?? 0;
    this.#nextSeq.set(callId, seq + 1);
    const message = { v: 1, id: randomUUID(), seq, callId, from: this.#own, to, ...content } as CallMessage;
    const publication: Publication = {
      topic: topic(this.#site, this.#own, 'up', `call/${callId}`),
      body: JSON.stringify(message),
      qos: 1,
      priority: 'call',
      expiryS: EXPIRY_S[message.type],
      mustBeHeard: true,
    };
    const first = this.#unheard.get(callId);
    const sent =
      first === undefined ? this.#deliver(callId, publication) : this.#deliverAfter(first, callId, publication);
    const tracked = sent.catch(() => {}).finally(() => this.#sending.delete(tracked));
    this.#sending.add(tracked);
    return sent;
  }

  #deliver(callId: string, publication: Publication): Promise<void> {
    const deadlineMs = this.#clock.nowMs() + (publication.expiryS ?? 0) * 1_000;
    return this.#link.publish(publication).catch((error: unknown) => {
      if (!(error instanceof AppError) || error.code !== 'unheard') throw error;
      const again = this.#deliverAgain(publication, deadlineMs);
      const held = again
        .catch(() => {})
        .finally(() => this.#unheard.get(callId) === held && this.#unheard.delete(callId));
      this.#unheard.set(callId, held);
      return again;
    });
  }

  async #deliverAfter(first: Promise<unknown>, callId: string, publication: Publication): Promise<void> {
    await first;
    await this.#deliver(callId, publication);
  }

  async #deliverAgain(publication: Publication, deadlineMs: number): Promise<void> {
    for (;;) {
      await new Promise<void>((resolve) => this.#clock.after(UNHEARD_RETRY_MS, resolve));
      const expiryS = (deadlineMs - this.#clock.nowMs()) / 1_000;
      if (expiryS <= 0) throw new AppError('unheard', `The switchboard was not there in time: ${publication.topic}`);
      try {
        await this.#link.publish({ ...publication, expiryS });
        return;
      } catch (error) {
        if (!(error instanceof AppError) || error.code !== 'unheard') throw error;
      }
    }
  }

  /** Goes on in a call of an earlier run, which had sent less than `seq` messages in it. */
  resume(callId: string, seq: number): void {
    this.#nextSeq.set(callId, seq);
  }

  /** How many messages were sent in a call. */
  sentIn(callId: string): number {
    return this.#nextSeq.get(callId) ?? 0;
  }

  /** A call that nothing more will be sent in, but for a last word to one who hasn't heard. */
  forget(callId: string): void {
    this.#nextSeq.delete(callId);
  }

  /** Resolves when all that was sent is acknowledged, or has failed. */
  async settled(): Promise<void> {
    await Promise.all(this.#sending);
  }
}
