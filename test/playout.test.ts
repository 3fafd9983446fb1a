import { test } from 'tap';
import { Playout } from '../src/playout/playout.js';
import type { RtpPacket } from '../src/rtp/rtp-packet.js';
import { type Heard, listen, PlainDecoder, RATE_HZ, sine, stream } from './support/playout-line.js';
import { seededRandom } from './support/random.js';

const PACKET_MS = 20;

/** Sequence number in the first sample, so that what is decoded says which packet it was; every 20 ms of it alike. */
function packet(sequence: number, change: Partial<RtpPacket> = {}): RtpPacket {
  const samples = new Int16Array((PACKET_MS * RATE_HZ) / 1000);
  samples[0] = sequence & 0x7fff;
  return {
    payloadType: 96,
    marker: false,
    sequence: sequence & 0xffff,
    timestamp: (sequence * 320) >>> 0,
    ssrc: 1,
    csrcs: [],
    extension: null,
    payload: new Uint8Array(samples.buffer),
    ...change,
  };
}

/** Writes down what it is asked for: `7`, `fec8` for 7 from 8, `c` for 10 ms of concealment. */
class LoggingDecoder extends PlainDecoder {
  readonly log: string[] = [];

  override decode(payload: Uint8Array): Int16Array {
    const block = super.decode(payload);
    this.log.push(String(block[0]));
    return block;
  }

  override decodeFec(nextPayload: Uint8Array): Int16Array {
    const block = super.decode(nextPayload);
    this.log.push(`fec${block[0]}`);
    return block;
  }

  override conceal(sampleCount = 0): Int16Array {
    this.log.push('c');
    return new Int16Array(sampleCount);
  }
}

type Arrival = readonly [sequence: number, atMs: number, change?: Partial<RtpPacket>];

/** Runs arrivals against a speaker that pulls every 10 ms from 5 ms on. */
function vector(arrivals: readonly Arrival[], untilMs: number, carriesFec = true, leastMs = 0) {
  const decoder = new LoggingDecoder();
  const playout = new Playout({
    rateHz: RATE_HZ,
    clockRateHz: RATE_HZ,
    decoder,
    leastMs,
    carriesFec: () => carriesFec,
  });
  const inserted: string[] = [];
  const left = [...arrivals].sort((a, b) => a[1] - b[1]);
  for (let nowMs = 5; nowMs < untilMs; nowMs += 10) {
    while ((left[0]?.[1] ?? Number.POSITIVE_INFINITY) <= nowMs) {
      const [sequence, atMs, change] = left.shift() ?? [0, 0];
      inserted.push(playout.insert(packet(sequence, change), atMs));
    }
    playout.pull(nowMs);
  }
  return { log: decoder.log.join(' '), inserted, figures: playout.figures };
}

/** Packets `from` … `to`, sent every 20 ms from 0 on, without those in `without`, each `wayMs(sequence)` under way. */
function sent(from: number, to: number, without: readonly number[] = [], wayMs = (_: number) => 0): Arrival[] {
  const arrivals: Arrival[] = [];
  for (let sequence = from; sequence <= to; sequence++) {
    if (!without.includes(sequence)) arrivals.push([sequence, (sequence - from) * PACKET_MS + wayMs(sequence)]);
  }
  return arrivals;
}

