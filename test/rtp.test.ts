import { test } from 'tap';
import { Counters } from '../src/core/counters.js';
import { middleOfNtp, ntpTime } from '../src/rtp/ntp-time.js';
import { ReceptionStatistics } from '../src/rtp/reception.js';
import { parseRed, type RedPayload, writeRed } from '../src/rtp/red.js';
import { RedHistory } from '../src/rtp/red-history.js';
import { RemoteSource } from '../src/rtp/remote-source.js';
import type { RtcpPacket } from '../src/rtp/rtcp.js';
import { rtcpIntervalMs } from '../src/rtp/rtcp-interval.js';
import { parseRtcp } from '../src/rtp/rtcp-parse.js';
import { writeRtcp } from '../src/rtp/rtcp-write.js';
import { kindOfDatagram, parseRtp, type RtpPacket, writeRtp } from '../src/rtp/rtp-packet.js';
import { SendStatistics } from '../src/rtp/send-statistics.js';
import { sequenceDistance, timestampDistance } from '../src/rtp/sequence.js';
import { seededRandom } from './support/random.js';

const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

const fullPacket: RtpPacket = {
  payloadType: 96,
  marker: true,
  sequence: 0xfffe,
  timestamp: 0xfedcba98,
  ssrc: 0x89abcdef,
  csrcs: [1, 0xffffffff],
  extension: { profile: 0xbede, data: hex('10ff0000') },
  payload: hex('0102030405'),
};
const FULL_PACKET = '92e0fffe fedcba98 89abcdef 00000001 ffffffff bede0001 10ff0000 0102030405';

/** Each named after its fault. */
const BAD_RTP: Record<string, string> = {
  'rtp-too-short': '80600001 00000000 0000aa',
  'rtp-wrong-version': '40600001 00000000 000000aa 00',
  'rtp-truncated-csrc': '82600001 00000000 000000aa 00000001 000000',
  'rtp-truncated-extension': '90600001 00000000 000000aa bede0002 00000000',
  'rtp-invalid-padding': 'a0600001 00000000 000000aa 0102 09',
};

const REPORT = '00000007 40fffffe 00010002 00000003 11223344 00010000';
const SENDER_REPORT = `81c8000c 89abcdef 83aa7e80 80000000 00000bb8 0000000a 00000640 ${REPORT}`;
const NAME = '81ca0003 89abcdef 01046e61 6d650000';

const BAD_RTCP: Record<string, string> = {
  'rtcp-too-short': '80c90001 0000',
  'rtcp-wrong-version': '40c90001 00000001',
  'rtcp-first-no-report': NAME,
  'rtcp-length-past-end': '80c90002 00000001',
  'rtcp-invalid-padding': 'a0c90001 00000008 80c90001 00000001',
  'rtcp-truncated-report': '81c90001 00000001',
  'rtcp-truncated-sdes': '80c90001 00000001 81ca0002 89abcdef 01ff6162',
  'rtcp-truncated-bye': '80c90001 00000001 82cb0001 00000001',
  'rtcp-too-many-packets': '80c90001 00000001'.repeat(17),
  'rtcp-truncated-xr': '80c90001 00000001 80cf0003 00000001 07000008 00000000',
};

const BAD_RED: Record<string, string> = {
  'red-truncated-header': 'e0000401',
  'red-truncated-block': 'e00f0003 60 0102',
  'red-too-many-blocks': `${'e00f0000'.repeat(9)}60`,
  'red-zero-offset': 'e0000001 60 01',
};
const RED = 'e01e0002 e00f0003 60 0102 030405 0607';
/** Six packets from 65,534 on, the third and fourth lost; voice metrics. */
const XR = `80cf000e 00000001 01000003 00000007 fffe0004 e6000000
  07000008 00000007 1a004d05 006404b0 00320050 7f7f7f10 5a7f2a29 b0000050 00c800c8`;

test('an RTP packet with everything in it is read and written, without a copy of its payload', async (t) => {
  const datagram = hex(FULL_PACKET);
  const parsed = parseRtp(datagram);
  t.same(parsed, { ok: true, packet: fullPacket });
  t.same(writeRtp(fullPacket), datagram);
  if (parsed.ok) t.equal(parsed.packet.payload.buffer, datagram.buffer);
  const padded = parseRtp(hex('a0600001 00000000 000000aa 0102 000003'));
  t.same(padded.ok && padded.packet.payload, hex('0102'));
  t.equal(parseRtp(hex('80600001 00000000 000000aa')).ok, true, 'an empty payload is a keep-alive (RFC 6263)');
  t.throws(() => writeRtp({ ...fullPacket, csrcs: new Array(16).fill(0) }), RangeError);
  t.throws(() => writeRtp({ ...fullPacket, extension: { profile: 0, data: hex('00') } }), RangeError);
});

