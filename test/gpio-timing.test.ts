import { test } from 'tap';
import { Debouncer } from '../src/adapters/gpio/debouncer.js';
import { KeptOpen } from '../src/adapters/gpio/kept-open.js';
import { StallWatch } from '../src/adapters/gpio/stall-watch.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { type Logger, silentLogger } from '../src/core/logger.js';

test('a contact counts when it has stood still', (t) => {
  const cases: { name: string; start: boolean; edges: [atMs: number, closed: boolean][]; told: [number, boolean][] }[] =
    [
      { name: 'a press', start: false, edges: [[10, true]], told: [[30, true]] },
      {
        name: 'bounces at both ends',
        start: false,
        edges: [
          [0, true],
          [3, false],
          [4, true],
          [9, false],
          [11, true],
          [100, false],
          [102, true],
          [104, false],
        ],
        told: [
          [31, true],
          [124, false],
        ],
      },
      {
        name: 'too short',
        start: false,
        edges: [
          [0, true],
          [19, false],
        ],
        told: [],
      },
      {
        name: 'a gap too short',
        start: true,
        edges: [
          [5, false],
          [24, true],
        ],
        told: [],
      },
      {
        name: 'held at the start',
        start: true,
        edges: [
          [50, false],
          [100, true],
        ],
        told: [
          [70, false],
          [120, true],
        ],
      },
    ];
  for (const { name, start, edges, told } of cases) {
    const clock = new ManualClock();
    let closed = start;
    const seen: [number, boolean][] = [];
    const debouncer = new Debouncer({
      debounceMs: 20,
      clock,
      read: () => closed,
      sinceMs: () => clock.nowMs(),
      onChange: (now) => seen.push([clock.nowMs(), now]),
    });
    for (const [atMs, now] of edges) {
      clock.advance(atMs - clock.nowMs());
      closed = now;
      debouncer.edge(now);
    }
    clock.advance(1_000);
    t.same(seen, told, name);
  }
  t.end();
});

test('a press is not lost to a process that stands still, and nothing else becomes one', (t) => {
  const on = { closed: true };
  const off = { closed: false };
  /** In this order: time passes, the process stands still, the contact changes, its edge is seen. */
  const cases: {
    name: string;
    steps: ({ pass: number } | { stall: number } | { closed: boolean } | 'edge')[];
    told: string;
  }[] = [
    { name: 'came and went in a stall', steps: [{ stall: 80 }, off, { pass: 0 }, 'edge'], told: 'on off' },
    { name: 'its edge is seen before the late timers', steps: [{ stall: 80 }, off, 'edge'], told: 'on off' },
    { name: 'came and went at once, seen in time', steps: ['edge'], told: '' },
    { name: 'came and went at once, long after a stall', steps: [{ stall: 80 }, { pass: 40 }, 'edge'], told: '' },
    { name: 'the stall was short', steps: [{ stall: 15 }, { pass: 0 }, 'edge'], told: '' },
    {
      name: 'went in a stall, and its timer reads that first',
      steps: [on, 'edge', { stall: 80 }, off, { pass: 0 }, 'edge'],
      told: 'on off',
    },
    {
      name: 'went soon after the stall in which it came',
      steps: [{ stall: 80 }, on, { pass: 0 }, 'edge', { pass: 5 }, off, 'edge'],
      told: 'on off',
    },
    {
      name: 'is closed for good in a stall',
      steps: [{ stall: 80 }, on, { pass: 0 }, 'edge', { pass: 100 }, off, 'edge'],
      told: 'on off',
    },
    {
      name: 'bounces when it opens, in a stall',
      steps: [
        on,
        'edge',
        { pass: 100 },
        off,
        'edge',
        on,
        { stall: 80 },
        { pass: 0 },
        'edge',
        { pass: 50 },
        off,
        'edge',
      ],
      told: 'on off',
    },
  ];
  for (const { name, steps, told } of cases) {
    const clock = new ManualClock();
    const stalls = new StallWatch(clock);
    let closed = false;
    const seen: string[] = [];
    const debouncer = new Debouncer({
      debounceMs: 20,
      clock,
      read: () => closed,
      sinceMs: () => stalls.sinceMs(),
      onChange: (now) => seen.push(now ? 'on' : 'off'),
    });
    clock.advance(1_000);
    for (const step of steps) {
      if (step === 'edge') debouncer.edge(closed);
      else if ('closed' in step) closed = step.closed;
      else if ('stall' in step) clock.stall(step.stall);
      else clock.advance(step.pass);
    }
    clock.advance(1_000);
    t.equal(seen.join(' '), told, name);
    stalls.stop();
  }
  t.end();
});

test('what cannot be opened is opened later, and complains once', (t) => {
  const clock = new ManualClock();
  const complaints: string[] = [];
  const logger: Logger = { ...silentLogger, warn: (_fields, message) => complaints.push(message) };
  let faulty = true;
  let open = 0;
  const kept = new KeptOpen({
    clock,
    logger,
    opening: {
      open: () => {
        if (faulty) throw new AppError('pin-taken', 'line 4 is held', { remedy: 'Free it' });
        open += 1;
        return 'part';
      },
      close: () => {
        open -= 1;
      },
    },
  });
  clock.advance(5_000);
  t.equal(kept.part, undefined);
  t.equal(kept.fault?.code, 'pin-taken');
  faulty = false;
  clock.advance(10_000);
  t.equal(kept.part, 'part');
  t.equal(kept.fault, null);
  t.equal(complaints.length, 1, 'one line for all the attempts');
  kept.lost(new AppError('pin-failed', 'it went away'));
  t.equal(kept.part, 'part', 'at once');
  t.equal(open, 1, 'the lost one is closed');
  kept.close();
  clock.advance(60_000);
  t.equal(open, 0);
  t.end();
});
