import { test } from 'tap';
import { protectionLimits } from '../src/media/send-ladder.js';
import { BurstGapMeter } from '../src/quality/burst-gap.js';
import { DelayTrend } from '../src/quality/delay-trend.js';
import { delayImpairment, effectiveImpairment, opinionScore, rate } from '../src/quality/e-model.js';
import { LocalLadder } from '../src/quality/local-ladder.js';
import { type LadderStep, LossLadder } from '../src/quality/loss-ladder.js';
import type { LossReport } from '../src/quality/loss-report.js';
import { copyDelayMs, type ProtectionLimits, residualLoss, sendsFec, totalBps } from '../src/quality/protection.js';
import { ReportReader } from '../src/quality/report-reader.js';
import { G711, opusCoding } from '../src/quality/speech-coding.js';
import { ArrivalLog } from '../src/rtp/arrival-log.js';
import { TransitMeter } from '../src/rtp/transit.js';
import { seededRandom } from './support/random.js';

const limits: ProtectionLimits = {
  codec: 'opus',
  bitrateBps: 24_000,
  complexity: 9,
  mayFec: true,
  mostCopies: 3,
  packetTimeMs: 20,
  mostPacketTimeMs: 60,
};

/** Gilbert's line: whether each packet is lost. */
function line(loss: number, meanRun: number, seed: number): () => boolean {
  const random = seededRandom(seed);
  const leave = meanRun === 1 ? 1 - loss : 1 / meanRun;
  const enter = loss >= 1 ? 1 : (loss * leave) / (1 - loss);
  let isBad = false;
  return () => {
    isBad = isBad ? random() >= leave : random() < enter;
    return isBad;
  };
}

/** Reports a second apart on 50 packets each. */
function climb(ladder: LossLadder, fromS: number, toS: number, isLost: () => boolean, more: Partial<LossReport> = {}) {
  const steps: LadderStep[] = [];
  let before = false;
  for (let s = fromS; s < toS; s++) {
    let [lost, runs] = [0, 0];
    for (let i = 0; i < 50; i++) {
      const now = isLost();
      if (now) lost += 1;
      if (now && !before) runs += 1;
      before = now;
    }
    const step = ladder.report({
      atMs: 1_000 * (s + 1),
      packets: 50,
      lost,
      runs,
      roundTripMs: 40,
      returnExcessMs: 0,
      jitterMs: 2,
      ...more,
    });
    if (step !== null) steps.push(step);
  }
  return steps;
}

const never = () => false;

test('the E-model: what the Recommendations say, and what was measured', async (t) => {
  const near = (a: number, b: number, by: number, what: string) =>
    t.ok(Math.abs(a - b) <= by, `${what}: ${a}, not ${b}`);
  near(opinionScore(93.2), 4.41, 0.01, 'G.107 with all defaults');
  t.same([opinionScore(-5), opinionScore(0), opinionScore(120)], [1, 1, 4.5]);
  t.equal(delayImpairment(100), 0);
  near(delayImpairment(200), 3.05, 0.05, 'Idd at 200 ms');
  near(delayImpairment(400), 25 * (65 ** (1 / 6) - 3 * (1 + (2 / 3) ** 6) ** (1 / 6) + 2), 1e-9, 'Idd at 400 ms');
  near(effectiveImpairment(G711, 5, 1), (95 * 5) / (5 / 1 + 25.1), 1e-9, 'G.711 at 5 %');
  t.ok(effectiveImpairment(G711, 5, 1.8) > effectiveImpairment(G711, 5, 1), 'bursts are worse');
  t.equal(effectiveImpairment(G711, 300, 1), effectiveImpairment(G711, 100, 1), 'a share of 300 % is one of 100 %');
  const heard = (bitrateBps: number, fecForPct: number, lossPct: number) =>
    rate({ coding: opusCoding(bitrateBps, fecForPct), lossPct, meanRunPackets: 1, delayMs: 100 }).listening;
  // PESQ found 4.36, 4.10, 3.67, 2.66, 1.90: the model is kinder, and has the order and the gaps.
  near(heard(24_000, 0, 0), 4.4, 0.1, '24 kbit/s');
  near(heard(12_000, 0, 0), 4.05, 0.1, '12 kbit/s');
  near(heard(24_000, 0, 5), 2.9, 0.3, '24 kbit/s, 5 % concealed');
  near(heard(24_000, 0, 10), 2.3, 0.4, '24 kbit/s, 10 % concealed');
  t.ok(heard(24_000, 5, 0) < heard(16_000, 0, 0), 'in-band FEC costs more than a third of the bits');
  const narrow = rate({ coding: G711, lossPct: 0, meanRunPackets: 1, delayMs: 300 });
  t.ok(narrow.listening > 4.3 && narrow.conversational < narrow.listening - 0.3, 'delay matters to who speaks');
});

