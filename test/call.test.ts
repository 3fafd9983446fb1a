import { test } from 'tap';
import {
  type Call,
  type CallEffect,
  type CallEvent,
  type CallEventName,
  type CallState,
  judgeInvite,
  placeCall,
  receiveInvite,
  transition,
} from '../src/call/call.js';
import { DoorAuthority } from '../src/call/door-authority.js';
import { ManualClock } from '../src/core/clock.js';
import { describedAt } from './support/descriptions.js';

const here = describedAt(40_000);
const there = describedAt(50_000);
const options = { callId: 'call-0001', peer: 'indoor', peerName: 'Kitchen', ringMs: 30_000, talkMs: 600_000 };

function follow(call: Call, ...events: CallEvent[]): Call {
  return events.reduce((one, event) => transition(one, event).call, call);
}

const placed = placeCall(options).call;
const invited = follow(placed, { on: 'media-opened', local: here });
const ringingOut = follow(invited, { on: 'peer-ringing', id: 'message-1', seq: 0 });
const ringingIn = receiveInvite({ ...options, remote: there, id: 'message-0', seq: 0 }).call;
const answered = follow(ringingIn, { on: 'answer' }, { on: 'media-opened', local: here });
const ended = follow(ringingOut, { on: 'timeout', timer: 'ring' });
const starts: Record<CallState, Call> = {
  inviting: invited,
  'ringing-out': ringingOut,
  'ringing-in': ringingIn,
  answered,
  ended,
};

const events: Record<CallEventName, CallEvent> = {
  answer: { on: 'answer' },
  reject: { on: 'reject' },
  'hang-up': { on: 'hang-up' },
  'peer-invite': { on: 'peer-invite', id: 'message-9', seq: 9 },
  'peer-ringing': { on: 'peer-ringing', id: 'message-9', seq: 9 },
  'peer-answer': { on: 'peer-answer', id: 'message-9', seq: 9, remote: there },
  'peer-reject': { on: 'peer-reject', id: 'message-9', seq: 9, reason: 'busy' },
  'peer-update': { on: 'peer-update', id: 'message-9', seq: 9, remote: there },
  'peer-bye': { on: 'peer-bye', id: 'message-9', seq: 9, reason: 'hung-up' },
  timeout: { on: 'timeout', timer: 'ring' },
  undeliverable: { on: 'undeliverable' },
  'peer-lost': { on: 'peer-lost' },
  'media-opened': { on: 'media-opened', local: here },
  'media-lost': { on: 'media-lost' },
  'media-heard': { on: 'media-heard' },
  'media-failed': { on: 'media-failed' },
};

/** `send bye`, `arm ring`, `tone busy`, `open-media`: an effect in words. */
function words(effect: CallEffect): string {
  if (effect.do === 'send') return `send ${effect.message.type}`;
  if (effect.do === 'arm') return `arm ${effect.timer}`;
  return effect.do === 'tone' ? `tone ${effect.tone ?? 'off'}` : effect.do;
}

function outcome(call: Call, event: CallEvent): string {
  const { call: next, effects, ignored } = transition(call, event);
  if (ignored !== undefined) return ignored;
  const state = next.state === 'ended' && call.state !== 'ended' ? `ended ${next.reason}` : next.state;
  return [state, ...effects.map(words)].join(', ');
}

