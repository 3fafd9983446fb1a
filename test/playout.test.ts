import { test } from 'tap';
import type { RateHz } from '../src/audio/frame.js';
import { Playout } from '../src/playout/playout.js';
import { correlation } from '../src/playout/time-stretch.js';
import type { RtpPacket } from '../src/rtp/rtp-packet.js';
import { type Heard, listen, PlainDecoder, type StreamOptions, stream } from './support/playout-line.js';
import { seededRandom } from './support/random.js';

const PACKET_MS = 20;
const RATE_HZ = 16_000;

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

const sine = (seconds: number, hz = 200, rateHz = RATE_HZ) =>
  Int16Array.from({ length: seconds * rateHz }, (_, i) => 8_000 * Math.sin((2 * Math.PI * hz * i) / rateHz));

/** A sine of 200 Hz through a line. */
function play(seconds: number, line: Partial<StreamOptions> & { phaseMs?: number; leastMs?: number } = {}): Heard {
  const arrivals = stream({ signal: sine(seconds), rateHz: RATE_HZ, ...line });
  const { phaseMs = 5, leastMs = 0 } = line;
  return listen(arrivals, { rateHz: RATE_HZ, untilMs: seconds * 1_000, phaseMs, leastMs });
}

/** The largest step from one sample to the next. */
function largestStep(samples: Int16Array): number {
  let largest = 0;
  for (let i = 1; i < samples.length; i++) {
    largest = Math.max(largest, Math.abs((samples[i] as number) - (samples[i - 1] as number)));
  }
  return largest;
}
/** What the sine itself has, and half as much for where it is faded over. */
const MOST_STEP = 1.5 * 8_000 * 2 * Math.PI * (200 / RATE_HZ);

test('a clean line: within three seconds the delay is less than a packet time', async (t) => {
  for (const phaseMs of [0, 2.5, 5, 7.5, 9.9]) {
    const clean = play(10, { phaseMs });
    t.ok(
      clean.delaysMs.slice(3).every((ms) => ms <= 16),
      `${clean.delaysMs.map(Math.round)} ms`,
    );
    t.match(clean.figures, { concealedMs: 0, late: 0, skipped: 0 });
    t.ok(largestStep(clean.samples) < MOST_STEP, 'no click');
  }
  const random = seededRandom(1);
  const jitter = play(30, { way: () => 10 + 3 * random() });
  t.ok(
    jitter.delaysMs.slice(5).every((ms) => ms <= 19),
    `${jitter.delaysMs.map(Math.round)} ms with 3 ms of jitter`,
  );
  t.ok(jitter.figures.concealedMs <= 20, `${jitter.figures.concealedMs} ms concealed`);
});

test('jitter, stalls, outages, longer and shorter ways: heard without clicks, and caught up with in two seconds', async (t) => {
  const random = seededRandom(2);
  const jitter = play(60, { way: () => 10 + 60 * random() });
  t.ok(jitter.figures.concealedMs <= 100, `${jitter.figures.concealedMs} ms concealed in 60 s of 60 ms of jitter`);
  t.ok(jitter.figures.targetDelayMs > 40 && jitter.figures.targetDelayMs <= 61, `${jitter.figures.targetDelayMs} ms`);

  for (const [stallMs, leftOut] of [
    [200, 0],
    [1_000, 0],
    [3_000, 100],
  ] as const) {
    const end = 20_000 + stallMs;
    const stall = play(30, { way: (_, sentMs) => 10 + (sentMs > 20_000 && sentMs < end ? end - sentMs : 0) });
    const after = stall.delaysMs[Math.ceil(end / 1_000) + 1] ?? 0;
    t.ok(after < 25, `${stallMs} ms: ${stall.delaysMs.map(Math.round)}`);
    t.ok(largestStep(stall.samples) < MOST_STEP, `a stall of ${stallMs} ms does not click`);
    t.ok(
      Math.abs(stall.figures.skipped - leftOut) <= 2,
      `${stall.figures.skipped}: what is older than a second is left out`,
    );
    t.ok(Math.abs(stall.figures.concealedMs - stallMs) <= 40, `${stall.figures.concealedMs} ms concealed`);
  }
  const outage = play(20, { way: (_, sentMs) => (sentMs > 5_000 && sentMs < 6_000 ? null : 10) });
  t.ok(
    outage.delaysMs.slice(3).every((ms) => ms <= 18),
    `${outage.delaysMs.map(Math.round)} ms around an outage`,
  );
  t.ok(Math.abs(outage.figures.concealedMs - 980) <= 10, `${outage.figures.concealedMs} ms concealed`);
  t.equal(outage.figures.lostPackets, 49);
  t.ok(largestStep(outage.samples) < MOST_STEP);

  for (const [beforeMs, afterMs] of [
    [10, 310],
    [310, 10],
  ] as const) {
    const way = play(30, { way: (_, sentMs) => (sentMs < 8_000 ? beforeMs : afterMs) });
    t.ok(
      way.delaysMs.slice(13).every((ms) => ms <= 20),
      `${beforeMs} to ${afterMs}: ${way.delaysMs.map(Math.round)}`,
    );
    t.ok(largestStep(way.samples) < MOST_STEP);
  }
});

