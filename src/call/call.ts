import type { AudioDescription } from './sdp.js';

export type CallState = 'inviting' | 'ringing-out' | 'ringing-in' | 'answered' | 'ended';
/** One timer runs at a time: until the peer rings, until somebody answers, until a talk is over. */
export type CallTimer = 'signalling' | 'ring' | 'talk';
export type CallTone = 'bell' | 'ringback' | 'busy';

/** One call as one of its two ends sees it. A value; `transition` makes the next one. */
export interface Call {
  readonly callId: string;
  readonly direction: 'out' | 'in';
  readonly peer: string;
  readonly peerName: string;
  readonly state: CallState;
  /** Why it ended; null until then. */
  readonly reason: string | null;
  readonly ringMs: number;
  readonly talkMs: number;
  /** What we last told the peer, and the peer us. */
  readonly local: AudioDescription | null;
  readonly remote: AudioDescription | null;
  readonly media: 'none' | 'opening' | 'open';
  readonly seen: SeenMessages;
}

interface SeenMessages {
  readonly ids: readonly string[];
  readonly highestSeq: number;
}

/** What a message of the peer carries beside its content. */
export interface PeerMessage {
  readonly id: string;
  readonly seq: number;
}

export type CallEvent =
  /** From this side. */
  | { readonly on: 'answer' }
  | { readonly on: 'reject' }
  | { readonly on: 'hang-up'; readonly reason?: string }
  /** From the peer. */
  | ({ readonly on: 'peer-invite' } & PeerMessage)
  | ({ readonly on: 'peer-ringing' } & PeerMessage)
  | ({ readonly on: 'peer-answer'; readonly remote: AudioDescription } & PeerMessage)
  | ({ readonly on: 'peer-reject'; readonly reason: string } & PeerMessage)
  | ({ readonly on: 'peer-update'; readonly remote: AudioDescription } & PeerMessage)
  | ({ readonly on: 'peer-bye'; readonly reason: string } & PeerMessage)
  /** From timers and from the signalling: `undeliverable` says that what sets up the call could not be handed over. */
  | { readonly on: 'timeout'; readonly timer: CallTimer }
  | { readonly on: 'undeliverable' }
  | { readonly on: 'peer-lost' }
  /** From the media: a port was taken, its process was lost, the far end was heard, it can't be had. */
  | { readonly on: 'media-opened'; readonly local: AudioDescription }
  | { readonly on: 'media-lost' }
  | { readonly on: 'media-heard' }
  | { readonly on: 'media-failed' };

export type CallEventName = CallEvent['on'];

export type OutgoingMessage =
  | { readonly type: 'invite'; readonly local: AudioDescription; readonly ringMs: number }
  | { readonly type: 'ringing' }
  | { readonly type: 'answer' | 'update'; readonly local: AudioDescription }
  | { readonly type: 'reject' | 'bye'; readonly reason: string };

/** What the station has to do, in this order. */
export type CallEffect =
  | { readonly do: 'send'; readonly message: OutgoingMessage }
  | { readonly do: 'open-media' }
  | { readonly do: 'start-media'; readonly local: AudioDescription; readonly remote: AudioDescription }
  | { readonly do: 'close-media' }
  | { readonly do: 'tone'; readonly tone: CallTone | null }
  | { readonly do: 'arm'; readonly timer: CallTimer; readonly afterMs: number }
  | { readonly do: 'disarm' };

export interface Transition {
  readonly call: Call;
  readonly effects: readonly CallEffect[];
  /** Why the event changed nothing: its message had come before, was overtaken, or has no meaning in this state. */
  readonly ignored?: 'duplicate' | 'out-of-order' | 'not-now';
}

/** Nobody hung up: who still holds on is told. */
const ENDS_WITH_TONE = new Set(['gateway-lost', 'site-lost']);
/** How long a caller waits for any word of the callee. */
export const SIGNALLING_TIMEOUT_MS = 4_000;
/** The callee rings this much longer than the caller waits, so that the caller's word comes first. */
export const RING_MARGIN_MS = 1_000;
const MOST_IDS = 32;