test('bursts and gaps as RFC 3611 has them', async (t) => {
  const figures = (pattern: string) => {
    const meter = new BurstGapMeter();
    for (const fate of pattern) meter.packet(fate === '.');
    return meter.figures(20);
  };
  const good = (count: number) => '.'.repeat(count);
  t.match(figures(good(100)), { lost: 0, bursts: 0, burstDurationMs: 0, gapDensityPct: 0, gapDurationMs: 2_000 });
  const alone = figures(`${good(40)}x${good(40)}x${good(18)}`);
  t.match(alone, { lost: 2, lossRuns: 2, bursts: 0, gapDensityPct: 2, meanRunPackets: 1 }, 'single losses are in gaps');
  const one = figures(`${good(50)}xx..x${good(45)}`);
  t.match(one, { bursts: 1, burstDurationMs: 100, burstDensityPct: 60, gapDensityPct: 0, longestRun: 2, lossRuns: 2 });
  t.equal(one.gapDurationMs, 95 * 20);
  const apart = figures(`xx${good(15)}x${good(30)}xx${good(16)}x${good(40)}`);
  t.match(apart, { bursts: 2, lost: 6 }, '15 received in a row go on with a burst, 16 end it');
  t.equal(figures('xxx').burstDensityPct, 100, 'a burst that is not over');
});

test('which packets came: order, duplicates, wrap, restarts, a bound', async (t) => {
  const log = new ArrivalLog();
  const add = (...sequences: number[]) => sequences.map((sequence) => log.packet(7, sequence & 0xffff));
  t.equal(log.take(), null);
  t.same(add(65_534, 65_535, 65_537), [false, false, false]);
  t.same(log.take(), { ssrc: 7, beginSequence: 65_534, received: [true, true] }, '65,536 may still come');
  t.same(add(65_536, 65_536, 65_539), [false, false, false]);
  t.same(add(65_540, 65_541, 65_542), [false, false, true], 'four later ones came');
  t.same(log.take(), { ssrc: 7, beginSequence: 0, received: [true, true, false, true, true, true, true] });
  t.same(add(65_538), [false], 'too late');
  t.equal(log.take(), null);
  t.same(add(65_643, 65_644, 65_645, 65_646), [false, false, false, true]);
  t.equal(log.take()?.received.filter((one) => !one).length, 100);
  log.packet(8, 20);
  t.same(log.take(), { ssrc: 8, beginSequence: 20, received: [true] }, 'another source');
  for (let i = 0; i < 5_000; i++) log.packet(8, 21 + i);
  t.equal(log.take()?.received.length, 1_024);
  log.packet(8, 60_000);
  t.same(log.take()?.beginSequence, 60_000, 'a sequence that begins anew');
});

