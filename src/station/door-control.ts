import { randomBytes, randomUUID } from 'node:crypto';
import type { Call } from '../call/call.js';
import { DoorAuthority } from '../call/door-authority.js';
import type { Config } from '../config/schema.js';
import type { Clock, Timer } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { CallMessage } from '../protocol/call-message.js';
import type { Relay } from './pins.js';
import type { Signalling } from './signalling.js';

export type DoorMessage = Extract<CallMessage, { type: `door-${string}` }>;
export interface DoorAnswer {
  readonly opened: boolean;
  /** `opened`, or why not. */
  readonly reason: string;
}

interface Asking {
  readonly callId: string;
  readonly peer: string;
  readonly request: string;
  readonly askedAtMs: number;
  readonly timer: Timer;
  readonly settle: (answer: DoorAnswer) => void;
  nonce: string | undefined;
}

/** Longer than any authorisation is good for (`ttlMs` ≤ 5,000). */
const ANSWER_TIMEOUT_MS = 6_000;

/**
 * The door, both ways: this station's own, opened here or by the peer of the live call with a nonce of ours; and the
 * peer's, asked for (the exchange is described in protocol/call-message.ts). Only `relay.pulse` ever opens anything.
 */
export class DoorControl {
  readonly authority: DoorAuthority;
  readonly #config: Config;
  readonly #relay: Relay | undefined;
  readonly #signalling: Signalling;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #onOpening: (by: string) => void;
  #call: Call | undefined;
  #lastRequest: string | undefined;
  #asking: Asking | undefined;
  #pending: Promise<DoorAnswer> | undefined;
  #openings = 0;

  constructor(options: {
    config: Config;
    relay: Relay | undefined;
    signalling: Signalling;
    clock: Clock;
    logger: Logger;
    /** Right before the relay is pulsed. `by`: `local`, or the peer's station id. */
    onOpening: (by: string) => void;
  }) {
    this.#config = options.config;
    this.#relay = options.relay;
    this.#signalling = options.signalling;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#onOpening = options.onOpening;
    this.authority = new DoorAuthority({
      clock: options.clock,
      makeNonce: () => randomBytes(18).toString('base64url'),
      ttlMs: options.config.door.ttlMs,
    });
  }

  get openings(): number {
    return this.#openings;
  }