const over = 'disarm';
const table: Record<CallState, Record<CallEventName, string>> = {
  inviting: {
    answer: 'not-now',
    reject: 'not-now',
    'hang-up': `ended hung-up, ${over}, send bye, close-media, tone off`,
    'peer-invite': 'not-now',
    'peer-ringing': 'ringing-out, tone ringback, arm ring',
    'peer-answer': 'answered, tone off, start-media, arm talk',
    'peer-reject': `ended busy, ${over}, close-media, tone busy`,
    'peer-update': 'inviting',
    'peer-bye': `ended hung-up, ${over}, close-media, tone off`,
    timeout: 'not-now',
    undeliverable: `ended unreachable, ${over}, close-media, tone busy`,
    'peer-lost': `ended peer-lost, ${over}, send bye, close-media, tone busy`,
    'media-opened': 'inviting, send update',
    'media-lost': 'inviting, open-media',
    'media-heard': 'not-now',
    'media-failed': `ended media-failed, ${over}, send bye, close-media, tone busy`,
  },
  'ringing-out': {
    answer: 'not-now',
    reject: 'not-now',
    'hang-up': `ended hung-up, ${over}, send bye, close-media, tone off`,
    'peer-invite': 'not-now',
    'peer-ringing': 'not-now',
    'peer-answer': 'answered, tone off, start-media, arm talk',
    'peer-reject': `ended busy, ${over}, close-media, tone busy`,
    'peer-update': 'ringing-out',
    'peer-bye': `ended hung-up, ${over}, close-media, tone off`,
    timeout: `ended no-answer, ${over}, send bye, close-media, tone busy`,
    undeliverable: 'not-now',
    'peer-lost': `ended peer-lost, ${over}, send bye, close-media, tone busy`,
    'media-opened': 'ringing-out, send update',
    'media-lost': 'ringing-out, open-media',
    'media-heard': 'not-now',
    'media-failed': `ended media-failed, ${over}, send bye, close-media, tone busy`,
  },
  'ringing-in': {
    answer: 'ringing-in, tone off, open-media',
    reject: `ended rejected, ${over}, send reject, tone off`,
    'hang-up': `ended rejected, ${over}, send reject, tone off`,
    'peer-invite': 'not-now',
    'peer-ringing': 'not-now',
    'peer-answer': 'not-now',
    'peer-reject': 'not-now',
    'peer-update': 'ringing-in',
    'peer-bye': `ended hung-up, ${over}, tone off`,
    timeout: `ended no-answer, ${over}, send reject, tone off`,
    undeliverable: `ended unreachable, ${over}, tone off`,
    'peer-lost': `ended peer-lost, ${over}, send reject, tone off`,
    'media-opened': 'ringing-in, close-media',
    'media-lost': 'not-now',
    'media-heard': 'not-now',
    'media-failed': `ended media-failed, ${over}, send reject, tone off`,
  },
  answered: {
    answer: 'not-now',
    reject: 'not-now',
    'hang-up': `ended hung-up, ${over}, send bye, close-media, tone off`,
    'peer-invite': 'not-now',
    'peer-ringing': 'not-now',
    'peer-answer': 'not-now',
    'peer-reject': `ended busy, ${over}, close-media, tone off`,
    'peer-update': 'answered, start-media',
    'peer-bye': `ended hung-up, ${over}, close-media, tone off`,
    timeout: 'not-now',
    undeliverable: `ended unreachable, ${over}, send bye, close-media, tone off`,
    'peer-lost': `ended peer-lost, ${over}, send bye, close-media, tone off`,
    'media-opened': 'answered, send update, start-media',
    'media-lost': 'answered, open-media',
    'media-heard': 'answered',
    'media-failed': `ended media-failed, ${over}, send bye, close-media, tone off`,
  },
  ended: {
    answer: 'not-now',
    reject: 'not-now',
    'hang-up': 'not-now',
    'peer-invite': 'not-now',
    'peer-ringing': 'not-now',
    'peer-answer': 'ended, send bye',
    'peer-reject': 'not-now',
    'peer-update': 'ended, send bye',
    'peer-bye': 'not-now',
    timeout: 'not-now',
    undeliverable: 'not-now',
    'peer-lost': 'not-now',
    'media-opened': 'ended, close-media',
    'media-lost': 'not-now',
    'media-heard': 'not-now',
    'media-failed': 'not-now',
  },
};

test('a call: every state with every event', async (t) => {
  for (const [state, row] of Object.entries(table)) {
    const start = starts[state as CallState];
    t.equal(start.state, state);
    for (const [name, expected] of Object.entries(row)) {
      t.equal(outcome(start, events[name as CallEventName]), expected, `${state}, ${name}`);
    }
  }
});

test('a call: how it begins, rings, is answered, and what its timers end', async (t) => {
  t.same(placeCall(options).effects.map(words), ['arm signalling', 'open-media']);
  t.same(transition(placed, { on: 'media-opened', local: here }).effects, [
    { do: 'send', message: { type: 'invite', local: here, ringMs: 30_000 } },
  ]);
  t.equal(outcome(placed, { on: 'hang-up' }), 'ended hung-up, disarm, close-media, tone off', 'nobody was invited yet');
  t.equal(
    outcome(invited, { on: 'timeout', timer: 'signalling' }),
    'ended unreachable, disarm, send bye, close-media, tone busy',
  );
  t.equal(
    outcome(answered, { on: 'timeout', timer: 'talk' }),
    'ended talk-timeout, disarm, send bye, close-media, tone off',
  );
  const first = receiveInvite({ ...options, remote: there, id: 'message-0', seq: 0 });
  t.same(first.effects.map(words), ['send ringing', 'tone bell', 'arm ring']);
  const answering = follow(ringingIn, { on: 'answer' });
  t.equal(outcome(answering, { on: 'answer' }), 'not-now', 'answered once');
  t.equal(
    outcome(answering, { on: 'media-opened', local: here }),
    'answered, send answer, tone off, start-media, arm talk',
  );
  t.equal(outcome(answering, { on: 'media-lost' }), 'ringing-in, open-media');
  t.equal(
    outcome(answering, { on: 'peer-bye', id: 'message-5', seq: 5, reason: 'no-answer' }),
    'ended no-answer, disarm, close-media, tone off',
    'bye while the answer is being made',
  );
  const hostile = transition(answered, { on: 'peer-bye', id: 'message-5', seq: 5, reason: '<b>\u0000'.repeat(50) });
  t.equal(hostile.call.reason, 'ended-by-peer');
});

