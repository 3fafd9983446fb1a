import { test } from 'tap';
import { FixedDelayJitterBuffer } from '../src/playout/fixed-delay.js';
import type { RtpPacket } from '../src/rtp/rtp-packet.js';
import { seededRandom } from './support/random.js';

const PACKET_MS = 20;

/** Sequence number in the first bytes, so that a decision says which packet it took. */
function packet(sequence: number, options: { ssrc?: number; sizeBytes?: number } = {}): RtpPacket {
  const payload = Buffer.alloc(options.sizeBytes ?? 60);
  payload.writeUInt16BE(sequence & 0xffff);
  return {
    payloadType: 96,
    marker: false,
    sequence: sequence & 0xffff,
    timestamp: (sequence * 960) >>> 0,
    ssrc: options.ssrc ?? 1,
    csrcs: [],
    extension: null,
    payload,
  };
}

type Arrival = readonly [sequence: number, atMs: number];

/** Runs arrivals against a speaker that pulls every 20 ms from 5 ms on: `7` played, `fec7` from 7, `c` concealed, `.` waits. */
function playout(arrivals: readonly Arrival[], options: { delayMs?: number; untilMs: number }) {
  const buffer = new FixedDelayJitterBuffer({ delayMs: options.delayMs ?? 40, clockRateHz: 48_000 });
  const inserted: string[] = [];
  const played: string[] = [];
  const left = [...arrivals];
  for (let nowMs = 5; nowMs < options.untilMs; nowMs += PACKET_MS) {
    while ((left[0]?.[1] ?? Number.POSITIVE_INFINITY) <= nowMs) {
      const [sequence, atMs] = left.shift() ?? [0, 0];
      inserted.push(buffer.insert(packet(sequence), atMs));
    }
    const decision = buffer.pull(nowMs);
    if (decision.kind === 'play') played.push(String(Buffer.from(decision.payload).readUInt16BE()));
    else if (decision.kind === 'fec') played.push(`fec${Buffer.from(decision.nextPayload).readUInt16BE()}`);
    else played.push(decision.kind === 'conceal' ? 'c' : '.');
  }
  return { played: played.join(' '), inserted, figures: buffer.figures };
}

/** Packets `from` … `to`, sent every 20 ms from 0 on, without those in `without`, each `delayMs(sequence)` under way. */
function stream(from: number, to: number, without: readonly number[] = [], delayMs = (_: number) => 0): Arrival[] {
  const arrivals: Arrival[] = [];
  for (let sequence = from; sequence <= to; sequence++) {
    if (!without.includes(sequence)) arrivals.push([sequence, (sequence - from) * PACKET_MS + delayMs(sequence)]);
  }
  return arrivals.sort((a, b) => a[1] - b[1]);
}

test('vectors: sequence and arrival in, playout out', async (t) => {
  const vectors: { name: string; arrivals: Arrival[]; untilMs: number; played: string }[] = [
    { name: 'in order', arrivals: stream(1, 6), untilMs: 165, played: '. . 1 2 3 4 5 6' },
    { name: 'across the wrap', arrivals: stream(65_534, 65_538), untilMs: 145, played: '. . 65534 65535 0 1 2' },
    {
      name: 'reordered',
      arrivals: stream(1, 6, [], (sequence) => (sequence === 3 ? 25 : 0)),
      untilMs: 165,
      played: '. . 1 2 3 4 5 6',
    },
    {
      name: 'the first is overtaken by the second',
      arrivals: stream(1, 4, [], (sequence) => (sequence === 1 ? 25 : 0)),
      untilMs: 145,
      played: '. . . 1 2 3 4',
    },
    { name: 'one lost', arrivals: stream(1, 6, [3]), untilMs: 165, played: '. . 1 2 fec4 4 5 6' },
    { name: 'two lost', arrivals: stream(1, 7, [3, 4]), untilMs: 185, played: '. . 1 2 c fec5 5 6 7' },
    {
      name: 'a burst of loss longer than the buffer keeps the delay',
      arrivals: stream(1, 10, [3, 4, 5, 6, 7]),
      untilMs: 245,
      played: '. . 1 2 c c c c fec8 8 9 10',
    },
    {
      name: 'late, and duplicates',
      arrivals: [...stream(1, 5, [2]), [2, 95] as const, [4, 96] as const, [1, 97] as const],
      untilMs: 145,
      played: '. . 1 fec3 3 4 5',
    },
    {
      name: 'the end: concealed for 120 ms, then silence',
      arrivals: stream(1, 2),
      untilMs: 265,
      played: '. . 1 2 c c c c c c . . .',
    },
  ];
  for (const { name, arrivals, untilMs, played } of vectors)
    t.equal(playout(arrivals, { untilMs }).played, played, name);

  const late = playout([...stream(1, 5, [2]), [2, 95], [5, 96], [1, 97]], { untilMs: 145 });
  t.match(late.figures, { late: 1, duplicate: 2, reordered: 0 });
  t.match(
    playout(
      stream(1, 6, [], (sequence) => (sequence === 3 ? 25 : 0)),
      { untilMs: 165 },
    ).figures,
    { reordered: 1 },
  );
  t.ok(Math.abs(playout(stream(1, 50), { untilMs: 1_000 }).figures.delayMs - 45) < 1, 'the delay is shown');
});