interface CallOptions {
  readonly callId: string;
  readonly peer: string;
  readonly peerName: string;
  readonly ringMs: number;
  readonly talkMs: number;
}

/** This side calls: media is opened first, since the offer names its port. */
export function placeCall(options: CallOptions): Transition {
  return {
    call: { ...start(options), direction: 'out', state: 'inviting', media: 'opening' },
    effects: [{ do: 'arm', timer: 'signalling', afterMs: SIGNALLING_TIMEOUT_MS }, { do: 'open-media' }],
  };
}

/** The peer calls; its offer has been read. */
export function receiveInvite(options: CallOptions & { readonly remote: AudioDescription } & PeerMessage): Transition {
  const { remote, id, seq } = options;
  return {
    call: { ...start(options), direction: 'in', state: 'ringing-in', remote, seen: { ids: [id], highestSeq: seq } },
    effects: [
      { do: 'send', message: { type: 'ringing' } },
      { do: 'tone', tone: 'bell' },
      { do: 'arm', timer: 'ring', afterMs: options.ringMs + RING_MARGIN_MS },
    ],
  };
}

/** This side talked when its process was killed, and the media process has kept its end; the peer is told, and may deny it. */
export function resumeCall(
  options: CallOptions & {
    readonly direction: Call['direction'];
    readonly local: AudioDescription;
    readonly remote: AudioDescription;
    readonly highestSeq: number;
    readonly talkLeftMs: number;
  },
): Transition {
  const { direction, local, remote, highestSeq, talkLeftMs } = options;
  const seen: SeenMessages = { ids: [], highestSeq };
  const call: Call = { ...start(options), direction, state: 'answered', local, remote, media: 'open', seen };
  return {
    call,
    effects: [
      { do: 'send', message: update(local) },
      ...startMedia(call),
      { do: 'arm', timer: 'talk', afterMs: talkLeftMs },
    ],
  };
}

/**
 * What an invite gets while another call of this station lives. Two stations that call each other at once (glare) keep
 * the call of the one whose id sorts first: it refuses, the other gives up its own call and rings.
 */
export function judgeInvite(
  current: Call | undefined,
  own: string,
  invite: { callId: string; from: string },
): InviteVerdict {
  if (current === undefined || current.state === 'ended') return 'take';
  if (current.callId === invite.callId) return 'known';
  const isGlare =
    current.peer === invite.from && current.direction === 'out' && current.state !== 'answered' && own !== invite.from;
  return isGlare && own > invite.from ? 'yield' : 'busy';
}
export type InviteVerdict = 'take' | 'known' | 'busy' | 'yield';

/** The next state of a call. Never throws; what has no meaning now changes nothing, and says so in `ignored`. */
export function transition(call: Call, event: CallEvent): Transition {
  const order = 'seq' in event ? orderOf(call.seen, event) : 'new';
  if (order === 'duplicate') return { call, effects: [], ignored: 'duplicate' };
  const known = 'seq' in event ? { ...call, seen: remember(call.seen, event) } : call;
  // What ends or answers a call counts even when it was overtaken; a state of the past doesn't.
  const mustBeNew = event.on === 'peer-ringing' || event.on === 'peer-update';
  if (order === 'overtaken' && mustBeNew) return { call: known, effects: [], ignored: 'out-of-order' };
  const next = handle(known, event, order === 'overtaken');
  return next ?? { call: known, effects: [], ignored: 'not-now' };
}

function handle(call: Call, event: CallEvent, overtaken: boolean): Transition | undefined {
  switch (call.state) {
    case 'inviting':
    case 'ringing-out':
      return whileCalling(call, event, overtaken);
    case 'ringing-in':
      return whileRung(call, event);
    case 'answered':
      return whileTalking(call, event);
    case 'ended':
      return afterwards(call, event);
  }
}

