import { test } from 'tap';
import type { RateHz } from '../src/audio/frame.js';
import { correlation } from '../src/playout/time-stretch.js';
import { type Heard, listen, RATE_HZ, type StreamOptions, sine, stream } from './support/playout-line.js';
import { seededRandom } from './support/random.js';

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
  const farCopies = whole.flatMap((one, i) => {
    const copied = whole[i - 3];
    if (random() < 0.1) return [];
    return copied === undefined ? [one] : [{ ...copied, arrivalMs: one.arrivalMs, isRedundant: true }, one];
  });
  const far = listen(farCopies, {
    rateHz: RATE_HZ,
    untilMs: 20_000,
    pulled: (playout) => {
      playout.leastDelayMs = 60;
    },
  }).figures;
  t.ok(far.expandedMs < 60, `${far.expandedMs} ms put in: a lost packet that a copy makes good later is no shortage`);
  t.ok(hasty.targetDelayMs < 10, `a target of ${hasty.targetDelayMs} ms, though copies come 20 ms later`);
});
