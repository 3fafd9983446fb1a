import { test } from 'tap';
import { Counters } from '../src/core/counters.js';
import { ReceptionStatistics } from '../src/rtp/reception.js';
import { RemoteSource } from '../src/rtp/remote-source.js';
import { middleOfNtp, ntpTime, type RtcpPacket } from '../src/rtp/rtcp.js';
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
};

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
  const extended = parseRtcp(hex('80c90001 00000001 80cf0001 00000001'));
  t.same(extended, { ok: true, packets: [receiverReport] }, 'an unknown kind (XR) is skipped');
  const padded = parseRtcp(hex('80c90001 00000001 a1cb0002 00000001 00000004'));
  t.equal(padded.ok && padded.packets.length, 2, 'the last packet may be padded');
});

test('malformed RTP and RTCP get their own names', async (t) => {
  for (const [fault, text] of Object.entries(BAD_RTP)) t.same(parseRtp(hex(text)), { ok: false, fault }, fault);
  for (const [fault, text] of Object.entries(BAD_RTCP)) t.same(parseRtcp(hex(text)), { ok: false, fault }, fault);
  t.same(parseRtp(hex('b0600001 00000000 000000aa bede0001 00000005 00')), { ok: false, fault: 'rtp-invalid-padding' });
});

test('mutated packets never throw, and stay within their datagrams', async (t) => {
  const seed = 20_240_607;
  const random = seededRandom(seed);
  const seen = new Counters<string>();
  const originals = [FULL_PACKET, ...Object.values(BAD_RTP), SENDER_REPORT + NAME, ...Object.values(BAD_RTCP)].map(hex);
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
  }
  for (const name of ['rtp', 'rtcp', ...Object.keys(BAD_RTP), ...Object.keys(BAD_RTCP)]) {
    t.ok(seen.get(name) > 0, `${name} was met`);
  }
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
  t.same([sending.roundTripMs, sending.remoteLost, sending.remoteJitterMs], [null, 4, 10]);
  const answered = { ...block, lastSenderReport: middleOfNtp(report.ntp), delaySinceLastSenderReport: 32_768 };
  sending.reported(answered, 1_040 + 500 + 30);
  t.ok(Math.abs((sending.roundTripMs ?? 0) - 30) < 0.1, `${sending.roundTripMs} ms`);
  sending.reported({ ...answered, lastSenderReport: 1 }, 2_000);
  t.ok(Math.abs((sending.roundTripMs ?? 0) - 30) < 0.1, 'a report of nonsense changes nothing');
  t.ok(rtcpIntervalMs(true, 0) > 1_000 && rtcpIntervalMs(false, 0.999) < 6_200);
});