function whileCalling(call: Call, event: CallEvent, overtaken: boolean): Transition | undefined {
  switch (event.on) {
    case 'media-opened': {
      const { local } = event;
      const message = call.local === null ? { type: 'invite' as const, local, ringMs: call.ringMs } : update(local);
      return { call: { ...call, local, media: 'open' }, effects: [{ do: 'send', message }] };
    }
    case 'media-lost':
      return reopen(call);
    case 'peer-ringing':
      if (call.state !== 'inviting') return undefined;
      return {
        call: { ...call, state: 'ringing-out' },
        effects: [
          { do: 'tone', tone: 'ringback' },
          { do: 'arm', timer: 'ring', afterMs: call.ringMs },
        ],
      };
    case 'peer-update':
      return { call: { ...call, remote: event.remote }, effects: [] };
    case 'peer-answer': {
      const remote = overtaken ? (call.remote ?? event.remote) : event.remote;
      return talk({ ...call, remote }, []);
    }
    case 'peer-reject':
    case 'peer-bye':
      return end(call, peerReason(event.reason));
    case 'timeout':
      if (call.state === 'inviting') {
        return event.timer === 'signalling' ? end(call, 'unreachable', bye('unreachable')) : undefined;
      }
      return event.timer === 'ring' ? end(call, 'no-answer', bye('no-answer')) : undefined;
    case 'undeliverable':
      return call.state === 'inviting' ? end(call, 'unreachable') : undefined;
    case 'hang-up':
      return end(call, event.reason ?? 'hung-up', bye(event.reason ?? 'hung-up'));
    case 'media-failed':
      return end(call, 'media-failed', bye('media-failed'));
    case 'peer-lost':
      return end(call, 'peer-lost', bye('peer-lost'));
    default:
      return undefined;
  }
}

function whileRung(call: Call, event: CallEvent): Transition | undefined {
  const isAnswering = call.media !== 'none';
  switch (event.on) {
    case 'answer':
      if (isAnswering) return undefined;
      return {
        call: { ...call, media: 'opening' },
        effects: [{ do: 'tone', tone: null }, { do: 'open-media' }],
      };
    case 'media-opened':
      if (!isAnswering) return { call, effects: [{ do: 'close-media' }] };
      return talk({ ...call, local: event.local, media: 'open' }, [
        { do: 'send', message: { type: 'answer', local: event.local } },
      ]);
    case 'media-lost':
      return isAnswering ? reopen(call) : undefined;
    case 'peer-update':
      return { call: { ...call, remote: event.remote }, effects: [] };
    case 'peer-bye':
      return end(call, peerReason(event.reason));
    case 'reject':
      return end(call, 'rejected', reject('rejected'));
    case 'hang-up':
      return end(call, event.reason ?? 'rejected', reject(event.reason ?? 'rejected'));
    case 'timeout':
      return event.timer === 'ring' ? end(call, 'no-answer', reject('no-answer')) : undefined;
    case 'undeliverable':
      return end(call, 'unreachable');
    case 'media-failed':
      return end(call, 'media-failed', reject('media-failed'));
    case 'peer-lost':
      return end(call, 'peer-lost', reject('peer-lost'));
    default:
      return undefined;
  }
}

