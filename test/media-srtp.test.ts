import { randomBytes } from 'node:crypto';
import { type Test, test } from 'tap';
import { ManualClock } from '../src/core/clock.js';
import type { MediaSession } from '../src/media/media-session.js';
import { parseRtcp } from '../src/rtp/rtcp-parse.js';
import { kindOfDatagram, parseRtp } from '../src/rtp/rtp-packet.js';
import type { SrtpMasterKey } from '../src/rtp/srtp-keys.js';
import { mediaSession, plainAgreement, toneFrame } from './support/media-session.js';
import { keyOf } from './support/srtp-keys.js';

interface Keys {
  readonly send: SrtpMasterKey;
  readonly receive: SrtpMasterKey;
}

/** An end that hears nothing by itself; what it sends is kept. */
async function end(t: Test, clock: ManualClock, ssrc: number, keys: Keys | null) {
  const sent: Uint8Array[] = [];
  const session = await mediaSession({ clock, ssrc, send: (datagram) => sent.push(datagram) });
  session.start({ ...plainAgreement, srtp: keys });
  t.teardown(() => session.close());
  /** Speaks for so long. @returns what was sent meanwhile, RTP and RTCP */
  const speak = (ms: number) => {
    const before = sent.length;
    for (let at = 0; at < ms; at += 10) {
      clock.advance(10);
      session.frame(toneFrame(clock.nowMs()));
    }
    return sent.slice(before);
  };
  return { session, sent, speak };
}

/** Hands over each datagram 20 ms after the one before, and plays. */
function hand(clock: ManualClock, to: MediaSession, datagrams: readonly Uint8Array[]): void {
  for (const datagram of datagrams) {
    to.datagram(datagram, clock.nowMs());
    for (let at = 0; at < 20; at += 10) {
      to.pull(clock.nowMs());
      clock.advance(10);
    }
  }
}

function keysOfCall() {
  const [a, b] = [keyOf('AES_CM_128_HMAC_SHA1_80', randomBytes), keyOf('AES_CM_128_HMAC_SHA1_80', randomBytes)];
  return { a: { send: a, receive: b }, b: { send: b, receive: a } };
}

test('two sessions with keys: heard at the far end, read by nobody in between', async (t) => {
  const clock = new ManualClock();
  const keys = keysOfCall();
  const [a, b] = [await end(t, clock, 11, keys.a), await end(t, clock, 12, keys.b)];
  const eavesdropper = await end(t, clock, 13, null);
  const datagrams = a.speak(8_000);
  const reports = datagrams.filter((one) => kindOfDatagram(one) === 'rtcp');
  t.ok(reports.length > 0 && datagrams.length > 390);
  t.ok(
    reports.every((one) => !parseRtcp(one).ok && !Buffer.from(one).includes('cname-11')),
    'RTCP is not readable',
  );
  t.notOk(datagrams.some((one) => Buffer.from(one).includes('cname')));
  hand(clock, b.session, datagrams);
  const figures = b.session.figures();
  t.match(figures, { srtp: 'AES_CM_128_HMAC_SHA1_80', remoteSsrc: 11, lost: 0, refused: {} });
  t.equal(figures.received, datagrams.length - reports.length);
  t.type(figures.firstAudioAfterMs, 'number');
  t.equal(eavesdropper.session.figures().srtp, null);

  // The same speech without keys differs in every payload, not in its headers.
  const plain = await end(t, new ManualClock(), 11, null);
  plain.session.frame(toneFrame(0));
  const again = await end(t, new ManualClock(), 11, keys.a);
  const payloads = [plain, again].map(({ speak }) => {
    const first = parseRtp(speak(40).find((one) => kindOfDatagram(one) === 'rtp') ?? new Uint8Array());
    return first.ok ? first.packet : undefined;
  });
  t.equal(payloads[0]?.sequence, payloads[1]?.sequence);
  t.notSame(payloads[0]?.payload, payloads[1]?.payload.subarray(0, payloads[0]?.payload.length));
});