test('RTCP compounds are read and written', async (t) => {
  const packets: RtcpPacket[] = [
    {
      type: 'sender-report',
      ssrc: 0x89abcdef,
      ntp: { seconds: 2_208_988_800, fraction: 2 ** 31 },
      rtpTimestamp: 3_000,
      packetCount: 10,
      octetCount: 1_600,
      reports: [
        {
          ssrc: 7,
          fractionLost: 64,
          cumulativeLost: -2,
          highestSequence: 65_538,
          jitter: 3,
          lastSenderReport: 0x11223344,
          delaySinceLastSenderReport: 65_536,
        },
      ],
    },
    { type: 'source-description', chunks: [{ ssrc: 0x89abcdef, cname: 'name' }] },
    { type: 'goodbye', ssrcs: [0x89abcdef], reason: 'going' },
  ];
  const datagram = writeRtcp(packets);
  t.equal(datagram.subarray(0, 52 + 16).toString('hex'), (SENDER_REPORT + NAME).replaceAll(' ', ''));
  t.same(parseRtcp(datagram), { ok: true, packets });
  const receiverReport: RtcpPacket = { type: 'receiver-report', ssrc: 1, reports: [] };
  t.same(parseRtcp(writeRtcp([receiverReport, { type: 'goodbye', ssrcs: [1], reason: '' }])), {
    ok: true,
    packets: [receiverReport, { type: 'goodbye', ssrcs: [1], reason: '' }],
  });
  for (const cname of ['', 'a', 'ab', 'abc', 'abcd', 'x'.repeat(255)]) {
    const description: RtcpPacket = {
      type: 'source-description',
      chunks: [
        { ssrc: 1, cname },
        { ssrc: 2, cname },
      ],
    };
    t.same(parseRtcp(writeRtcp([receiverReport, description])), { ok: true, packets: [receiverReport, description] });
  }
  const unknown = parseRtcp(hex('80c90001 00000001 80cc0002 00000001 6e616d65'));
  t.same(unknown, { ok: true, packets: [receiverReport] }, 'an unknown kind (APP) is skipped');
  const padded = parseRtcp(hex('80c90001 00000001 a1cb0002 00000001 00000004'));
  t.equal(padded.ok && padded.packets.length, 2, 'the last packet may be padded');
});

test('malformed RTP and RTCP get their own names', async (t) => {
  for (const [fault, text] of Object.entries(BAD_RTP)) t.same(parseRtp(hex(text)), { ok: false, fault }, fault);
  for (const [fault, text] of Object.entries(BAD_RTCP)) t.same(parseRtcp(hex(text)), { ok: false, fault }, fault);
  for (const [fault, text] of Object.entries(BAD_RED)) t.same(parseRed(hex(text)), { ok: false, fault }, fault);
  t.same(parseRtp(hex('b0600001 00000000 000000aa bede0001 00000005 00')), { ok: false, fault: 'rtp-invalid-padding' });
});

test('mutated packets never throw, and stay within their datagrams', async (t) => {
  const seed = 20_240_607;
  const random = seededRandom(seed);
  const seen = new Counters<string>();
  const originals = [
    FULL_PACKET,
    ...Object.values(BAD_RTP),
    SENDER_REPORT + NAME,
    SENDER_REPORT + XR.replaceAll('\n', ''),
    ...Object.values(BAD_RTCP),
    RED,
    ...Object.values(BAD_RED),
  ].map(hex);
  for (let run = 0; run < 20_000; run++) {
    const original = originals[run % originals.length] ?? Buffer.alloc(0);
    const mutant = Buffer.from(original.subarray(0, Math.ceil(random() * original.length)));
    for (let edits = Math.floor(random() * 4); edits > 0; edits--) {
      mutant[Math.floor(random() * mutant.length)] = Math.floor(random() * 256);
    }
    kindOfDatagram(mutant);
    const rtp = parseRtp(mutant);
    seen.count(rtp.ok ? 'rtp' : rtp.fault);
    if (rtp.ok && rtp.packet.payload.length > mutant.length - 12) t.fail(`seed ${seed}, run ${run}: too long`);
    const rtcp = parseRtcp(mutant);
    seen.count(rtcp.ok ? 'rtcp' : rtcp.fault);
    const red = parseRed(mutant);
    seen.count(red.ok ? 'red' : red.fault);
  }
  const faults = [BAD_RTP, BAD_RTCP, BAD_RED].flatMap((bad) => Object.keys(bad));
  for (const name of ['rtp', 'rtcp', 'red', ...faults]) t.ok(seen.get(name) > 0, `${name} was met`);
});

