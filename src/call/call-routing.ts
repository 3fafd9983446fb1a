import type { Clock } from '../core/clock.js';
import { type Directory, ELSEWHERE } from './directory.js';

/** What routing needs to see of a call message. */
export interface RoutedMessage {
  readonly type: string;
  readonly callId: string;
  readonly from: string;
  readonly to: string;
  /** Of an invite. */
  readonly ringMs?: number;
}

export type RoutingFault = 'unknown-sender' | 'no-such-call' | 'not-a-party' | 'wrong-direction' | 'call-id-taken';

/** `reject`: to be answered to the sender, in the name of `from`. `forward`: `message` with both parties' true ids. */
export type RoutingDecision<M extends RoutedMessage> =
  | { readonly kind: 'forward'; readonly message: M }
  | { readonly kind: 'reject'; readonly from: string | undefined; readonly reason: RejectReason }
  | { readonly kind: 'drop'; readonly fault: RoutingFault };

export type RejectReason = 'unknown' | 'not-allowed' | 'unreachable' | 'no-such-call';

interface RoutedCall {
  readonly caller: string;
  readonly callee: string;
  answered: boolean;
  expiresAtMs: number;
}

/** A call as it is kept over a restart. */
export interface LiveCall {
  readonly callId: string;
  readonly caller: string;
  readonly callee: string;
  readonly answered: boolean;
  /** Until it is forgotten. */
  readonly leftMs: number;
}

/** Beyond it the oldest call gives way: a station has one at a time, so that what is older was ended without a word. */
const MOST_CALLS = 100;
/** The same for one station, as caller. */
const MOST_CALLS_OUT = 8;
/** An unanswered call is forgotten so long after its ringing must have ended. */
const RING_GRACE_MS = 15_000;
/** Longer than any call may be configured to last. */
const ANSWERED_MOST_MS = 25 * 3_600_000;
const ONLY_CALLEE = new Set(['ringing', 'answer', 'reject']);
const ENDS = new Set(['bye', 'reject']);

/**
 * Who may send what to whom: an invite makes a call of two parties, and only they write to each other in it, until one
 * hangs up or the call's time is over. Pure; bounded.
 */
export class CallRouting {
  readonly #directory: Directory;
  readonly #clock: Clock;
  readonly #mostCalls: number;
  readonly #calls = new Map<string, RoutedCall>();
  readonly #online = new Set<string>();
  #changes = 0;

  /** @param options.mostCalls that are remembered; 100 */
  constructor(options: { directory: Directory; clock: Clock; mostCalls?: number }) {
    this.#mostCalls = options.mostCalls ?? MOST_CALLS;
    this.#directory = options.directory;
    this.#clock = options.clock;
  }

  /** Calls that are remembered. */
  get size(): number {
    return this.#calls.size;
  }

  /** Counts up with every change of what `live` gives. */
  get changes(): number {
    return this.#changes;
  }

