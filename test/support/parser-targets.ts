/** A fuzz target for each parser of what comes from outside, with the promises that it makes beside not throwing. */
import { opusCarriesFec } from '../../src/codec/opus-packet.js';
import { ManualClock } from '../../src/core/clock.js';
import { EventReceiver } from '../../src/media/event-receiver.js';
import { ReportReader } from '../../src/quality/report-reader.js';
import { framePackets, unframePackets } from '../../src/rtp/framing.js';
import { parseRed, writeRed } from '../../src/rtp/red.js';
import type { RtcpPacket } from '../../src/rtp/rtcp.js';
import { parseRtcp } from '../../src/rtp/rtcp-parse.js';
import { writeRtcp } from '../../src/rtp/rtcp-write.js';
import { parseRtp, type RtpPacket, rtpHeaderBytes, writeRtp } from '../../src/rtp/rtp-packet.js';
import { SendStatistics } from '../../src/rtp/send-statistics.js';
import type { SrtpSuite } from '../../src/rtp/srtp-keys.js';
import { SrtpReceiver } from '../../src/rtp/srtp-receiver.js';
import { SrtpSender } from '../../src/rtp/srtp-sender.js';
import { isStun, parseStunBinding, writeStunRequest, writeStunResponse } from '../../src/rtp/stun.js';
import { writeTelephoneEvent } from '../../src/rtp/telephone-event.js';
import { type FuzzTarget, promise } from './fuzz.js';
import { keyOf } from './srtp-keys.js';
import { callMessages, configDefaults, manifests, minisignSignatures, sdp } from './text-targets.js';

const SSRC = 0x1234_5678;

export const rtpPacket = (sequence: number, payload: Uint8Array, more: Partial<RtpPacket> = {}): Buffer =>
  writeRtp({
    payloadType: 96,
    marker: false,
    sequence: sequence & 0xffff,
    timestamp: (sequence * 960) >>> 0,
    ssrc: SSRC,
    csrcs: [],
    extension: null,
    payload,
    ...more,
  });

const PAYLOAD = Buffer.from('78b5c3f20a11223344556677889900aabbccddeeff0123456789abcdef', 'hex');
const rtpCorpus = [
  rtpPacket(1, PAYLOAD),
  rtpPacket(2, new Uint8Array(), { marker: true }),
  rtpPacket(65_535, PAYLOAD, { csrcs: [1, 2, 3] }),
  rtpPacket(3, PAYLOAD, { extension: { profile: 0xbede, data: new Uint8Array(8) }, csrcs: [9] }),
  Buffer.concat([Buffer.from([0xa0]), rtpPacket(4, PAYLOAD).subarray(1), Buffer.from([0, 0, 0, 4])]),
];

const rtp: FuzzTarget = {
  name: 'RTP',
  corpus: rtpCorpus,
  leastClasses: 5,
  take: (input) => {
    const parsed = parseRtp(input);
    const header = rtpHeaderBytes(input);
    promise(header === null || header <= input.length, 'a header ends within the packet');
    if (!parsed.ok) return parsed.fault;
    const { packet } = parsed;
    promise(header !== null && packet.payload.length <= input.length - header, 'a payload lies within the packet');
    const again = parseRtp(writeRtp(packet));
    promise(again.ok && again.packet.payload.length === packet.payload.length, 'what was read can be written');
    return 'ok';
  },
};

const red: FuzzTarget = {
  name: 'RED',
  corpus: [
    writeRed({ payloadType: 96, payload: PAYLOAD, redundant: [] }),
    writeRed({
      payloadType: 96,
      payload: PAYLOAD,
      redundant: [
        { payloadType: 96, timestampOffset: 1_920, payload: PAYLOAD.subarray(3) },
        { payloadType: 96, timestampOffset: 960, payload: PAYLOAD.subarray(9) },
      ],
    }),
  ],
  leastClasses: 4,
  take: (input) => {
    const parsed = parseRed(input);
    if (!parsed.ok) return parsed.fault;
    const { payload, redundant } = parsed.red;
    const bytes = redundant.reduce((sum, block) => sum + block.payload.length, payload.length);
    promise(bytes < input.length && redundant.length <= 8, 'blocks lie within the payload, and are few');
    promise(parseRed(writeRed(parsed.red)).ok, 'what was read can be written');
    return 'ok';
  },
};

