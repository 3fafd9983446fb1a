import { randomUUID } from 'node:crypto';
import type { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { OutgoingMessage } from '../call/call.js';
import { writeSdp } from '../call/sdp.js';
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
  readonly #nextSeq = new Map<string, number>();
  readonly #sending = new Set<Promise<unknown>>();

  constructor(options: { link: Pick<MqttLink, 'publish'>; site: string; station: string }) {
    this.#link = options.link;
    this.#site = options.site;
    this.#own = options.station;
  }

  /** @throws AppError (as a rejection) where it could not be handed to the broker in time */
  send(callId: string, to: string, content: CallMessageContent): Promise<void> {
    const seq = this.#nextSeq.get(callId) ?? 0;
    this.#nextSeq.set(callId, seq + 1);
    const message = { v: 1, id: randomUUID(), seq, callId, from: this.#own, to, ...content } as CallMessage;
    const sent = this.#link.publish({
      topic: topic(this.#site, this.#own, 'up', `call/${callId}`),
      body: JSON.stringify(message),
      qos: 1,
      priority: 'call',
      expiryS: EXPIRY_S[message.type],
    });
    const tracked = sent.catch(() => {}).finally(() => this.#sending.delete(tracked));
    this.#sending.add(tracked);
    return sent;
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