test('redundant audio is read and written, views of the packet (RFC 2198)', async (t) => {
  const datagram = hex(RED);
  const red: RedPayload = {
    payloadType: 96,
    payload: hex('0607'),
    redundant: [
      { payloadType: 96, timestampOffset: 1_920, payload: hex('0102') },
      { payloadType: 96, timestampOffset: 960, payload: hex('030405') },
    ],
  };
  const parsed = parseRed(datagram);
  t.same(parsed, { ok: true, red });
  t.same(writeRed(red), datagram);
  if (parsed.ok) t.equal(parsed.red.redundant[0]?.payload.buffer, datagram.buffer);
  t.same(parseRed(hex('60')), { ok: true, red: { payloadType: 96, payload: hex(''), redundant: [] } });
  t.match(parseRed(hex('e00f0000 60 07')), { red: { redundant: [], payload: hex('07') } }, 'an empty copy is none');
  const block = { payloadType: 96, timestampOffset: 1, payload: hex('00') };
  const writes = (change: object) => () => writeRed({ ...red, redundant: [{ ...block, ...change }] });
  for (const bad of [{ timestampOffset: 0 }, { timestampOffset: 16_384 }, { payload: Buffer.alloc(1_024) }]) {
    t.throws(writes(bad), RangeError);
  }
  t.same(parseRed(writes({ timestampOffset: 16_383, payload: Buffer.alloc(1_023) })()).ok, true);
  t.throws(() => writeRed({ ...red, redundant: new Array(9).fill(block) }), RangeError);

  const history = new RedHistory();
  const offsets = (distances: number[], timestamp: number, ticks = 960) =>
    history.copies(distances, timestamp, ticks, 96).map((one) => `${one.timestampOffset}:${one.payload[0]}`);
  t.same(offsets([1], 0), []);
  const start = 2 ** 32 - 2 * 960;
  for (let i = 0; i < 20; i++) history.sent(Buffer.from([i]), (start + i * 960) >>> 0, 960);
  const now = start + 20 * 960 - 2 ** 32;
  t.same(offsets([1, 3], now), ['2880:17', '960:19'], 'oldest first');
  t.same(offsets([16, 17, 18], now), ['15360:4'], 'none that is forgotten or too old to be said');
  t.same(offsets([1], now + 960), [], 'none across a pause');
  t.same(offsets([1], now, 1_920), [], 'none of another packet time');
  history.sent(Buffer.alloc(1_100), now, 960);
  t.same(offsets([1, 2], now + 960), ['1920:19'], 'none too long');
});