test('a report is read with care: no packet twice, none that was never sent, no share above 100 %', async (t) => {
  const context = { nowMs: 1_000, sentPackets: 100, roundTripMs: 50, returnExcessMs: 0, clockRateHz: 48_000 };
  const block = (highestSequence: number, fractionLost: number) => ({
    ssrc: 1,
    fractionLost,
    cumulativeLost: 0,
    highestSequence,
    jitter: 480,
    lastSenderReport: 0,
    delaySinceLastSenderReport: 0,
  });
  const rle = (beginSequence: number, text: string) => ({
    block: 'loss-rle' as const,
    ssrc: 1,
    beginSequence,
    received: [...text].map((one) => one === '.'),
  });
  const plain = new ReportReader();
  t.match(plain.read(block(1_000, 128), null, context), { packets: 100, lost: 50, runs: null, jitterMs: 10 });
  t.match(plain.read(block(1_050, 255), null, { ...context, sentPackets: 150 }), { packets: 50, lost: 50 });
  t.match(plain.read(block(9_050, 768), null, { ...context, sentPackets: 160 }), { packets: 10, lost: 10 }, '300 %');
  t.match(plain.read(block(5, 255), null, { ...context, sentPackets: 170 }), { packets: 0, lost: 0 }, 'backwards');
  t.match(plain.read(null, null, context), { packets: 0, lost: 0 });

  const exact = new ReportReader();
  t.match(exact.read(block(9, 0), rle(65_530, '..x..xx.'), context), { packets: 8, lost: 3, runs: 2 });
  t.match(exact.read(block(9, 0), rle(65_530, '..x..xx...'), context), { packets: 2, lost: 0 }, 'known before');
  t.match(exact.read(block(9, 0), rle(4, 'x'), context), { packets: 1, lost: 1, runs: 1 });
  t.match(exact.read(block(9, 0), rle(5, 'x.'), context), { lost: 1, runs: 0 }, 'the same run goes on');
  t.match(exact.read(block(99, 255), null, context), { packets: 0, lost: 0 }, 'the fraction says it again');
  t.match(exact.read(block(9, 0), rle(7, 'x'.repeat(4_000)), context), { packets: 87, lost: 87 }, 'more than was sent');
  t.match(exact.read(block(9, 0), rle(7, 'x'.repeat(4_000)), context), { packets: 0, lost: 0 });
});

test('a clean line pays nothing; loss is answered within two reports, and quiet is believed after 8 s', async (t) => {
  const ladder = new LossLadder(limits, 0);
  t.match(ladder.step, { reason: 'start', fecForPct: 0, redDistances: [], bitrateBps: 24_000, packetTimeMs: 20 });
  t.same(climb(ladder, 0, 60, never), []);
  let index = 0;
  t.same(
    climb(ladder, 60, 120, () => index++ % 900 === 5),
    [],
    'a loss alone in 18 s is chance',
  );
  const up = climb(ladder, 120, 150, line(0.1, 1, 1));
  t.ok((up[0]?.atMs ?? 0) <= 122_000, `first step at ${up[0]?.atMs}`);
  t.equal(up[0]?.reason, 'loss');
  const at10 = ladder.step;
  t.ok(residualLoss({ loss: 0.1, meanRun: 1.1 }, at10) < 0.02, JSON.stringify(at10));
  t.ok(totalBps(at10) - 16_000 < 3 * 24_000, 'three times the bits at most, headers apart');
  t.ok(up.length <= 6, `${up.length} steps in half a minute of steady loss`);
  const down = climb(ladder, 150, 200, never);
  t.equal(down[0]?.reason, 'quiet');
  const bare = down.find(({ redDistances }) => redDistances.length === 0);
  t.ok((bare?.atMs ?? 0) >= 157_000, `without any at ${bare?.atMs}`);
  t.match(ladder.step, { fecForPct: 0, redDistances: [], bitrateBps: 24_000 });
  t.same(climb(ladder, 200, 300, never), []);
});