test('clocks that run apart: after an hour the delay is that of the first minute', async (t) => {
  const minute = sine(60);
  const payloads = stream({ signal: minute, rateHz: RATE_HZ });
  for (const senderPpm of [200, -200]) {
    const playout = new Playout({ rateHz: RATE_HZ, clockRateHz: RATE_HZ, decoder: new PlainDecoder() });
    const packetMs = PACKET_MS / (1 + senderPpm / 1e6);
    const minutes: number[] = [];
    let sequence = 0;
    for (let minuteAt = 0; minuteAt < 60; minuteAt++) {
      let sum = 0;
      for (let i = 0; i < 6_000; i++) {
        const nowMs = (minuteAt * 6_000 + i) * 10 + 5;
        for (; sequence * packetMs <= nowMs; sequence++) {
          const { payload } = (payloads[sequence % payloads.length] as (typeof payloads)[number]).packet;
          playout.insert(packet(sequence, { payload, timestamp: (sequence * 320) >>> 0 }), sequence * packetMs);
        }
        playout.pull(nowMs);
        sum += playout.figures.delayMs;
      }
      minutes.push(sum / 6_000);
    }
    const [first = 0, last = 0] = [minutes[0], minutes.at(-1)];
    t.ok(Math.abs(last - first) <= 5, `${senderPpm} ppm: ${first.toFixed(1)} ms, then ${last.toFixed(1)} ms`);
    t.ok(Math.max(...minutes) - Math.min(...minutes) <= 5, 'nor in between');
    t.ok(playout.figures.concealedMs <= 200, `${playout.figures.concealedMs} ms concealed`);
  }
});

test('packet times and rates: 8, 16 and 48 kHz, 10 to 60 ms, and changed in mid-stream', async (t) => {
  for (const rateHz of [8_000, 16_000, 48_000] as RateHz[]) {
    for (const packetMs of [10, 20, 40, 60]) {
      const heard = listen(stream({ signal: sine(8, 200, rateHz), rateHz, packetMs }), { rateHz, untilMs: 8_000 });
      t.match(heard.figures, { concealedMs: 0, late: 0, skipped: 0 }, `${rateHz} Hz, ${packetMs} ms`);
      t.ok(
        heard.delaysMs.slice(4).every((ms) => ms <= 18),
        `${heard.delaysMs.map(Math.round)} ms`,
      );
      t.ok(largestStep(heard.samples) < (MOST_STEP * RATE_HZ) / rateHz);
    }
  }
  const changing = play(20, { packetMs: (index) => (index < 250 ? 20 : 60) });
  t.ok(changing.figures.concealedMs <= 50, `${changing.figures.concealedMs} ms concealed`);
  t.ok(
    changing.delaysMs.slice(12).every((ms) => ms <= 20),
    `${changing.delaysMs.map(Math.round)} ms`,
  );
  t.ok(largestStep(changing.samples) < MOST_STEP);
});

/** Pitch by autocorrelation, Hz, of 40 ms from each of `atMs` on. */
function pitchesHz(samples: Int16Array, atMs: readonly number[]): number[] {
  return atMs.map((ms) => {
    const from = (ms * RATE_HZ) / 1_000;
    const length = 0.02 * RATE_HZ;
    let best = 0;
    let bestLikeness = 0;
    for (let lag = RATE_HZ / 320; lag <= RATE_HZ / 80; lag++) {
      const likeness = correlation(samples, from, from + lag, length);
      if (likeness > bestLikeness + 0.01) {
        best = lag;
        bestLikeness = likeness;
      }
    }
    return RATE_HZ / best;
  });
}

/** Like a voice: harmonics of a pitch, in syllables with pauses between them. */
function voiced(seconds: number, pitchHz: number): Int16Array {
  return Int16Array.from({ length: seconds * RATE_HZ }, (_, i) => {
    const phase = (2 * Math.PI * pitchHz * i) / RATE_HZ;
    const syllable = Math.max(0, Math.sin((2 * Math.PI * 2.5 * i) / RATE_HZ) + 0.6);
    let value = 0;
    for (let harmonic = 1; harmonic <= 6; harmonic++) value += Math.sin(harmonic * phase) / harmonic;
    return 3_000 * syllable * value;
  });
}