test('a call: repeated and overtaken messages', async (t) => {
  const again = transition(ringingOut, { on: 'peer-ringing', id: 'message-1', seq: 0 });
  t.equal(again.ignored, 'duplicate');
  t.equal(again.call, ringingOut, 'a duplicate changes nothing at all');
  const moved = describedAt(51_000);
  const talking = follow(
    ringingOut,
    { on: 'peer-update', id: 'message-3', seq: 2, remote: moved },
    { on: 'peer-answer', id: 'message-2', seq: 1, remote: there },
  );
  t.equal(talking.state, 'answered', 'an answer that was overtaken is an answer');
  t.equal(talking.remote, moved, 'with the newer description');
  t.equal(outcome(talking, { on: 'peer-update', id: 'message-4', seq: 1, remote: there }), 'out-of-order');
  t.equal(outcome(talking, { on: 'peer-ringing', id: 'message-5', seq: 0 }), 'out-of-order');
  t.equal(
    outcome(talking, { on: 'peer-bye', id: 'message-6', seq: 0, reason: 'station-restarted' }),
    'ended station-restarted, disarm, close-media, tone off',
    'a goodbye counts whatever its number',
  );
  const flooded = Array.from({ length: 500 }, (_, index) => index).reduce(
    (call, index) => follow(call, { on: 'peer-update', id: `flood-${index}`, seq: 10 + index, remote: there }),
    answered,
  );
  t.ok(flooded.seen.ids.length <= 32, 'what is remembered is bounded');
});

test('an invite while a call lives: busy, known, glare', async (t) => {
  t.equal(judgeInvite(undefined, 'door', { callId: 'call-0002', from: 'indoor' }), 'take');
  t.equal(judgeInvite(ended, 'door', { callId: 'call-0002', from: 'indoor' }), 'take');
  t.equal(judgeInvite(ringingIn, 'door', { callId: 'call-0001', from: 'indoor' }), 'known');
  t.equal(judgeInvite(answered, 'door', { callId: 'call-0002', from: 'indoor' }), 'busy');
  t.equal(judgeInvite(invited, 'door', { callId: 'call-0002', from: 'garage' }), 'busy');
  t.equal(judgeInvite(invited, 'door', { callId: 'call-0002', from: 'indoor' }), 'busy', 'the lower id keeps its call');
  const atIndoor = { ...invited, peer: 'door' };
  t.equal(judgeInvite(atIndoor, 'indoor', { callId: 'call-0002', from: 'door' }), 'yield', 'the other gives way');
});

test("the door's authority: one nonce, one opening, in time, in its call", async (t) => {
  const clock = new ManualClock();
  let made = 0;
  const door = new DoorAuthority({
    clock,
    ttlMs: 3_000,
    makeNonce: () => {
      made += 1;
      return `nonce-${made}`;
    },
  });
  const now = { callId: 'call-0001', retained: false };
  t.same(door.challenge(now), { refusal: 'no-call' });
  door.callLives('call-0001');
  t.same(door.challenge({ ...now, retained: true }), { refusal: 'retained' });
  t.same(door.challenge(now), { nonce: 'nonce-1' });
  t.same(door.redeem({ ...now, nonce: 'nonce-1', retained: true }), { refusal: 'retained' });
  t.same(door.redeem({ ...now, nonce: 'nonce-7' }), { refusal: 'unknown-nonce' });
  t.same(door.redeem({ ...now, nonce: 'nonce-1', callId: 'call-0002' }), { refusal: 'no-call' });
  clock.advance(3_000);
  t.same(door.redeem({ ...now, nonce: 'nonce-1' }), { opens: true }, 'at the last instant');
  t.same(door.redeem({ ...now, nonce: 'nonce-1' }), { refusal: 'replayed' });
  door.callLives('call-0001');
  t.same(door.redeem({ ...now, nonce: 'nonce-1' }), { refusal: 'replayed' }, 'a call that lives on forgets nothing');

  door.challenge(now);
  clock.advance(3_001);
  t.same(door.redeem({ ...now, nonce: 'nonce-2' }), { refusal: 'late' });
  t.same(door.redeem({ ...now, nonce: 'nonce-2' }), { refusal: 'replayed' }, 'late once, spent for good');
  door.challenge(now);
  door.challenge(now);
  t.same(door.redeem({ ...now, nonce: 'nonce-3' }), { refusal: 'replayed' }, 'a new nonce takes the old one back');
  t.same(door.redeem({ ...now, nonce: 'nonce-4' }), { opens: true });
  door.challenge(now);
  door.callEnded('call-0001');
  t.same(door.redeem({ ...now, nonce: 'nonce-5' }), { refusal: 'no-call' });
  door.callLives('call-0001');
  t.same(door.redeem({ ...now, nonce: 'nonce-5' }), { refusal: 'unknown-nonce' }, 'nor in a later call of that name');
  t.same(door.refused.all(), { 'no-call': 3, retained: 2, 'unknown-nonce': 2, replayed: 4, late: 1 });
});