test('what is chosen fits the line: light, random, bursts; with RED and without', async (t) => {
  const settled = (loss: number, meanRun: number, change: Partial<ProtectionLimits> = {}) => {
    const ladder = new LossLadder({ ...limits, ...change }, 0);
    climb(ladder, 0, 40, line(loss, meanRun, 5));
    return ladder.step;
  };
  t.same(settled(0.002, 1).redDistances, [], 'next to nothing');
  t.match(settled(0.03, 1), { redDistances: [1] });
  t.equal(settled(0.2, 1).redDistances.length >= 2, true);
  t.ok(settled(0.2, 1).bitrateBps < 24_000, 'more copies, fewer bits each');
  const bursts = settled(0.1, 3);
  t.ok(Math.max(...bursts.redDistances) >= 3, `copies outlast bursts: ${bursts.redDistances}`);
  t.ok(residualLoss({ loss: 0.1, meanRun: 3 }, bursts) < 0.02);
  t.ok(copyDelayMs(bursts) <= 160);
  for (const loss of [0.05, 0.2]) {
    const fec = { redDistances: [], bitrateBps: 24_000, fecForPct: 1 };
    t.match(settled(loss, 1, { mostCopies: 0 }), fec, 'armed for little, whatever is lost');
  }
  t.match(settled(0.05, 1, { mostCopies: 0, mayFec: false }), { redDistances: [], fecForPct: 0 });
  t.match(settled(0.05, 1, { mostCopies: 0, bitrateBps: 16_000 }), { fecForPct: 0 }, 'libopus would send none');
  const g711 = settled(0.1, 1, { codec: 'g711', bitrateBps: 64_000, mayFec: false });
  t.match(g711, { bitrateBps: 64_000, fecForPct: 0, packetTimeMs: 20 });
  t.same([sendsFec(4, 24_000), sendsFec(9, 23_000), sendsFec(9, 32_000)], [true, true, true], 'as libopus 1.3.1 does');
  t.same([sendsFec(3, 24_000), sendsFec(9, 22_000)], [false, false]);
  t.equal(settled(0.7, 8).wantsOtherPath, true, 'where nothing helps another path is wished for');
  t.equal(settled(0.1, 1).wantsOtherPath, false);

  const bounds = { codec: 'opus', red: null, peerWantsFec: true, packetTimeMs: 20 } as const;
  const opus = { ...limits, inbandFec: true, expectedLossPct: 0 };
  t.match(protectionLimits(opus, bounds, 16_000), { mayFec: true, mostCopies: 0, bitrateBps: 24_000 });
  t.equal(protectionLimits(opus, bounds, 48_000).mayFec, false, 'at fullband libopus sends none at such bit rates');

  const ladder = new LossLadder(limits, 0);
  climb(ladder, 0, 20, line(0.1, 1, 2));
  t.match(ladder.limit({ ...limits, mostCopies: 0 }, 20_000), { reason: 'limits', redDistances: [] });
  t.equal(ladder.limit({ ...limits, mostCopies: 0 }, 20_000), null);
  t.ok(new LossLadder(limits, 0, 10).step.redDistances.length > 0, 'a call that is known to begin with loss');
});

test('a minute on each line, its first second included: what is left of the loss, and what it costs', async (t) => {
  /** Loss, mean run; the share that neither came nor was copied, in %, and the encoder's bits, copies included, in kbit/s, at most. */
  const lines = [
    [0, 1, 0, 24],
    [0.05, 1, 0.6, 45],
    [0.1, 1, 0.8, 55],
    [0.2, 1, 1.5, 66],
    [0.1, 3, 2.5, 60],
  ] as const;
  for (const [loss, meanRun, mostLeftPct, mostKbps] of lines) {
    const isLost = line(loss, meanRun, 21);
    const lost = Array.from({ length: 3_000 }, isLost);
    const ladder = new LossLadder(limits, 0);
    const sent: LadderStep[] = [];
    for (let s = 0; s < 60; s++) {
      for (let i = 0; i < 50; i++) sent.push(ladder.step);
      let index = s * 50;
      climb(ladder, s, s + 1, () => lost[index++] === true);
    }
    const left = lost.filter(
      (isGone, i) =>
        isGone &&
        ![1, 2, 3, 4, 5, 6].some((d) => lost[i + d] === false && sent[i + d]?.redDistances.includes(d) === true),
    );
    const leftPct = (100 * left.length) / lost.length;
    const kbps =
      sent.reduce((sum, one) => sum + one.bitrateBps * (1 + one.redDistances.length), 0) / sent.length / 1_000;
    const what = `${100 * loss} % in runs of ${meanRun}: ${leftPct.toFixed(2)} % left at ${kbps.toFixed(0)} kbit/s`;
    t.ok(leftPct <= mostLeftPct && kbps <= mostKbps, what);
  }
});

