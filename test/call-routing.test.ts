import { test } from 'tap';
import { CallRouting, type RoutedMessage } from '../src/call/call-routing.js';
import { Directory } from '../src/call/directory.js';
import { ManualClock } from '../src/core/clock.js';
import { DIRECTORY } from './support/site.js';

function routing(online: string[] = ['door', 'panel', 'attic']): { clock: ManualClock; routing: CallRouting } {
  const clock = new ManualClock();
  const made = new CallRouting({ directory: new Directory(DIRECTORY), clock });
  for (const station of online) made.setOnline(station, true);
  return { clock, routing: made };
}

/** Tells a decision in a line: `door>panel`, `reject unreachable`, `drop no-such-call`. */
function told(table: CallRouting, sender: string, type: string, more: Partial<RoutedMessage> = {}): string {
  const ring = type === 'invite' ? { ringMs: 30_000 } : {};
  const decision = table.route(sender, { type, callId: 'call-0001', from: 'forged', to: 'panel', ...ring, ...more });
  if (decision.kind === 'forward') return `${decision.message.from}>${decision.message.to}`;
  return decision.kind === 'reject' ? `reject ${decision.reason} from ${decision.from}` : `drop ${decision.fault}`;
}

test('an invite is resolved by the directory, and refused for a reason', async (t) => {
  const table: [sender: string, to: string, expected: string][] = [
    ['door', 'panel', 'door>panel'],
    ['door', ' PANEL ', 'door>panel'],
    ['door', '201', 'door>panel'],
    ['door', 'wohnung süd', 'door>panel'],
    ['door', 'wohnung su\u0308d', 'door>panel'],
    ['panel', '1', 'panel>door'],
    ['attic', 'Front Door', 'attic>door'],
    ['attic', 'panel', 'reject not-allowed from panel'],
    ['door', 'door', 'reject not-allowed from door'],
    ['door', 'nobody', 'reject unknown from undefined'],
    ['door', '9', 'reject unreachable from away'],
    ['burglar', 'panel', 'drop unknown-sender'],
  ];
  for (const [sender, to, expected] of table) {
    t.equal(told(routing().routing, sender, 'invite', { to }), expected, `${sender} calls "${to}"`);
  }
  const { routing: there } = routing();
  there.setOnline('panel', false);
  t.equal(told(there, 'door', 'invite'), 'reject unreachable from panel');
  there.setOnline('nobody', true);
  t.equal(told(there, 'door', 'invite', { to: 'nobody' }), 'reject unknown from undefined');
});

test('only the two parties of a live call write in it, each what is its to write', async (t) => {
  const { routing: table } = routing();
  const story: [sender: string, type: string, expected: string][] = [
    ['panel', 'answer', 'drop no-such-call'],
    ['door', 'invite', 'door>panel'],
    ['door', 'invite', 'door>panel'],
    ['panel', 'invite', 'drop call-id-taken'],
    ['attic', 'bye', 'drop not-a-party'],
    ['door', 'answer', 'drop wrong-direction'],
    ['panel', 'ringing', 'panel>door'],
    ['panel', 'answer', 'panel>door'],
    ['panel', 'door-request', 'panel>door'],
    ['door', 'door-challenge', 'door>panel'],
    ['attic', 'door-open', 'drop not-a-party'],
    ['panel', 'door-open', 'panel>door'],
    ['door', 'update', 'door>panel'],
    ['door', 'bye', 'door>panel'],
    ['panel', 'bye', 'drop no-such-call'],
    ['panel', 'door-open', 'drop no-such-call'],
    ['panel', 'update', 'reject no-such-call from undefined'],
    ['door', 'invite', 'door>panel'],
    ['panel', 'reject', 'panel>door'],
    ['panel', 'answer', 'drop no-such-call'],
  ];
  for (const [sender, type, expected] of story) {
    // The `to` of what is not an invite decides nothing.
    const to = type === 'invite' ? (sender === 'door' ? 'panel' : 'door') : 'attic';
    t.equal(told(table, sender, type, { to }), expected, `${sender}: ${type}`);
  }
});

test('calls are forgotten in time, and are bounded', async (t) => {
  const { clock, routing: table } = routing();
  told(table, 'door', 'invite');
  clock.advance(44_999);
  t.equal(told(table, 'panel', 'ringing'), 'panel>door');
  clock.advance(1);
  t.equal(told(table, 'panel', 'answer'), 'drop no-such-call', 'never answered');

  told(table, 'door', 'invite');
  told(table, 'panel', 'answer');
  clock.advance(24 * 3_600_000);
  t.equal(told(table, 'panel', 'bye'), 'panel>door', 'as long as any call may last');

  for (let n = 0; n < 8; n += 1) t.equal(told(table, 'door', 'invite', { callId: `call-1-${n}` }), 'door>panel');
  told(table, 'panel', 'invite', { callId: 'call-2-0', to: 'door' });
  for (let n = 0; n < 8; n += 1) told(table, 'panel', 'answer', { callId: `call-1-${n}` });
  t.equal(told(table, 'door', 'invite', { callId: 'call-1-8' }), 'door>panel', 'calls that nobody ended bar no other');
  t.equal(table.size, 9);
  t.equal(told(table, 'panel', 'bye', { callId: 'call-1-0' }), 'drop no-such-call', 'its oldest gave way');
  t.equal(told(table, 'door', 'answer', { callId: 'call-2-0' }), 'door>panel', "but no other station's");
  const before = table.changes;
  clock.advance(26 * 3_600_000);
  t.equal(told(table, 'door', 'invite'), 'door>panel');
  t.equal(table.size, 1);
  t.equal(table.changes, before + 10, 'the journal hears of what is forgotten');
});

test('a table that is full forgets its oldest call', async (t) => {
  const stations = Object.fromEntries(Array.from({ length: 20 }, (_, i) => [`s${i}`, { name: `S ${i}`, numbers: [] }]));
  const table = new CallRouting({ directory: new Directory(stations), clock: new ManualClock() });
  table.setOnline('s0', true);
  for (let n = 0; n < 101; n += 1) told(table, `s${1 + (n % 19)}`, 'invite', { callId: `call-${n}`, to: 's0' });
  t.equal(table.size, 100);
  t.equal(told(table, 's0', 'ringing', { callId: 'call-0' }), 'drop no-such-call');
  t.equal(told(table, 's0', 'ringing', { callId: 'call-1' }), 's0>s2');
});

test('live calls are taken up by the next run', async (t) => {
  const { clock, routing: table } = routing();
  told(table, 'door', 'invite');
  told(table, 'door', 'invite', { callId: 'call-0002' });
  told(table, 'panel', 'answer', { callId: 'call-0002' });
  clock.advance(10_000);
  t.same(
    table.live().map(({ callId, answered, leftMs }) => [callId, answered, leftMs]),
    [
      ['call-0001', false, 35_000],
      ['call-0002', true, 25 * 3_600_000 - 10_000],
    ],
  );
  const { clock: later, routing: next } = routing();
  next.restore([...table.live(), { callId: 'call-0003', caller: 'door', callee: 'gone', answered: true, leftMs: 1 }]);
  t.equal(next.size, 2, 'but none of a station that left the directory');
  t.equal(told(next, 'door', 'bye', { callId: 'call-0002' }), 'door>panel');
  t.equal(told(next, 'attic', 'bye'), 'drop not-a-party');
  later.advance(35_000);
  t.equal(told(next, 'panel', 'answer'), 'drop no-such-call');
});