const block = (more = {}) => ({
  ssrc: SSRC,
  fractionLost: 12,
  cumulativeLost: 7,
  highestSequence: 4_711,
  jitter: 96,
  lastSenderReport: 0x1234_0000,
  delaySinceLastSenderReport: 6_553,
  ...more,
});
const rtcpCorpus: Buffer[] = (
  [
    [
      {
        type: 'sender-report',
        ssrc: 7,
        ntp: { seconds: 3_900_000_000, fraction: 99 },
        rtpTimestamp: 960,
        packetCount: 50,
        octetCount: 4_000,
        reports: [block()],
      },
      { type: 'source-description', chunks: [{ ssrc: 7, cname: 'someone' }] },
      {
        type: 'extended-report',
        ssrc: 7,
        blocks: [
          {
            block: 'loss-rle',
            ssrc: SSRC,
            beginSequence: 65_500,
            received: Array.from({ length: 90 }, (_, i) => i % 7 > 0),
          },
          { block: 'reference-time', ntp: { seconds: 3_900_000_000, fraction: 1 } },
          { block: 'reference-delay', reports: [{ ssrc: SSRC, lastReference: 77, delaySince: 88 }] },
          {
            block: 'voip-metrics',
            ssrc: SSRC,
            ...{ lossPct: 3, discardPct: 1, burstDensityPct: 20, gapDensityPct: 1, burstDurationMs: 100 },
            ...{ gapDurationMs: 3_000, roundTripMs: 40, endSystemDelayMs: 80, gmin: 16, rFactor: 80 },
            ...{ mosListening: 4.1, mosConversational: 4, playoutDelayMs: 40, playoutMaximumMs: 100 },
          },
        ],
      },
    ],
    [
      { type: 'receiver-report', ssrc: 7, reports: [block(), block({ ssrc: 9 })] },
      { type: 'source-description', chunks: [{ ssrc: 7, cname: 'someone' }] },
      { type: 'goodbye', ssrcs: [7], reason: 'off' },
    ],
    [{ type: 'receiver-report', ssrc: 7, reports: [] }],
  ] as const satisfies readonly (readonly RtcpPacket[])[]
).map((packets) => writeRtcp(packets));

const rtcp: FuzzTarget = {
  name: 'RTCP with XR',
  corpus: rtcpCorpus,
  leastClasses: 7,
  take: (input) => {
    const parsed = parseRtcp(input);
    if (!parsed.ok) return parsed.fault;
    promise(parsed.packets.length <= 16, 'packets are few');
    return 'ok';
  },
};

/** What a far end claims of our stream, however well formed. */
function lyingReports(): FuzzTarget {
  const sentPackets = 1_000;
  const statistics = new SendStatistics({ clockRateHz: 48_000, nowMs: 0, wallMs: 1_700_000_000_000 });
  for (let at = 0; at < sentPackets; at += 1) statistics.sent(at * 960, 60, at * 20);
  let reader = new ReportReader();
  let read = 0;
  return {
    name: 'reports that lie',
    corpus: rtcpCorpus,
    leastClasses: 3,
    take: (input) => {
      const parsed = parseRtcp(input);
      if (!parsed.ok) return 'not RTCP';
      let found = 'no report';
      for (const packet of parsed.packets) {
        const reports = packet.type === 'sender-report' || packet.type === 'receiver-report' ? packet.reports : [];
        const runs = packet.type === 'extended-report' ? packet.blocks.filter((one) => one.block === 'loss-rle') : [];
        const claims = [...reports.map((one) => [one, null] as const), ...runs.map((one) => [null, one] as const)];
        for (const [report, rle] of claims) {
          found = report === null ? 'runs' : 'report';
          if (report !== null) statistics.reported(report, 20_000);
          const context = { nowMs: 20_000, sentPackets, roundTripMs: 40, returnExcessMs: 0, clockRateHz: 48_000 };
          const { packets, lost, jitterMs } = reader.read(report, rle, context);
          promise(lost <= packets && packets <= sentPackets && lost >= 0, 'nobody has lost what was never sent');
          promise(jitterMs >= 0 && jitterMs <= 5_000, 'a jitter is one');
          promise((statistics.remoteLost ?? 0) <= sentPackets, 'no more is lost than was sent');
          promise((statistics.roundTripMs ?? 0) >= 0, 'a round trip takes time');
          // What it believes adds up: another begins from time to time.
          if (++read % 50 === 0) reader = new ReportReader();
        }
      }
      return found;
    },
  };
}