  live(): LiveCall[] {
    const nowMs = this.#clock.nowMs();
    return [...this.#calls].map(([callId, { caller, callee, answered, expiresAtMs }]) => ({
      callId,
      caller,
      callee,
      answered,
      leftMs: Math.max(0, expiresAtMs - nowMs),
    }));
  }

  /** Takes up the calls of an earlier run whose parties are still in the directory. */
  restore(calls: readonly LiveCall[]): void {
    for (const { callId, caller, callee, answered, leftMs } of calls.slice(0, this.#mostCalls)) {
      if (!this.#directory.has(caller) || !this.#directory.has(callee)) continue;
      const expiresAtMs = this.#clock.nowMs() + Math.min(leftMs, ANSWERED_MOST_MS);
      this.#calls.set(callId, { caller, callee, answered, expiresAtMs });
    }
  }

  /** @returns whether that is news */
  setOnline(station: string, online: boolean): boolean {
    const before = this.#online.has(station);
    if (online && this.#directory.has(station)) this.#online.add(station);
    else this.#online.delete(station);
    return before !== this.#online.has(station);
  }

  /** Who shares a live call with a station. */
  peersOf(station: string): string[] {
    const calls = [...this.#calls.values()].filter(({ caller, callee }) => caller === station || callee === station);
    return calls.map(({ caller, callee }) => (caller === station ? callee : caller));
  }

  /** The other party of an answered call that `station` is in. */
  peerOf(callId: string, station: string): string | undefined {
    const call = this.#calls.get(callId);
    if (call === undefined || !call.answered || call.expiresAtMs <= this.#clock.nowMs()) return undefined;
    if (station === call.caller) return call.callee;
    return station === call.callee ? call.caller : undefined;
  }

  /** Forgets every call that `party` is in. @returns the other party of each */
  endCallsOf(party: string): { readonly callId: string; readonly peer: string }[] {
    const ended = [...this.#calls].filter(([, { caller, callee }]) => caller === party || callee === party);
    for (const [callId] of ended) this.#calls.delete(callId);
    if (ended.length > 0) this.#changes += 1;
    return ended.map(([callId, { caller, callee }]) => ({ callId, peer: caller === party ? callee : caller }));
  }

  /** @param sender the station that the broker has authenticated; `message.from` is not believed */
  route<M extends RoutedMessage>(sender: string, message: M): RoutingDecision<M> {
    this.#forgetOld();
    if (!this.#directory.has(sender)) return { kind: 'drop', fault: 'unknown-sender' };
    if (message.type === 'invite') return this.#invite(sender, message);
    const call = this.#calls.get(message.callId);
    if (call === undefined) {
      // A station that was away in mid-call asks so whether the call is still one.
      const isAsked = message.type === 'update' && sender !== ELSEWHERE;
      if (isAsked) return { kind: 'reject', from: undefined, reason: 'no-such-call' };
      return { kind: 'drop', fault: 'no-such-call' };
    }
    if (sender !== call.caller && sender !== call.callee) return { kind: 'drop', fault: 'not-a-party' };
    if (sender === call.caller && ONLY_CALLEE.has(message.type)) return { kind: 'drop', fault: 'wrong-direction' };
    if (message.type === 'answer' && !call.answered) {
      call.answered = true;
      call.expiresAtMs = this.#clock.nowMs() + ANSWERED_MOST_MS;
      this.#changes += 1;
    }
    if (ENDS.has(message.type)) {
      this.#calls.delete(message.callId);
      this.#changes += 1;
    }
    const to = sender === call.caller ? call.callee : call.caller;
    return { kind: 'forward', message: { ...message, from: sender, to } };
  }

  #invite<M extends RoutedMessage>(caller: string, message: M): RoutingDecision<M> {
    const callee = this.#directory.resolve(message.to);
    const known = this.#calls.get(message.callId);
    if (known !== undefined) {
      // The same invite may come twice; its copy goes where the first went.
      if (known.caller !== caller || known.callee !== callee) return { kind: 'drop', fault: 'call-id-taken' };
      return { kind: 'forward', message: { ...message, from: caller, to: callee } };
    }
    if (callee === undefined) return { kind: 'reject', from: undefined, reason: 'unknown' };
    if (!this.#directory.mayCall(caller, callee)) return { kind: 'reject', from: callee, reason: 'not-allowed' };
    if (!this.#online.has(callee)) return { kind: 'reject', from: callee, reason: 'unreachable' };
    this.#makeRoom(caller);
    const expiresAtMs = this.#clock.nowMs() + (message.ringMs ?? 0) + RING_GRACE_MS;
    this.#calls.set(message.callId, { caller, callee, answered: false, expiresAtMs });
    this.#changes += 1;
    return { kind: 'forward', message: { ...message, from: caller, to: callee } };
  }

  /** The table is in the order in which calls were made. */
  #makeRoom(caller: string): void {
    const all = [...this.#calls.keys()];
    const own = all.filter((callId) => this.#calls.get(callId)?.caller === caller);
    const oldest = own.length >= MOST_CALLS_OUT ? own[0] : all.length >= this.#mostCalls ? all[0] : undefined;
    if (oldest !== undefined) this.#calls.delete(oldest);
  }

  #forgetOld(): void {
    const nowMs = this.#clock.nowMs();
    for (const [callId, call] of this.#calls) {
      if (call.expiresAtMs > nowMs) continue;
      this.#calls.delete(callId);
      this.#changes += 1;
    }
  }
}