test('extended reports: which packets came, how speech is heard; what can not be is cut or not believed', async (t) => {
  const packets: RtcpPacket[] = [
    { type: 'receiver-report', ssrc: 1, reports: [] },
    {
      type: 'extended-report',
      ssrc: 1,
      blocks: [
        { block: 'loss-rle', ssrc: 7, beginSequence: 65_534, received: [true, true, false, false, true, true] },
        {
          block: 'voip-metrics',
          ssrc: 7,
          lossPct: (26 * 100) / 256,
          discardPct: 0,
          burstDensityPct: (77 * 100) / 256,
          gapDensityPct: (5 * 100) / 256,
          burstDurationMs: 100,
          gapDurationMs: 1_200,
          roundTripMs: 50,
          endSystemDelayMs: 80,
          gmin: 16,
          rFactor: 90,
          mosListening: 4.2,
          mosConversational: 4.1,
          playoutDelayMs: 80,
          playoutMaximumMs: 200,
        },
      ],
    },
  ];
  const datagram = writeRtcp(packets);
  t.equal(datagram.subarray(8).toString('hex'), XR.replace(/\s/g, ''));
  t.same(parseRtcp(datagram), { ok: true, packets });
  const rest: RtcpPacket[] = [
    { type: 'receiver-report', ssrc: 1, reports: [] },
    {
      type: 'extended-report',
      ssrc: 1,
      blocks: [
        { block: 'reference-time', ntp: { seconds: 5, fraction: 6 } },
        { block: 'reference-delay', reports: [{ ssrc: 7, lastReference: 8, delaySince: 9 }] },
        { block: 'loss-rle', ssrc: 7, beginSequence: 3, received: Array.from({ length: 100 }, (_, i) => i % 7 !== 0) },
      ],
    },
  ];
  t.same(parseRtcp(writeRtcp(rest)), { ok: true, packets: rest });

  const xr = (blocks: string) => {
    const body = hex(blocks.replace(/\s/g, ''));
    const parsed = parseRtcp(
      Buffer.concat([
        hex('80c90001 00000001'),
        Buffer.from([0x80, 207, 0, 1 + body.length / 4]),
        hex('00000001'),
        body,
      ]),
    );
    return parsed.ok && parsed.packets[1]?.type === 'extended-report' ? parsed.packets[1].blocks : parsed;
  };
  t.match(xr('01000003 00000007 00000005 40030001'), { ok: false }, 'fewer fates than it says');
  t.match(xr('01000003 00000007 00000005 40030000'), { ok: false }, 'ended early');
  t.match(xr('01000003 00000007 00000005 7fff0000'), [{ received: [true, true, true, true, true] }], 'a run too long');
  t.match(xr('01000003 00000007 00000005 00027fff'), [{ received: [false, false, true, true, true] }]);
  t.same(xr('01000003 00000007 0000ffff 7fff7fff'), [], 'more packets than anybody counts');
  t.same(xr('01010003 00000007 00000005 7fff0000'), [], 'thinned');
  t.same(xr('63000001 00000007'), [], 'an unknown block');
  const lies = xr('07000008 00000007 ffffffff ffffffff ffffffff ffffffff c8c8ffff ffffffff ffffffff');
  t.match(lies, [{ rFactor: null, mosListening: null, mosConversational: null }]);
  const most = Array.isArray(lies) ? lies[0] : null;
  t.ok(most?.block === 'voip-metrics' && most.lossPct < 100, 'a share is one of 256');
  t.match(xr('07000008 00000007 00000000 00000000 00000000 00000000 7f7f7f7f 00000000 00000000'), [{ rFactor: null }]);
});

test('RTP and RTCP on one port are told apart (RFC 5761)', async (t) => {
  t.equal(kindOfDatagram(hex('8060')), 'rtp');
  t.equal(kindOfDatagram(hex('80e0')), 'rtp', 'payload type 96 with the marker');
  for (const type of ['c8', 'c9', 'cb', 'c0', 'df']) t.equal(kindOfDatagram(hex(`80${type}`)), 'rtcp');
  t.equal(kindOfDatagram(hex('0001')), 'neither', 'STUN');
  t.equal(kindOfDatagram(hex('80')), 'neither');
});

test('sequence numbers and timestamps wrap', async (t) => {
  t.equal(sequenceDistance(0xffff, 2), 3);
  t.equal(sequenceDistance(2, 0xffff), -3);
  t.equal(sequenceDistance(0, 0x8000), -0x8000);
  t.equal(timestampDistance(0xffffff00, 0x100), 0x200);
  t.equal(timestampDistance(0x100, 0xffffff00), -0x200);
});