function srtp(suite: SrtpSuite, kind: 'rtp' | 'rtcp'): FuzzTarget {
  const key = keyOf(suite, (size) => Buffer.alloc(size, 0x5c));
  const sender = new SrtpSender(SSRC);
  sender.use(key);
  const plain =
    kind === 'rtp'
      ? Array.from({ length: 8 }, (_, at) => rtpPacket(at, PAYLOAD, at % 3 === 0 ? { csrcs: [at] } : {}))
      : Array.from({ length: 8 }, () => writeRtcp([{ type: 'receiver-report', ssrc: SSRC, reports: [block()] }]));
  const corpus = plain.map((packet) => Buffer.from(sender[kind](packet) ?? []));
  const genuine = new Set(plain.map((packet) => packet.toString('latin1')));
  const receiver = new SrtpReceiver(key);
  let nowMs = 0;
  return {
    name: `${kind === 'rtp' ? 'SRTP' : 'SRTCP'}, ${suite}`,
    corpus: kind === 'rtp' ? [...corpus, ...rtpCorpus] : [...corpus, ...rtcpCorpus],
    leastClasses: 3,
    take: (input) => {
      nowMs += 1;
      const opened = receiver[kind](input, nowMs);
      if (!opened.ok) return opened.fault;
      promise(genuine.has(opened.packet.toString('latin1')), 'nothing is opened that was not sealed');
      return 'ok';
    },
  };
}

const framing: FuzzTarget = {
  name: 'RFC 4571 framing',
  corpus: [framePackets(rtpCorpus), framePackets([...rtcpCorpus, new Uint8Array(), ...rtpCorpus]), framePackets([])],
  leastClasses: 2,
  take: (input) => {
    const { packets, fault } = unframePackets(input);
    const bytes = packets.reduce((sum, packet) => sum + packet.length + 2, 0);
    promise(bytes <= input.length && packets.length <= 64, 'packets lie within the message, and are few');
    promise(
      packets.every((packet) => packet.length > 0 && packet.length <= 2_048),
      'none is empty or too large',
    );
    return fault ?? 'ok';
  },
};

const transaction = Buffer.alloc(12, 7);
const stun: FuzzTarget = {
  name: 'STUN',
  corpus: [
    writeStunRequest(transaction),
    writeStunResponse(transaction, { address: '192.0.2.7', port: 40_000 }),
    writeStunResponse(transaction, { address: '2001:db8::7', port: 40_000 }),
  ],
  leastClasses: 3,
  take: (input) => {
    const binding = parseStunBinding(input);
    if (binding === null) return isStun(input) ? 'no binding' : 'no STUN';
    promise(isStun(input) && binding.transaction.length === 12, 'a binding is STUN, and has its transaction');
    return binding.kind;
  },
};

const opusPackets: FuzzTarget = {
  name: 'Opus packets',
  corpus: [PAYLOAD, Buffer.from([0x4b, 0xc5, 0xff, 0xff, 3, 9, 9, 0x80]), Buffer.from([0x0a, 0xfc, 1, 2, 0x40, 4])],
  leastClasses: 2,
  take: (input) => (opusCarriesFec(input) ? 'carries FEC' : 'ok'),
};

/** What is told of digits: 4 bytes of timestamp, then the payload. */
function telephoneEvents(): FuzzTarget {
  const clock = new ManualClock();
  let found = 'ok';
  const receiver = new EventReceiver({
    clock,
    clockRateHz: () => 48_000,
    digit: (digit, durationMs) => {
      found = 'digit';
      promise(/^[0-9*#A-D]$/.test(digit) && durationMs >= 0 && durationMs <= 10_000, 'a digit is one, and ends');
    },
    refused: (fault) => {
      found = fault;
    },
  });
  const told = (event: number, timestamp: number, isEnd: boolean, duration: number) => {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(timestamp);
    return Buffer.concat([head, writeTelephoneEvent({ event, isEnd, volume: 10, duration })]);
  };
  return {
    name: 'telephone events',
    corpus: [
      told(1, 960, false, 960),
      told(1, 960, true, 4_800),
      told(11, 96_000, true, 65_535),
      Buffer.concat([told(5, 9, true, 800), told(6, 0, true, 800).subarray(4)]),
    ],
    leastClasses: 4,
    take: (input) => {
      found = 'ok';
      clock.advance(20);
      const timestamp = input.length < 4 ? 0 : input.readUInt32BE();
      receiver.packet({ timestamp, payload: input.subarray(4) });
      return found;
    },
  };
}

/** Each with state of its own. */
export function parserTargets(): FuzzTarget[] {
  const suites: SrtpSuite[] = ['AES_CM_128_HMAC_SHA1_80', 'AEAD_AES_128_GCM', 'AEAD_AES_256_GCM'];
  return [
    ...[
      rtp,
      red,
      rtcp,
      lyingReports(),
      sdp,
      framing,
      stun,
      callMessages,
      manifests,
      configDefaults,
      minisignSignatures,
      opusPackets,
      telephoneEvents(),
    ],
    ...suites.flatMap((suite) => [srtp(suite, 'rtp'), srtp(suite, 'rtcp')]),
  ];
}