test('rising delay lowers the bit rate before anything is added; quiet brings it back', async (t) => {
  const ladder = new LossLadder(limits, 0);
  climb(ladder, 0, 10, never);
  const rising: LadderStep[] = [];
  const random = line(0.08, 1, 9);
  for (let s = 10; s < 18; s++) {
    rising.push(...climb(ladder, s, s + 1, s < 13 ? never : random, { roundTripMs: 40 + (s - 9) * 60 }));
  }
  t.equal(rising[0]?.reason, 'delay-rising');
  for (const step of rising) {
    t.equal(step.reason, 'delay-rising');
    t.ok(totalBps(step) < 40_000, `${totalBps(step)} bit/s`);
  }
  const lowest = totalBps(ladder.step);
  t.ok(lowest < 0.8 * 40_000);
  const back = climb(ladder, 18, 120, never);
  t.ok(back.some(({ reason }) => reason === 'probe'));
  t.match(ladder.step, { bitrateBps: 24_000, packetTimeMs: 20, redDistances: [] });

  const theirs = new LossLadder(limits, 0);
  const steps: LadderStep[] = [];
  for (let s = 0; s < 20; s++) {
    steps.push(...climb(theirs, s, s + 1, never, { roundTripMs: 40 + s * 60, returnExcessMs: s * 60 }));
  }
  t.same(steps, [], 'a queue on the way back is not ours');
  const trend = new DelayTrend();
  trend.add({ atMs: 0, excessMs: 500 });
  t.equal(trend.isRising(0), false, 'one sample is no trend');
  const jittery = new LossLadder(limits, 0);
  const spread = seededRandom(4);
  const moved: LadderStep[] = [];
  for (let s = 0; s < 300; s++) {
    moved.push(...climb(jittery, s, s + 1, never, { roundTripMs: 40 + 60 * (spread() + spread()), jitterMs: 20 }));
  }
  t.ok(moved.length <= 4, `${moved.length} steps in five minutes of mere jitter`);

  const meter = new TransitMeter();
  for (let i = 0; i < 100; i++) meter.packet({ ssrc: 1, timestamp: (2 ** 32 - 960 + i * 960) >>> 0 }, i * 20, 48_000);
  t.ok(meter.excessMs < 0.01);
  for (let i = 100; i < 200; i++) meter.packet({ ssrc: 1, timestamp: (i - 1) * 960 }, i * 20 + 70, 48_000);
  t.ok(Math.abs(meter.excessMs - 70) < 1, `${meter.excessMs} ms`);
});

test('a day of a call, and timestamps that jump, are no delay', async (t) => {
  const meter = new TransitMeter();
  let mostMs = 0;
  let atMs = 0;
  const run = (fromTicks: number, untilMs: number) => {
    for (; atMs < untilMs; atMs += 400) {
      const timestamp = (fromTicks + atMs * 48) >>> 0;
      meter.packet({ ssrc: 1, timestamp }, atMs, 48_000);
      mostMs = Math.max(mostMs, meter.excessMs);
    }
  };
  const hourMs = 3_600_000;
  run(7, 26 * hourMs);
  t.ok(mostMs < 0.01, `${mostMs} ms of excess where there is none`);
  for (const [at, ticks] of [2 ** 31, 2 ** 30, 500_000_000, 5 * 48_000].entries()) run(ticks, (27 + at) * hourMs);
  t.ok(mostMs < 0.01, `${mostMs} ms of excess after timestamps that jumped`);
});

test('the local ladder: simpler, then G.711, longer periods; and back', async (t) => {
  const ladder = new LocalLadder({ complexity: 8, capturePeriodMs: 10 }, 0);
  let atS = 0;
  const run = (seconds: number, encodeMs: number, xrunsPerS = 0, before = 0) => {
    const steps = [];
    for (let i = 1; i <= seconds; i++) {
      atS += 1;
      const xruns = before + Math.floor(i * xrunsPerS);
      const step = ladder.report({ atMs: atS * 1_000, encodeMs, packetTimeMs: 20, xruns });
      if (step !== null) steps.push(step);
    }
    return steps;
  };
  t.same(run(60, 3), []);
  const slow = run(12, 9);
  t.same(
    slow.map(({ complexity, wantsG711 }) => [complexity, wantsG711]),
    [
      [5, false],
      [2, false],
      [0, false],
      [0, true],
    ],
  );
  t.match(slow.at(-1), { reason: 'slow' });
  const quiet = run(200, 3);
  t.match(quiet.at(-1), { complexity: 8, wantsG711: false, reason: 'quiet' });
  const hiccups = run(10, 3, 1);
  t.same(
    hiccups.map(({ capturePeriodMs, reason }) => [capturePeriodMs, reason]),
    [
      [20, 'xruns'],
      [40, 'xruns'],
    ],
  );
  t.match(run(250, 3, 0, 10).at(-1), { capturePeriodMs: 10, reason: 'quiet' });
});