test('a stream that stops and comes again begins with the same delay', async (t) => {
  const again = stream(3, 6).map(([sequence, atMs]): Arrival => [sequence, atMs + 400]);
  const { played } = playout([...stream(1, 2), ...again], { untilMs: 545 });
  t.match(played, /^\. \. 1 2 c c c c c c( \.)+ 3 4 5 6/);
  t.equal(played.split(' ').indexOf('3'), (400 + 40) / PACKET_MS, 'as long after its arrival as the first');
});

test('a long outage leaves room for what comes after it', async (t) => {
  const buffer = new FixedDelayJitterBuffer({ delayMs: 1_000, clockRateHz: 48_000 });
  buffer.insert(packet(0), 0);
  for (let nowMs = 0; nowMs < 2_400; nowMs += PACKET_MS) buffer.pull(nowMs);
  const results = Array.from({ length: 50 }, (_, i) => buffer.insert(packet(120 + i), 2_400 + i * PACKET_MS));
  t.same(new Set(results), new Set(['queued']));
  t.equal(buffer.pull(3_399).kind, 'wait');
  t.same(buffer.pull(3_400), { kind: 'play', payload: packet(120).payload });
});

test('a restarted sender is followed: another SSRC at once, another sequence with its second packet', async (t) => {
  const buffer = new FixedDelayJitterBuffer({ delayMs: 0, clockRateHz: 48_000 });
  t.equal(buffer.insert(packet(100), 0), 'queued');
  t.equal(buffer.pull(0).kind, 'play');
  t.equal(buffer.insert(packet(9_000, { ssrc: 2 }), 20), 'resynchronised');
  t.same(buffer.pull(20), { kind: 'play', payload: packet(9_000).payload });
  t.equal(buffer.insert(packet(30_000, { ssrc: 2 }), 40), 'jump', 'one stray packet is dropped');
  t.equal(buffer.insert(packet(9_001, { ssrc: 2 }), 41), 'queued');
  t.same(buffer.pull(41), { kind: 'play', payload: packet(9_001).payload });
  t.equal(buffer.insert(packet(50, { ssrc: 2 }), 60), 'jump');
  t.equal(buffer.insert(packet(51, { ssrc: 2 }), 80), 'resynchronised');
  t.same(buffer.pull(80), { kind: 'play', payload: packet(51).payload });
  t.equal(buffer.insert(packet(40, { ssrc: 2 }), 100), 'late', 'a small step back is lateness');
  for (let sequence = 20; sequence < 44; sequence++) buffer.insert(packet(sequence, { ssrc: 2 }), 100);
  t.equal(buffer.insert(packet(44, { ssrc: 2 }), 120), 'resynchronised', 'unless it goes on');
});

/** The longest and the last wait from arrival to playout, in ms, of a stream against a speaker. */
function waits(options: {
  seconds: number;
  senderPpm?: number;
  arrivalMs?: (sentMs: number) => number;
  sizeBytes?: (i: number) => number;
}) {
  const buffer = new FixedDelayJitterBuffer({ delayMs: 40, clockRateHz: 48_000 });
  const arrivalOf = options.arrivalMs ?? ((sentMs) => sentMs);
  const packetMs = PACKET_MS / (1 + (options.senderPpm ?? 0) / 1e6);
  const sentAt = new Map<number, number>();
  let sequence = 0;
  let lastMs = 0;
  let longestMs = 0;
  let played = 0;
  let lost = 0;
  const skippedSizes: number[] = [];
  let before = -1;
  for (let nowMs = 0; nowMs < options.seconds * 1000; nowMs += PACKET_MS) {
    while (arrivalOf(sequence * packetMs) <= nowMs) {
      sentAt.set(sequence, arrivalOf(sequence * packetMs));
      buffer.insert(
        packet(sequence, { sizeBytes: options.sizeBytes?.(sequence) ?? 60 }),
        arrivalOf(sequence * packetMs),
      );
      sequence += 1;
    }
    const decision = buffer.pull(nowMs);
    if (decision.kind === 'play') {
      const now = Buffer.from(decision.payload).readUInt16BE();
      for (let skipped = before + 1; skipped < now; skipped++) skippedSizes.push(options.sizeBytes?.(skipped) ?? 60);
      before = now;
      lastMs = nowMs - (sentAt.get(now) ?? nowMs);
      longestMs = Math.max(longestMs, lastMs);
      played += 1;
    } else if (decision.kind !== 'wait') {
      lost += 1;
    }
  }
  return { lastMs, longestMs, played, lost, skippedSizes, figures: buffer.figures };
}

