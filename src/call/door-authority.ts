import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';

/**
 * Why an opening from afar was refused: the broker had kept the message (`retained`), the nonce was used before
 * (`replayed`) or is too old (`late`), it was never made here (`unknown-nonce`), or there is no such call (`no-call`).
 */
export type DoorRefusal = 'retained' | 'replayed' | 'late' | 'unknown-nonce' | 'no-call';

/** What was asked, in which call, and how it reached us. */
export interface DoorMessage {
  readonly callId: string;
  readonly retained: boolean;
}

interface Challenge {
  readonly nonce: string;
  readonly madeAtMs: number;
}

interface LiveCall {
  open: Challenge | undefined;
  readonly spent: string[];
}

/** As many used nonces as a call's remembered: what is older counts as unknown, and opens as little. */
const MOST_SPENT = 64;

/**
 * The door station's authority over its own door: it alone makes the nonces that open it, one for each opening, good for
 * one live call, once, and for `ttlMs` by its own clock. So nothing that was recorded, kept or held back can open it.
 */
export class DoorAuthority {
  readonly refused = new Counters<DoorRefusal>();
  readonly ttlMs: number;
  readonly #clock: Clock;
  readonly #makeNonce: () => string;
  readonly #calls = new Map<string, LiveCall>();

  /** `makeNonce` gives at least 128 random bits as text. */
  constructor(options: { clock: Clock; makeNonce: () => string; ttlMs: number }) {
    this.#clock = options.clock;
    this.#makeNonce = options.makeNonce;
    this.ttlMs = options.ttlMs;
  }

  callLives(callId: string): void {
    if (!this.#calls.has(callId)) this.#calls.set(callId, { open: undefined, spent: [] });
  }

  callEnded(callId: string): void {
    this.#calls.delete(callId);
  }

  /** Makes the nonce for one opening; it replaces one of the same call that has not been used. */
  challenge(message: DoorMessage): { readonly nonce: string } | { readonly refusal: DoorRefusal } {
    const call = this.#callOf(message);
    if (typeof call === 'string') return this.#refuse(call);
    if (call.open !== undefined) spend(call, call.open);
    call.open = { nonce: this.#makeNonce(), madeAtMs: this.#clock.nowMs() };
    return { nonce: call.open.nonce };
  }

  /** Whether this nonce opens the door, now. It opens nothing ever after, whatever the answer. */
  redeem(
    message: DoorMessage & { readonly nonce: string },
  ): { readonly opens: true } | { readonly refusal: DoorRefusal } {
    const call = this.#callOf(message);
    if (typeof call === 'string') return this.#refuse(call);
    if (call.spent.includes(message.nonce)) return this.#refuse('replayed');
    if (call.open === undefined || call.open.nonce !== message.nonce) return this.#refuse('unknown-nonce');
    const ageMs = this.#clock.nowMs() - call.open.madeAtMs;
    spend(call, call.open);
    return ageMs > this.ttlMs ? this.#refuse('late') : { opens: true };
  }

  #callOf(message: DoorMessage): LiveCall | DoorRefusal {
    if (message.retained) return 'retained';
    return this.#calls.get(message.callId) ?? 'no-call';
  }

  #refuse(refusal: DoorRefusal): { readonly refusal: DoorRefusal } {
    this.refused.count(refusal);
    return { refusal };
  }
}

function spend(call: LiveCall, challenge: Challenge): void {
  call.spent.push(challenge.nonce);
  if (call.spent.length > MOST_SPENT) call.spent.shift();
  call.open = undefined;
}