  /**
   * Follows the call. Its peer may open this station's door while they talk, and while this station's visitor rings there;
   * a call that rings here opens nothing.
   */
  callChanged(call: Call): void {
    if (call.state === 'ended') {
      this.authority.callEnded(call.callId);
      if (this.#asking?.callId === call.callId) this.#settle({ opened: false, reason: 'call-ended' });
      if (this.#call?.callId === call.callId) this.#call = undefined;
      return;
    }
    this.#call = call;
    if (call.state === 'answered' || call.state === 'ringing-out') this.authority.callLives(call.callId);
  }

  /** In a call the peer's door, without one our own. Never rejects. */
  async open(): Promise<DoorAnswer> {
    if (this.#call === undefined) return this.#pulse('local');
    if (this.#call.state !== 'answered' && this.#call.state !== 'ringing-in') {
      return { opened: false, reason: 'not-answered' };
    }
    this.#pending ??= this.#ask(this.#call).finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  /** A door message that came by MQTT, read and checked for form; `retained` as the broker marked it. Never throws. */
  take(message: DoorMessage, retained: boolean): void {
    switch (message.type) {
      case 'door-request':
        this.#challenge(message, retained);
        return;
      case 'door-open':
        this.#redeem(message, retained);
        return;
      case 'door-challenge':
        this.#answerChallenge(message, retained);
        return;
      case 'door-result':
        this.#conclude(message, retained);
        return;
    }
  }

  #challenge(message: Extract<DoorMessage, { type: 'door-request' }>, retained: boolean): void {
    // A second copy must not take the nonce back that the first was given.
    if (this.#lastRequest === message.request) return;
    const { callId, request, from } = message;
    const answer = this.authority.challenge({ callId: this.#isPeer(message) ? callId : '', retained });
    if ('refusal' in answer) {
      this.#refused(message, answer.refusal);
      return;
    }
    this.#lastRequest = request;
    const { ttlMs } = this.authority;
    this.#send(callId, from, { type: 'door-challenge', request, nonce: answer.nonce, ttlMs });
  }

  #redeem(message: Extract<DoorMessage, { type: 'door-open' }>, retained: boolean): void {
    const { callId, nonce, from } = message;
    const answer = this.authority.redeem({ callId: this.#isPeer(message) ? callId : '', retained, nonce });
    if ('refusal' in answer) {
      this.#refused(message, answer.refusal);
      // Whoever is no live peer learns nothing; who is, sees why nothing opened. A repetition has had its answer.
      if (answer.refusal !== 'late') return;
      this.#send(callId, from, { type: 'door-result', nonce, opened: false, reason: answer.refusal });
      return;
    }
    this.#send(callId, from, { type: 'door-result', nonce, ...this.#pulse(from) });
  }

  #pulse(by: string): DoorAnswer {
    if (this.#relay === undefined) return { opened: false, reason: 'no-door' };
    try {
      this.#onOpening(by);
      this.#relay.pulse(this.#config.door.pulseMs);
    } catch (error) {
      this.#logger.error({ by, error: errorText(error) }, 'the door could not be opened');
      return { opened: false, reason: error instanceof AppError ? error.code : 'relay-failed' };
    }
    this.#openings += 1;
    this.#logger.info({ by, pulseMs: this.#config.door.pulseMs }, 'the door is opened');
    return { opened: true, reason: 'opened' };
  }

  #ask(call: Call): Promise<DoorAnswer> {
    const request = randomUUID();
    return new Promise((settle) => {
      const timer = this.#clock.after(ANSWER_TIMEOUT_MS, () => this.#settle({ opened: false, reason: 'no-answer' }));
      const { callId, peer } = call;
      this.#asking = { callId, peer, request, askedAtMs: this.#clock.nowMs(), timer, settle, nonce: undefined };
      this.#send(callId, peer, { type: 'door-request', request });
    });
  }

  #answerChallenge(message: Extract<DoorMessage, { type: 'door-challenge' }>, retained: boolean): void {
    const asking = this.#asking;
    const isOurs =
      asking?.request === message.request && asking.callId === message.callId && asking.peer === message.from;
    if (retained || !isOurs || asking.nonce !== undefined) {
      this.#refused(message, 'unasked');
      return;
    }
    if (this.#clock.nowMs() - asking.askedAtMs > message.ttlMs) {
      this.#refused(message, 'late');
      this.#settle({ opened: false, reason: 'late' });
      return;
    }
    asking.nonce = message.nonce;
    this.#send(message.callId, message.from, { type: 'door-open', nonce: message.nonce });
  }

  #conclude(message: Extract<DoorMessage, { type: 'door-result' }>, retained: boolean): void {
    const asking = this.#asking;
    if (retained || asking?.nonce !== message.nonce || asking.peer !== message.from) this.#refused(message, 'unasked');
    else this.#settle({ opened: message.opened, reason: message.reason });
  }

  #settle(answer: DoorAnswer): void {
    const asking = this.#asking;
    this.#asking = undefined;
    asking?.timer.cancel();
    asking?.settle(answer);
  }

  #send(callId: string, to: string, content: Parameters<Signalling['send']>[2]): void {
    this.#signalling.send(callId, to, content).catch((error: unknown) => {
      this.#logger.warn({ callId, type: content.type, error: errorText(error) }, 'a door message was not sent');
      if (this.#asking?.callId === callId && content.type !== 'door-result') {
        this.#settle({ opened: false, reason: 'unreachable' });
      }
    });
  }

  #isPeer(message: DoorMessage): boolean {
    return this.#call?.callId === message.callId && this.#call.peer === message.from;
  }

  #refused(message: DoorMessage, why: string): void {
    this.#logger.warn({ callId: message.callId, from: message.from, type: message.type, why }, 'refused at the door');
  }
}