test('the delay does not grow: drifting clocks, stalls, a paused speaker', async (t) => {
  const fast = waits({ seconds: 600, senderPpm: 1_000 });
  t.ok(fast.longestMs <= 40 + 2 * PACKET_MS, `a fast sender: ${fast.longestMs} ms at most`);
  t.ok(
    fast.figures.skipped >= 20 && fast.figures.skipped <= 40,
    `${fast.figures.skipped} packets of 30 too many left out`,
  );

  const slow = waits({ seconds: 600, senderPpm: -1_000 });
  t.ok(slow.longestMs <= 40 + 2 * PACKET_MS, `a slow sender: ${slow.longestMs} ms at most`);
  t.ok(slow.lost <= 40, `${slow.lost} times concealed for 30 that were missing`);

  const quiet = waits({ seconds: 100, senderPpm: 2_000, sizeBytes: (i) => (i % 10 === 0 ? 12 : 60) });
  t.ok(quiet.skippedSizes.length >= 5, 'some were left out');
  t.same([...new Set(quiet.skippedSizes)], [12], 'small packets, where there are any');

  for (const stallMs of [60, 100, 200, 500, 3_000]) {
    // What is sent during the stall arrives at its end.
    const arrivalMs = (sentMs: number) => (sentMs >= 2_000 && sentMs < 2_000 + stallMs ? 2_000 + stallMs : sentMs);
    const stalled = waits({ seconds: 20, arrivalMs });
    t.ok(stalled.longestMs <= 40 + 100 + PACKET_MS, `a stall of ${stallMs} ms: ${stalled.longestMs} ms at most`);
    t.ok(stalled.lastMs <= 40 + PACKET_MS, `and ${stalled.lastMs} ms in the end`);
  }

  const buffer = new FixedDelayJitterBuffer({ delayMs: 40, clockRateHz: 48_000 });
  for (let i = 0; i < 10_000; i++) buffer.insert(packet(i), i * PACKET_MS);
  t.ok(buffer.figures.level <= 128, 'a speaker that does not pull costs no more than the slots');
  const first = buffer.pull(10_000 * PACKET_MS);
  const next = first.kind === 'play' ? Buffer.from(first.payload).readUInt16BE() : -1;
  t.ok(next > 10_000 - 130, `and is given what is new: ${next}`);
});

test('a longer way is followed, with a delay that comes down again', async (t) => {
  const longer = waits({ seconds: 30, arrivalMs: (sentMs) => (sentMs < 5_000 ? sentMs : sentMs + 300) });
  t.ok(longer.lastMs <= 40 + PACKET_MS, `${longer.lastMs} ms`);
  t.ok(longer.played > 1_450, `${longer.played} of 1,500 played`);
});

test('random loss, jitter and duplicates: every packet time is accounted for', async (t) => {
  const random = seededRandom(7);
  const arrivals: Arrival[] = [];
  let lost = 0;
  for (let i = 0; i < 5_000; i++) {
    if (random() < 0.1) lost += 1;
    else arrivals.push([i, i * PACKET_MS + random() * 30]);
    if (random() < 0.02) arrivals.push([i, i * PACKET_MS + 60 + random() * 30]);
  }
  arrivals.sort((a, b) => a[1] - b[1]);
  const { played, inserted, figures } = playout(arrivals, { untilMs: 5_000 * PACKET_MS });
  const kinds = played.split(' ');
  const numbers = kinds.filter((kind) => /^\d+$/.test(kind)).map(Number);
  t.ok(
    numbers.every((number, i) => i === 0 || number > (numbers[i - 1] ?? -1)),
    'in order, none twice',
  );
  const onTime = inserted.filter((result) => result === 'queued' || result === 'reordered').length;
  t.equal(
    numbers.length + figures.skipped + figures.level,
    onTime,
    'what came in time was played, skipped or is there',
  );
  const made = kinds.filter((kind) => kind.startsWith('fec') || kind === 'c').length;
  t.ok(made >= lost * 0.8 && made <= lost * 1.2 + 5, `${made} made good for ${lost} lost`);
  t.ok(kinds.filter((kind) => kind.startsWith('fec')).length > made / 2, 'most from the packet that follows');
});
