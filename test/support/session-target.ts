/** The whole of a media session as a fuzz target: hostile datagrams between those of a call that goes on. */
import { ManualClock } from '../../src/core/clock.js';
import { sessionFigures } from '../../src/protocol/engine-api.js';
import { writeRed } from '../../src/rtp/red.js';
import { writeRtcp } from '../../src/rtp/rtcp-write.js';
import { kindOfDatagram, parseRtp } from '../../src/rtp/rtp-packet.js';
import { SrtpSender } from '../../src/rtp/srtp-sender.js';
import type { FuzzTarget } from './fuzz.js';
import { mediaSession, plainAgreement, toneFrame } from './media-session.js';
import { rtpPacket } from './parser-targets.js';
import { keyOf } from './srtp-keys.js';

const FAR_SSRC = 0x1234_5678;
const OWN_SSRC = 0x0bad_cafe;
const RED = 97;
const EVENT = 98;

/** @param isSecure the call is one of SRTP; what is mutated is protected, or plain */
export async function sessionTarget(isSecure: boolean): Promise<FuzzTarget> {
  const clock = new ManualClock();
  const payloads = await speech(clock);
  const key = keyOf('AES_CM_128_HMAC_SHA1_80', (size) => Buffer.alloc(size, 0x5c));
  const ownKey = keyOf('AES_CM_128_HMAC_SHA1_80', (size) => Buffer.alloc(size, 0xa3));
  const session = await mediaSession({ clock, ssrc: OWN_SSRC, send: () => {} });
  session.start({
    ...plainAgreement,
    red: { send: RED, receive: RED },
    telephoneEvent: { send: EVENT, receive: EVENT },
    srtp: isSecure ? { send: ownKey, receive: key } : null,
  });
  const sender = new SrtpSender(FAR_SSRC);
  sender.use(isSecure ? key : null);
  const payload = (at: number) => payloads[at % payloads.length] ?? new Uint8Array();
  let sent = 0;
  const next = () => sender.rtp(rtpPacket(sent, payload(sent++))) ?? new Uint8Array();
  const report = () =>
    sender.rtcp(
      writeRtcp([
        {
          type: 'sender-report',
          ssrc: FAR_SSRC,
          ntp: { seconds: 3_900_000_000, fraction: 0 },
          rtpTimestamp: 960,
          packetCount: 5,
          octetCount: 400,
          reports: [],
        },
        { type: 'source-description', chunks: [{ ssrc: FAR_SSRC, cname: 'someone' }] },
      ]),
    ) ?? new Uint8Array();
  const redundant = [{ payloadType: 96, timestampOffset: 960, payload: payload(2) }];
  const plain = [
    rtpPacket(3, payload(3)),
    rtpPacket(40_000, payload(4), { ssrc: 77 }),
    rtpPacket(5, writeRed({ payloadType: 96, payload: payload(3), redundant }), { payloadType: RED }),
    rtpPacket(6, Buffer.from([5, 0x8a, 3, 0xc0]), { payloadType: EVENT, marker: true }),
  ];
  const corpus = [...plain, ...Array.from({ length: 4 }, next), report(), report()];
  let taken = 0;
  return {
    name: isSecure ? 'a session with SRTP' : 'a session',
    corpus,
    leastClasses: isSecure ? 5 : 8,
    take: (input) => {
      if (taken++ % 4 === 0) session.datagram(next(), clock.nowMs());
      const before = total(session.refused.all());
      const known = new Map(Object.entries(session.refused.all()));
      session.datagram(input, clock.nowMs());
      session.expects(input);
      clock.advance(10);
      session.pull(clock.nowMs());
      if (taken % 64 === 0) session.frame(toneFrame(clock.nowMs()));
      if (taken % 128 === 0) sessionFigures.parse(session.figures());
      const all = session.refused.all();
      if (Object.keys(all).length > 64) throw new Error('the classes of fault are without bound');
      if (total(all) === before) return 'ok';
      return Object.entries(all).find(([fault, count]) => count !== known.get(fault))?.[0] ?? 'ok';
    },
    close: () => session.close(),
  };
}

/** Payloads of a tone, as a session of our own encodes it. */
async function speech(clock: ManualClock): Promise<Uint8Array[]> {
  const sent: Uint8Array[] = [];
  const session = await mediaSession({ clock, ssrc: FAR_SSRC, send: (datagram) => sent.push(datagram) });
  session.start(plainAgreement);
  for (let at = 0; at < 50; at += 1) {
    clock.advance(10);
    session.frame(toneFrame(clock.nowMs()));
  }
  session.close();
  return sent
    .filter((datagram) => kindOfDatagram(datagram) === 'rtp')
    .map((datagram) => {
      const parsed = parseRtp(datagram);
      return parsed.ok ? parsed.packet.payload : new Uint8Array();
    });
}

function total(counts: Partial<Record<string, number>>): number {
  return Object.values(counts).reduce<number>((sum, count) => sum + (count ?? 0), 0);
}