test('vectors: sequence and arrival in, decoding out', async (t) => {
  const vectors: { name: string; arrivals: Arrival[]; untilMs: number; log: string; noFec?: true; leastMs?: number }[] =
    [
      { name: 'in order', arrivals: sent(1, 6), untilMs: 145, log: '1 2 3 4 5 6' },
      { name: 'across the wrap', arrivals: sent(65_534, 65_538), untilMs: 125, log: '32766 32767 0 1 2' },
      {
        name: 'reordered within the delay',
        arrivals: sent(1, 6, [], (sequence) => (sequence === 3 ? 19 : 0)),
        untilMs: 145,
        log: '1 2 3 4 5 6',
      },
      {
        name: 'the first is overtaken by the second',
        arrivals: sent(1, 4, [], (sequence) => (sequence === 1 ? 25 : 0)),
        untilMs: 115,
        log: '1 2 3 4',
      },
      { name: 'one lost, and FEC in time', arrivals: sent(1, 6, [3]), untilMs: 145, log: '1 2 fec4 4 5 6' },
      { name: 'one lost without FEC', arrivals: sent(1, 6, [3]), untilMs: 145, log: '1 2 c c 4 5 6', noFec: true },
      { name: 'two lost', arrivals: sent(1, 7, [3, 4]), untilMs: 165, log: '1 2 c c fec5 5 6 7' },
      {
        name: 'a long burst of loss keeps the delay',
        arrivals: sent(1, 9, [3, 4, 5, 6]),
        untilMs: 205,
        log: '1 2 c c c c c c fec7 7 8 9',
      },
      {
        name: 'what comes after the start of its concealment is played, and the delay grows by that',
        arrivals: sent(1, 6, [], (sequence) => (sequence >= 3 ? 30 : 0)),
        untilMs: 165,
        log: '1 2 c 3 4 5 6',
      },
      {
        name: 'FEC that comes while its packet is concealed serves for the rest of it',
        arrivals: sent(1, 6, [3], (sequence) => (sequence === 4 ? 9 : 0)),
        untilMs: 145,
        log: '1 2 c fec4 4 5 6',
      },
    ];
  for (const { name, arrivals, untilMs, log, noFec, leastMs } of vectors) {
    t.equal(vector(arrivals, untilMs, noFec !== true, leastMs).log, log, name);
  }
  const late = vector([...sent(1, 5, [2]), [2, 95], [5, 96], [1, 97]], 145);
  t.same(late.inserted.slice(-3), ['late', 'duplicate', 'duplicate']);
  t.match(late.figures, { late: 1, duplicate: 2, reordered: 0, lostRuns: 1, lostPackets: 1, fecDecoded: 1 });
  const overtaken = vector(
    sent(1, 6, [], (sequence) => (sequence === 3 ? 25 : 0)),
    145,
  );
  t.match(overtaken.figures, { reordered: 1, lostPackets: 0 });
});

test('packets that are no audio are not lost: their time is a pause', async (t) => {
  /** 1 … 3, then events with the numbers 4 … `last` every 20 ms, then speech again. */
  const told = (last: number, isLost = (_: number) => false) => {
    const decoder = new LoggingDecoder();
    const playout = new Playout({ rateHz: RATE_HZ, clockRateHz: RATE_HZ, decoder, carriesFec: () => true });
    for (let sequence = 1; sequence <= last + 5; sequence++) {
      const nowMs = sequence * PACKET_MS;
      const isEvent = sequence > 3 && sequence <= last;
      if (isEvent && !isLost(sequence)) playout.noAudio(packet(sequence));
      else if (!isEvent) playout.insert(packet(sequence), nowMs);
      for (const pulledMs of [nowMs + 5, nowMs + 15]) playout.pull(pulledMs);
    }
    return { heard: decoder.log.filter((one) => one !== 'c').join(' '), figures: playout.figures };
  };
  const none = { lostRuns: 0, lostPackets: 0, concealedMs: 0, concealed: 0, fecDecoded: 0, late: 0, resynchronised: 0 };
  for (const last of [4, 13, 600]) {
    const { heard, figures } = told(last);
    t.match(figures, none, `${last - 3} of them`);
    t.equal(heard, `1 2 3 ${last + 1} ${last + 2} ${last + 3} ${last + 4}`);
  }
  t.match(told(7, (sequence) => sequence === 5).figures, { lostRuns: 1, lostPackets: 1 }, 'one that is lost is');

  const playout = new Playout({ rateHz: RATE_HZ, clockRateHz: RATE_HZ, decoder: new LoggingDecoder() });
  playout.noAudio(packet(7));
  for (const sequence of [1, 2]) playout.insert(packet(sequence), sequence * PACKET_MS);
  for (let nowMs = 40; nowMs < 90; nowMs += 10) playout.pull(nowMs);
  for (const sequence of [2, 1, 3, 3, 9_000, 30_000]) playout.noAudio(packet(sequence));
  playout.noAudio(packet(4, { ssrc: 9 }));
  t.equal(playout.insert(packet(3), 100), 'duplicate', 'speech with the number of an event is not played');
  t.equal(playout.insert(packet(4), 100), 'queued');
});