test('stretching keeps the pitch, of a voice too', async (t) => {
  for (const pitchHz of [95, 140, 220]) {
    const signal = voiced(12, pitchHz);
    // A stall of 1 s: what comes after it is played half as fast again for two seconds.
    const stalled = stream({
      signal,
      rateHz: RATE_HZ,
      way: (_, ms) => 10 + (ms > 4_000 && ms < 5_000 ? 5_000 - ms : 0),
    });
    const heard = listen(stalled, { rateHz: RATE_HZ, untilMs: 12_000 });
    t.ok(heard.figures.acceleratedMs > 800, `${heard.figures.acceleratedMs} ms left out`);
    const times = Array.from({ length: 40 }, (_, i) => 5_100 + 50 * i);
    const loud = times.filter((ms) => {
      const at = (ms * RATE_HZ) / 1_000;
      return heard.samples.subarray(at, at + 640).some((sample) => Math.abs(sample) > 3_000);
    });
    const wrong = pitchesHz(heard.samples, loud).filter((hz) => Math.abs(hz / pitchHz - 1) > 0.03);
    t.ok(wrong.length <= loud.length / 10, `${pitchHz} Hz: ${loud.length - wrong.length} of ${loud.length} kept it`);
    t.ok(largestStep(heard.samples) < 1.3 * largestStep(signal), 'without a click');
  }
});

test('the far end pauses: comfort noise, then nothing; nothing of it is loss, and it begins again at the same delay', async (t) => {
  const random = seededRandom(4);
  // Speech on a background of noise, -50 dB; nothing is sent from 3 to 6 s and from 8 to 18 s.
  const signal = sine(20).map((sample, i) => (i % 8_000 < 5_000 ? sample : 0) + 180 * (random() - 0.5));
  const pauses = (ms: number) => (ms > 3_000 && ms < 6_000) || (ms > 8_000 && ms < 18_000);
  let sequence = 0;
  const arrivals = stream({ signal, rateHz: RATE_HZ })
    .filter(({ arrivalMs }) => !pauses(arrivalMs))
    .map((one) => ({ ...one, packet: { ...one.packet, sequence: sequence++ } }));
  const heard = listen(arrivals, { rateHz: RATE_HZ, untilMs: 20_000 });
  t.match(heard.figures, { concealedMs: 0, lostPackets: 0, late: 0 });
  const rms = (fromMs: number, toMs: number) => {
    const part = heard.samples.subarray((fromMs * RATE_HZ) / 1_000, (toMs * RATE_HZ) / 1_000);
    return Math.sqrt(part.reduce((sum, sample) => sum + sample * sample, 0) / part.length);
  };
  t.ok(rms(4_000, 5_500) > 20 && rms(4_000, 5_500) < 120, `noise in a pause: ${rms(4_000, 5_500)}, it was 52`);
  t.equal(rms(14_000, 17_000), 0, 'and none in a long one');
  t.ok((heard.delaysMs.at(-1) ?? 0) < 20 && (heard.delaysMs[7] ?? 0) < 20, `${heard.delaysMs.map(Math.round)} ms`);
  t.ok(largestStep(heard.samples) < 1.3 * largestStep(signal));
});

test('redundant copies fill holes, tell nothing of the path, and are waited for when asked', async (t) => {
  const random = seededRandom(5);
  const whole = stream({ signal: sine(20), rateHz: RATE_HZ, way: () => 10 + 4 * random() });
  const withCopies = whole.flatMap((one, i) => {
    if (random() < 0.1) return [];
    const before = i === 0 ? [] : [{ ...(whole[i - 1] as typeof one), arrivalMs: one.arrivalMs, isRedundant: true }];
    return [...before, one];
  });
  const run = (leastDelayMs: number) =>
    listen(withCopies, {
      rateHz: RATE_HZ,
      untilMs: 20_000,
      pulled: (playout) => {
        playout.leastDelayMs = leastDelayMs;
      },
    }).figures;
  const [waiting, hasty] = [run(20), run(0)];
  t.ok(
    waiting.concealedMs < hasty.concealedMs / 1.8,
    `${waiting.concealedMs} ms concealed, ${hasty.concealedMs} without`,
  );
  t.match(waiting, { late: 0, duplicate: 0 });
  t.ok(waiting.targetDelayMs >= 20 && waiting.targetDelayMs < 30, `a target of ${waiting.targetDelayMs} ms`);
  t.ok(hasty.targetDelayMs < 10, `a target of ${hasty.targetDelayMs} ms, though copies come 20 ms later`);
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
