import { test } from 'tap';
import { FRAME_MS, frameSamples } from '../src/audio/frame.js';
import { opusDurationMs } from '../src/codec/opus-packet.js';
import { ManualClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { MachineWatch } from '../src/engine/machine-watch.js';
import type { MediaSession } from '../src/media/media-session.js';
import { RedReceiver } from '../src/media/red-receiver.js';
import type { SessionAgreement } from '../src/media/session-agreement.js';
import type { QualityFigures } from '../src/protocol/quality.js';
import type { LocalStep } from '../src/quality/local-ladder.js';
import { parseRed, writeRed } from '../src/rtp/red.js';
import { parseRtcp } from '../src/rtp/rtcp-parse.js';
import { writeRtcp } from '../src/rtp/rtcp-write.js';
import { kindOfDatagram, parseRtp, type RtpPacket } from '../src/rtp/rtp-packet.js';
import { mediaSession, opus, plainAgreement, RATE_HZ } from './support/media-session.js';
import { seededRandom } from './support/random.js';

const SAMPLES = frameSamples(RATE_HZ);
const WAY_MS = 15;
const OPUS_PT = 96;
const RED_PT = 97;
const agreement: SessionAgreement = {
  ...plainAgreement,
  red: { send: RED_PT, receive: RED_PT, copies: 3 },
  maxPacketTimeMs: 60,
};

interface Party {
  readonly session: MediaSession;
  readonly sent: Uint8Array[];
  readonly told: QualityFigures[];
}

/** Two parties on a clock of their own; RTP from `a` to `b` meets `wayMs`, null for a loss. */
async function call(wayMs: (atMs: number) => number | null, change: Partial<SessionAgreement> = {}) {
  const clock = new ManualClock();
  const both: Party[] = [];
  const random = seededRandom(5);
  const party = async (ssrc: number, path: (atMs: number) => number | null): Promise<Party> => {
    const sent: Uint8Array[] = [];
    const told: QualityFigures[] = [];
    const session = await mediaSession({
      clock,
      ssrc,
      settings: { ...opus, complexity: 2, expectedLossPct: 0 },
      leastMs: 20,
      send: (datagram) => {
        sent.push(datagram);
        const takesMs = kindOfDatagram(datagram) === 'rtp' ? path(clock.nowMs()) : WAY_MS;
        if (takesMs === null) return;
        const other = both.find((one) => one.session.ssrc !== ssrc);
        clock.after(takesMs, () => other?.session.datagram(datagram, clock.nowMs()));
      },
      quality: (figures) => told.push(figures),
    });
    return { session, sent, told };
  };
  const a = await party(11, wayMs);
  const b = await party(12, () => WAY_MS);
  both.push(a, b);
  for (const { session } of both) session.start({ ...agreement, ...change });
  const run = (ms: number) => {
    for (let i = 0; i < ms / FRAME_MS; i++) {
      clock.advance(FRAME_MS);
      const samples = Int16Array.from({ length: SAMPLES }, (_, k) => 9_000 * Math.sin(k / 9 + i) * random());
      for (const { session } of both) {
        session.frame({ samples, rateHz: RATE_HZ, capturedAtMs: clock.nowMs() });
        session.pull(clock.nowMs());
      }
    }
  };
  const close = () => {
    for (const { session } of both) session.close();
  };
  return { clock, a, b, run, close };
}

const rtpOf = ({ sent }: Party): RtpPacket[] =>
  sent.flatMap((datagram) => {
    const parsed = kindOfDatagram(datagram) === 'rtp' ? parseRtp(datagram) : null;
    return parsed?.ok === true ? [parsed.packet] : [];
  });

test('a clean line pays nothing; loss is answered with copies within two seconds; both ends know how it sounds', async (t) => {
  const random = seededRandom(8);
  let lossPct = 0;
  const { a, b, run, close } = await call(() => (random() * 100 < lossPct ? null : WAY_MS));
  run(10_000);
  t.same(new Set(rtpOf(a).map(({ payloadType }) => payloadType)), new Set([OPUS_PT]));
  const clean = a.session.figures().quality;
  t.same(
    clean.ladder.map(({ reason, bitrateBps, redDistances, fecForPct }) => [
      reason,
      bitrateBps,
      redDistances,
      fecForPct,
    ]),
    [['start', 24_000, [], 0]],
  );
  t.ok((b.session.figures().quality.mos.listening ?? 0) > 4, JSON.stringify(b.session.figures().quality.mos));
  t.ok((clean.mos.remoteListening ?? 0) > 4, 'and the far end says so');
  t.equal(b.told.length, 10, 'told once a second');

  lossPct = 10;
  const before = b.session.figures();
  run(2_000);
  const answered = a.session.figures().quality.ladder;
  t.equal(answered[1]?.reason, 'loss');
  t.ok((answered[1]?.redDistances.length ?? 0) > 0, JSON.stringify(answered[1]));
  const early = b.session.figures();
  run(20_000);
  const { quality, ...late } = b.session.figures();
  const lost = late.lost - early.lost;
  const copied = quality.redRecovered - early.quality.redRecovered;
  t.ok(early.lost > before.lost && lost > 50, `${lost} lost`);
  t.ok(copied > 0.8 * lost, `${copied} of ${lost} came as copies`);
  t.ok(rtpOf(a).some(({ payloadType }) => payloadType === RED_PT));
  t.match(quality.lossRuns, { burstDensityPct: Number, longestPackets: Number });
  t.ok(quality.lossRuns.runs > 40 && quality.lossRuns.meanPackets < 1.6, JSON.stringify(quality.lossRuns));
  t.ok(quality.concealedPct < 4, `${quality.concealedPct} % concealed of all`);
  t.same(late.refused, {}, 'nothing of it is refused');

  lossPct = 0;
  run(60_000);
  t.match(a.session.figures().quality.ladder.at(-1), { redDistances: [], bitrateBps: 24_000 });
  const last = rtpOf(a).slice(-100);
  t.same(new Set(last.map(({ payloadType }) => payloadType)), new Set([OPUS_PT]), 'it is quiet: no copies');
  close();
});

test('bursts get copies that are spaced apart; an end that sends nothing knows the round trip', async (t) => {
  const random = seededRandom(3);
  let isBad = false;
  const { a, b, run, close } = await call(() => {
    isBad = isBad ? random() >= 1 / 3 : random() < 0.037;
    return isBad ? null : WAY_MS;
  });
  run(20_000);
  const steps = a.session.figures().quality.ladder;
  t.ok(Math.max(0, ...(steps.at(-1)?.redDistances ?? [])) >= 3, JSON.stringify(steps.at(-1)));
  const distances = rtpOf(a).flatMap(({ payloadType, payload }) => {
    const red = payloadType === RED_PT ? parseRed(payload) : null;
    return red?.ok === true ? red.red.redundant.map(({ timestampOffset }) => timestampOffset / 960) : [];
  });
  t.ok(distances.some((distance) => distance >= 3));
  const heard = b.session.figures();
  t.ok(heard.quality.redRecovered > 0.4 * heard.lost, `${heard.quality.redRecovered} of ${heard.lost}`);
  t.ok(heard.quality.lossRuns.bursts > 5 && heard.quality.lossRuns.meanPackets > 2);
  close();

  const listening = await call(() => WAY_MS);
  listening.b.session.start({ ...agreement, muted: true });
  listening.run(8_000);
  const roundTripMs = listening.b.session.figures().roundTripMs ?? 0;
  t.ok(Math.abs(roundTripMs - 2 * WAY_MS) < 1, `${roundTripMs} ms`);
  listening.close();
});

test('reports that lie move nothing that they could not: shares of 300 %, packets never sent, scores of 12', async (t) => {
  const { a, run, close, clock } = await call(() => WAY_MS);
  run(3_000);
  const block = {
    ssrc: 11,
    fractionLost: 255,
    cumulativeLost: 0x7f_ffff,
    highestSequence: 0xffff_ffff,
    jitter: 0xffff_ffff,
    lastSenderReport: 1,
    delaySinceLastSenderReport: 0xffff_ffff,
  };
  const lie = writeRtcp([
    { type: 'receiver-report', ssrc: 12, reports: [block] },
    {
      type: 'extended-report',
      ssrc: 12,
      blocks: [
        { block: 'loss-rle', ssrc: 11, beginSequence: 0, received: new Array(4_000).fill(false) },
        { block: 'reference-delay', reports: [{ ssrc: 11, lastReference: 5, delaySince: 0xffff_ffff }] },
      ],
    },
  ]);
  for (let i = 0; i < 2_000; i++) a.session.datagram(lie, clock.nowMs());
  const figures = a.session.figures();
  t.ok((figures.refused['rtcp-flood'] ?? 0) >= 1_980, 'a flood of them takes no time of the ladder');
  t.ok(figures.quality.ladder.length <= 32);
  for (const step of figures.quality.ladder) t.ok(step.lossPct <= 100 && step.bitrateBps >= 6_000);
  t.ok((figures.roundTripMs ?? 0) < 60_000);
  run(1_000);
  const own = a.sent.filter((datagram) => kindOfDatagram(datagram) === 'rtcp').map((datagram) => parseRtcp(datagram));
  t.ok(own.every(({ ok }) => ok));
  t.same(own.at(-1)?.ok === true && own.at(-1), own.at(-1), 'and it goes on reporting');
  close();
});

test('a machine that is too slow is asked for less, all its sessions alike; one that keeps up is left alone', async (t) => {
  const clock = new ManualClock();
  let encodeMs = 2;
  let xruns = 0;
  const steps: LocalStep[] = [];
  const watch = new MachineWatch({
    clock,
    logger: silentLogger,
    complexity: 9,
    capturePeriodMs: 20,
    encoding: () => ({ encodeMs, packetTimeMs: 20 }),
    xruns: () => xruns,
    bear: (step) => steps.push(step),
  });
  clock.advance(20_000);
  t.same(steps, []);
  encodeMs = 12;
  clock.advance(2_000);
  encodeMs = 3;
  xruns = 5;
  clock.advance(1_000);
  watch.close();
  clock.advance(60_000);
  t.match(steps, [
    { reason: 'slow', complexity: 8, capturePeriodMs: 20 },
    { reason: 'xruns', complexity: 8, capturePeriodMs: 40 },
  ]);

  const { a, run, close } = await call(() => WAY_MS);
  run(2_000);
  t.equal(a.session.encoding?.packetTimeMs, 20);
  for (const step of steps) a.session.bear(step);
  t.match(a.session.figures().quality.ladder, [{ complexity: 2 }, { reason: 'slow', complexity: 8 }]);
  run(1_000);
  t.same(a.session.figures().refused, {});
  close();
});

test('copies that can not be placed are left out and counted', async (t) => {
  const refused: string[] = [];
  const red = new RedReceiver({
    ticksOf: (payload) => {
      const durationMs = opusDurationMs(payload);
      return durationMs === null ? null : durationMs * 48;
    },
    refused: (fault) => refused.push(fault),
  });
  /** 20 ms and 40 ms of SILK, wideband. */
  const [twenty, forty] = [Buffer.from([0x48, 1]), Buffer.from([0x50, 1])];
  const packet = (payload: Uint8Array): RtpPacket => ({
    payloadType: RED_PT,
    marker: true,
    sequence: 1,
    timestamp: 500,
    ssrc: 7,
    csrcs: [],
    extension: null,
    payload,
  });
  const unpack = (...redundant: { timestampOffset: number; payload: Buffer; payloadType?: number }[]) =>
    red.unpack(
      packet(
        writeRed({
          payloadType: OPUS_PT,
          payload: twenty,
          redundant: redundant.map((one) => ({ payloadType: OPUS_PT, ...one })),
        }),
      ),
      OPUS_PT,
    );
  const good = unpack({ timestampOffset: 2_880, payload: twenty }, { timestampOffset: 960, payload: twenty });
  t.match(good?.primary, { payloadType: OPUS_PT, sequence: 1, timestamp: 500, marker: true });
  t.same(
    good?.copies.map(({ sequence, timestamp, marker }) => [sequence, timestamp, marker]),
    [
      [65_534, 2 ** 32 + 500 - 2_880, false],
      [0, 2 ** 32 + 500 - 960, false],
    ],
  );
  t.equal(red.copyDelayTicks, 2_880);
  t.equal(unpack({ timestampOffset: 961, payload: twenty })?.copies.length, 0);
  t.equal(unpack({ timestampOffset: 960, payload: forty })?.copies.length, 0);
  t.equal(unpack({ timestampOffset: 960, payload: twenty, payloadType: 5 })?.copies.length, 0);
  t.equal(red.unpack(packet(Buffer.from([5, 1])), OPUS_PT), null, 'of another codec');
  t.equal(red.unpack(packet(Buffer.from([0xe0])), OPUS_PT), null);
  t.same(refused, [
    'red-odd-offset',
    'red-odd-offset',
    'red-other-payload-type',
    'red-other-payload-type',
    'red-truncated-header',
  ]);
  for (let i = 0; i < 100; i++) red.plain();
  t.equal(red.copyDelayTicks, 0, 'none for two seconds');
  for (const [bytes, durationMs] of [
    [[0x48], 20],
    [[0x58], 60],
    [[0x78], 20],
    [[0xe0], 2.5],
    [[0xfd], 40],
    [[0x4b, 3], 60],
    [[0x4b, 7], null],
    [[0x4b], null],
    [[], null],
  ] as const) {
    t.equal(opusDurationMs(Uint8Array.from(bytes)), durationMs, `${bytes}`);
  }
});