test('a restarted sender is followed: another SSRC at once, another sequence with its second packet', async (t) => {
  const decoder = new LoggingDecoder();
  const playout = new Playout({ rateHz: RATE_HZ, clockRateHz: RATE_HZ, decoder });
  const insert = (sequence: number, atMs: number, ssrc: number) => playout.insert(packet(sequence, { ssrc }), atMs);
  const pull = (fromMs: number, toMs: number) => {
    for (let nowMs = fromMs; nowMs < toMs; nowMs += 10) playout.pull(nowMs);
    return decoder.log.filter((one) => one !== 'c').at(-1);
  };
  t.equal(insert(100, 0, 1), 'queued');
  t.equal(pull(0, 60), '100');
  t.equal(insert(9_000, 60, 2), 'resynchronised');
  t.equal(pull(60, 120), '9000');
  t.equal(insert(30_000, 120, 2), 'jump', 'one stray packet is dropped');
  t.equal(insert(9_001, 121, 2), 'queued');
  t.equal(pull(130, 180), '9001');
  t.equal(insert(50, 180, 2), 'jump');
  t.equal(insert(51, 200, 2), 'resynchronised');
  t.equal(pull(200, 260), '51');
  t.equal(insert(40, 260, 2), 'late', 'a small step back is lateness');
  for (let sequence = 20; sequence < 44; sequence++) insert(sequence, 260, 2);
  t.equal(insert(44, 261, 2), 'resynchronised', 'unless it goes on');
  t.equal(pull(270, 330), '44');
  t.equal(insert(2_000, 10_000, 2), 'resynchronised', 'after an outage nothing needs to be confirmed');
  t.match(playout.figures, { resynchronised: 4 });
});

test('hostile input: nothing throws, nothing grows, playout goes on', async (t) => {
  const random = seededRandom(6);
  const whole = stream({ signal: sine(20), rateHz: RATE_HZ });
  const after = (heard: Heard) =>
    heard.samples.subarray(15 * RATE_HZ).filter((sample) => Math.abs(sample) > 4_000).length;
  const attacks: Record<string, (i: number) => Partial<RtpPacket>> = {
    'timestamps by chance': () => ({ timestamp: Math.floor(random() * 2 ** 32) }),
    'timestamps that stand still': () => ({ timestamp: 5 }),
    'timestamps that go back': (i) => ({ timestamp: (2 ** 32 - i * 320) >>> 0 }),
    'timestamps that leap': (i) => ({ timestamp: (i * 320 + (i > 200 ? 2 ** 31 - 1 : 0)) >>> 0 }),
    'a second ahead now and then': (i) => ({ timestamp: i * 320 + (i % 50 === 7 ? 16_000 : 0) }),
    'half a sample': (i) => (i % 4 === 1 ? { payload: new Uint8Array(3) } : {}),
    'empty payloads': (i) => (i % 4 === 1 ? { payload: new Uint8Array(0) } : {}),
    'payloads of a second': (i) => (i % 40 === 1 ? { payload: new Uint8Array(2 * RATE_HZ) } : {}),
    'sequences by chance now and then': (i) => (i % 7 === 3 ? { sequence: Math.floor(random() * 65_536) } : {}),
    'another source now and then': (i) => (i % 100 === 3 ? { ssrc: i } : {}),
  };
  for (const [name, change] of Object.entries(attacks)) {
    let failed = 0;
    const arrivals = whole.map((one, i) => ({ ...one, packet: { ...one.packet, ...change(i) } }));
    const heard = listen(arrivals, {
      rateHz: RATE_HZ,
      untilMs: 20_000,
      decoderFailed: () => {
        failed += 1;
      },
    });
    t.ok(after(heard) > RATE_HZ / 2, `${name}: heard on, ${after(heard)} loud samples in 5 s`);
    t.ok(heard.figures.level <= 256 && heard.figures.targetDelayMs <= 300);
    if (name === 'half a sample') t.equal(failed, 250, 'each is told of');
  }
  const playout = new Playout({ rateHz: RATE_HZ, clockRateHz: RATE_HZ, decoder: new PlainDecoder() });
  for (let i = 0; i < 10_000; i++) playout.insert(packet(i), i * PACKET_MS);
  t.ok(playout.figures.level <= 256, 'a speaker that does not pull costs no more than the slots');
  for (let i = 0; i < 400; i++) {
    playout.insert(packet(10_000 + i), (10_000 + i) * PACKET_MS);
    for (const ms of [0, 10]) playout.pull((10_000 + i) * PACKET_MS + ms + 5);
  }
  t.ok(playout.figures.delayMs < 30, `and is given what is new: ${playout.figures.delayMs} ms`);
});