test('reception: probation, loss, wrap, reordering, restart, jitter', async (t) => {
  const statistics = new ReceptionStatistics({ ssrc: 7, clockRateHz: 48_000 });
  const packet = (sequence: number, lateMs = 0) =>
    statistics.packet(sequence & 0xffff, (sequence * 960) >>> 0, sequence * 20 + lateMs);
  t.equal(packet(65_530), 'probation');
  t.equal(packet(65_532), 'probation', 'not in sequence: the probation begins anew');
  t.same([statistics.isValid, statistics.expected], [false, 0]);
  t.equal(packet(65_533), 'valid');
  t.same([statistics.received, statistics.expected], [2, 2]);
  for (const sequence of [65_534, 65_536, 65_535, 65_538, 65_538]) t.equal(packet(sequence), 'valid');
  t.same([statistics.received, statistics.expected, statistics.lost], [7, 7, 0], 'a duplicate hides a loss (A.3)');
  packet(65_542);
  t.same([statistics.expected, statistics.lost], [11, 3]);
  const first = statistics.report(65_542 * 20);
  t.match(first, { ssrc: 7, highestSequence: 65_542, cumulativeLost: 3, fractionLost: Math.floor((3 * 256) / 11) });
  t.equal(statistics.report(65_542 * 20).fractionLost, 0, 'a span without packets');

  t.equal(packet(100_000), 'jump');
  t.equal(packet(65_543), 'valid', 'one stray packet changes nothing');
  t.equal(packet(100_000), 'jump');
  t.equal(packet(100_001), 'restarted');
  t.same([statistics.received, statistics.expected, statistics.lost], [10, 13, 3], 'what was before is kept');
  t.equal(statistics.report(0).cumulativeLost, 0);

  const wrapping = new ReceptionStatistics({ ssrc: 1, clockRateHz: 48_000 });
  for (const sequence of [65_535, 0, 1]) wrapping.packet(sequence, 0, 0);
  t.same([wrapping.received, wrapping.expected], [3, 3], 'a probation across the wrap');

  const steady = new ReceptionStatistics({ ssrc: 1, clockRateHz: 48_000 });
  for (let i = 0; i < 400; i++) steady.packet(i, (0xffff0000 + i * 960) >>> 0, i * 20 + (i % 2) * 8);
  t.ok(Math.abs(steady.jitterMs - 8) < 0.1, `every transit differs from the last by 8 ms: ${steady.jitterMs}`);
});

test('a source is played once it is valid, and nothing of its start is lost', async (t) => {
  const delivered: string[] = [];
  const refused = new Counters<string>();
  const source = new RemoteSource(48_000, {
    deliver: (packet, arrivalMs) => delivered.push(`${packet.ssrc}:${packet.sequence}@${arrivalMs}`),
    refused: (fault) => refused.count(fault),
  });
  const send = (ssrc: number, sequence: number, atMs: number) =>
    source.packet({ ...fullPacket, ssrc, sequence, timestamp: sequence * 960 }, atMs);
  send(1, 10, 0);
  t.same(delivered, []);
  send(1, 11, 20);
  t.same(delivered.splice(0), ['1:10@0', '1:11@20']);
  send(2, 500, 30);
  send(1, 12, 40);
  send(2, 501, 50);
  t.same(delivered.splice(0), ['1:12@40'], 'another source between the packets of this one is not heard');
  t.equal(source.statistics?.ssrc, 1);
  send(2, 502, 70);
  t.same(delivered.splice(0), ['2:501@50', '2:502@70'], 'it is, once this one is quiet');
  t.equal(source.statistics?.ssrc, 2);
  t.same([source.received, source.lost], [5, 0]);
  send(2, 40_000, 90);
  send(2, 40_001, 110);
  t.same(delivered, ['2:40000@90', '2:40001@110'], 'a sequence that begins anew');
  t.equal(refused.get('source-not-valid'), 1);
});

test('reports: what was sent, round trip, interval', async (t) => {
  t.same(ntpTime(500), { seconds: 2_208_988_800, fraction: 2 ** 31 });
  t.equal(middleOfNtp({ seconds: 0xaaaa1234, fraction: 0x5678ffff }), 0x12345678);
  const sending = new SendStatistics({ clockRateHz: 48_000, nowMs: 1_000, wallMs: 1_700_000_000_000 });
  sending.sent(0xfffffc40, 60, 1_000);
  const report = sending.senderReport(5, [], 1_040);
  t.match(report, { ssrc: 5, packetCount: 1, octetCount: 60, rtpTimestamp: 960 });
  const block = {
    ssrc: 5,
    fractionLost: 0,
    cumulativeLost: 4,
    highestSequence: 9,
    jitter: 480,
    lastSenderReport: 0,
    delaySinceLastSenderReport: 0,
  };
  sending.reported(block, 1_100);
  t.same([sending.roundTripMs, sending.remoteLost, sending.remoteJitterMs], [null, 1, 10], 'four lost of the one sent');
  const answered = { ...block, lastSenderReport: middleOfNtp(report.ntp), delaySinceLastSenderReport: 32_768 };
  sending.reported(answered, 1_040 + 500 + 30);
  t.ok(Math.abs((sending.roundTripMs ?? 0) - 30) < 0.1, `${sending.roundTripMs} ms`);
  sending.reported({ ...answered, lastSenderReport: 1 }, 2_000);
  t.ok(Math.abs((sending.roundTripMs ?? 0) - 30) < 0.1, 'a report of nonsense changes nothing');
  t.ok(rtcpIntervalMs(true, 0) > 200 && rtcpIntervalMs(false, 0.999) < 1_240);
});