test('what is not authentic is counted by class, moves no address, and is not played', async (t) => {
  const clock = new ManualClock();
  const keys = keysOfCall();
  const [a, b] = [await end(t, clock, 11, keys.a), await end(t, clock, 12, keys.b)];
  const genuine = a.speak(400);
  const stranger = (await end(t, clock, 11, keysOfCall().a)).speak(1_000);
  const plain = (await end(t, clock, 11, null)).speak(8_000);
  const rtpOf = (datagrams: readonly Uint8Array[]) => datagrams.filter((one) => kindOfDatagram(one) === 'rtp');
  const [first] = rtpOf(genuine);
  if (first === undefined) throw new Error('nothing was sent');

  t.notOk(b.session.expects(rtpOf(plain)[0] as Uint8Array), 'plain RTP does not move the remote');
  t.notOk(b.session.expects(rtpOf(stranger)[0] as Uint8Array), 'nor does what another key was used for');
  t.notOk(b.session.expects(first.subarray(0, 20)));
  t.same(b.session.figures().refused, {}, 'who only asks counts nothing');
  t.ok(b.session.expects(first));
  t.ok(b.session.expects(first), 'to be asked takes nothing away');
  hand(clock, b.session, genuine);
  t.notOk(b.session.expects(first), 'what came before proves nothing');

  const { received } = b.session.figures();
  hand(clock, b.session, genuine);
  hand(clock, b.session, rtpOf(stranger).slice(-5));
  hand(clock, b.session, [first.subarray(0, 21), (rtpOf(stranger)[30] as Uint8Array).subarray(0, 40)]);
  const report = plain.find((one) => kindOfDatagram(one) === 'rtcp') as Uint8Array;
  hand(clock, b.session, [report, ...rtpOf(plain).slice(-3)]);
  const figures = b.session.figures();
  t.equal(figures.received, received, 'nothing of it was taken');
  t.match(figures.refused, {
    'srtp-replayed': rtpOf(genuine).length,
    'srtp-too-short': 1,
    'rtcp-not-encrypted': 1,
    'rtp-not-encrypted': 3,
  });
  t.equal(figures.refused['srtp-auth-failed'], 6);

  // A session without keys takes nothing that is protected for speech of its own: the payload is no Opus any more.
  hand(clock, b.session, a.speak(100));
  t.equal(b.session.figures().received, received + 5, 'and the call goes on');
});

test('a media process that starts again under the same keys has another source, and is heard', async (t) => {
  const clock = new ManualClock();
  const keys = keysOfCall();
  const [a, b] = [await end(t, clock, 11, keys.a), await end(t, clock, 12, keys.b)];
  const before = a.speak(2_000);
  hand(clock, b.session, before);
  a.session.close();
  const again = await end(t, clock, 0xdead_beef, keys.a);
  const after = again.speak(2_000);
  hand(clock, b.session, after);
  t.match(b.session.figures(), { remoteSsrc: 0xdead_beef, refused: {} });
  hand(clock, b.session, before.slice(0, 50));
  t.match(b.session.figures(), { remoteSsrc: 0xdead_beef }, 'what the first one said comes back in vain');
  t.ok((b.session.figures().refused['srtp-replayed'] ?? 0) >= 49);

  // The far end starts again too, and hears who has been talking.
  const late = await end(t, clock, 14, keys.b);
  hand(clock, late.session, again.speak(200));
  t.match(late.session.figures(), { remoteSsrc: 0xdead_beef, refused: {} });

  // Told of a wrong key, nothing changes; told of the same ones again, nothing starts anew.
  t.throws(
    () => b.session.start({ ...plainAgreement, srtp: { ...keys.b, send: { ...keys.b.send, keyAndSalt: 'AAAA' } } }),
    {
      code: 'srtp-key-invalid',
    },
  );
  b.session.start({ ...plainAgreement, srtp: keys.b });
  hand(clock, b.session, after.slice(-5));
  t.ok((b.session.figures().refused['srtp-replayed'] ?? 0) >= 54);
});