function whileTalking(call: Call, event: CallEvent): Transition | undefined {
  switch (event.on) {
    case 'hang-up':
      return end(call, event.reason ?? 'hung-up', bye(event.reason ?? 'hung-up'));
    case 'peer-bye':
    case 'peer-reject':
      return end(call, peerReason(event.reason));
    case 'peer-update': {
      const next = { ...call, remote: event.remote };
      return { call: next, effects: startMedia(next) };
    }
    case 'media-opened': {
      const next: Call = { ...call, local: event.local, media: 'open' };
      return { call: next, effects: [{ do: 'send', message: update(event.local) }, ...startMedia(next)] };
    }
    case 'media-lost':
      return reopen(call);
    case 'media-heard':
      return { call, effects: [] };
    case 'timeout':
      return event.timer === 'talk' ? end(call, 'talk-timeout', bye('talk-timeout')) : undefined;
    case 'undeliverable':
      // Our answer never left: the caller rings out by itself, and we don't talk to nobody.
      return end(call, 'unreachable', bye('unreachable'));
    case 'media-failed':
      return end(call, 'media-failed', bye('media-failed'));
    case 'peer-lost':
      return end(call, 'peer-lost', bye('peer-lost'));
    default:
      return undefined;
  }
}

function afterwards(call: Call, event: CallEvent): Transition | undefined {
  switch (event.on) {
    case 'media-opened':
      return { call, effects: [{ do: 'close-media' }] };
    case 'peer-answer':
    case 'peer-update':
      // The peer believes in a call that is over here.
      return { call, effects: [{ do: 'send', message: bye(call.reason ?? 'hung-up') }] };
    default:
      return undefined;
  }
}

function talk(call: Call, first: readonly CallEffect[]): Transition {
  const next: Call = { ...call, state: 'answered' };
  return {
    call: next,
    effects: [
      ...first,
      { do: 'tone', tone: null },
      ...startMedia(next),
      { do: 'arm', timer: 'talk', afterMs: call.talkMs },
    ],
  };
}

/** Nothing while media is being opened (again): it is started as soon as it is open. */
function startMedia({ media, local, remote }: Call): CallEffect[] {
  return media === 'open' && local !== null && remote !== null ? [{ do: 'start-media', local, remote }] : [];
}

function reopen(call: Call): Transition {
  return { call: { ...call, media: 'opening' }, effects: [{ do: 'open-media' }] };
}

function end(call: Call, reason: string, word?: OutgoingMessage): Transition {
  const isHeardOf = call.direction === 'in' || call.local !== null;
  const isTold =
    call.direction === 'out' && call.state !== 'answered'
      ? reason !== 'hung-up' && reason !== 'glare'
      : ENDS_WITH_TONE.has(reason);
  return {
    call: { ...call, state: 'ended', reason, media: 'none' },
    effects: [
      { do: 'disarm' },
      ...(word !== undefined && isHeardOf ? [{ do: 'send', message: word } as const] : []),
      ...(call.media === 'none' ? [] : [{ do: 'close-media' } as const]),
      { do: 'tone', tone: isTold ? 'busy' : null },
    ],
  };
}

function start(options: CallOptions) {
  const { callId, peer, peerName, ringMs, talkMs } = options;
  const seen: SeenMessages = { ids: [], highestSeq: -1 };
  return {
    callId,
    peer,
    peerName,
    ringMs,
    talkMs,
    seen,
    reason: null,
    local: null,
    remote: null,
    media: 'none' as const,
  };
}

function orderOf(seen: SeenMessages, message: PeerMessage): 'new' | 'duplicate' | 'overtaken' {
  if (seen.ids.includes(message.id)) return 'duplicate';
  return message.seq > seen.highestSeq ? 'new' : 'overtaken';
}

function remember(seen: SeenMessages, message: PeerMessage): SeenMessages {
  return {
    ids: [...seen.ids, message.id].slice(-MOST_IDS),
    highestSeq: Math.max(seen.highestSeq, message.seq),
  };
}

function update(local: AudioDescription): OutgoingMessage {
  return { type: 'update', local };
}

function bye(reason: string): OutgoingMessage {
  return { type: 'bye', reason };
}

function reject(reason: string): OutgoingMessage {
  return { type: 'reject', reason };
}

/** A peer's reason is a word for people and programs; anything else is replaced. */
function peerReason(reason: string): string {
  return /^[a-z][a-z0-9-]{0,39}$/.test(reason) ? reason : 'ended-by-peer';
}
