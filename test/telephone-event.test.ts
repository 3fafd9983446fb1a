import { test } from 'tap';
import { ManualClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { EventReceiver } from '../src/media/event-receiver.js';
import { EventSender } from '../src/media/event-sender.js';
import type { MediaSession } from '../src/media/media-session.js';
import { kindOfDatagram, parseRtp, type RtpPacket } from '../src/rtp/rtp-packet.js';
import { digitOf, eventOf, parseTelephoneEvents, writeTelephoneEvent } from '../src/rtp/telephone-event.js';
import { mediaSession, plainAgreement, toneFrame } from './support/media-session.js';
import { seededRandom } from './support/random.js';

const DIGITS = '0123456789*#ABCD';

test('telephone events: read and written', async (t) => {
  t.same([...DIGITS].map(eventOf), [...Array(16).keys()], 'RFC 4733, 3.2');
  t.same(
    [...Array(16).keys()].map((event) => digitOf(event)),
    [...DIGITS],
  );
  for (const wrong of ['', 'E', '12', 'ä']) t.equal(eventOf(wrong), undefined);
  t.equal(digitOf(16), undefined);
  const one = { event: 11, isEnd: true, volume: 10, duration: 4_800 };
  const two = { event: 0, isEnd: false, volume: 63, duration: 0xffff };
  t.same(writeTelephoneEvent(one), Buffer.from('0b8a12c0', 'hex'));
  t.same(parseTelephoneEvents(Buffer.concat([writeTelephoneEvent(one), writeTelephoneEvent(two)])), [one, two]);
  t.match(parseTelephoneEvents(Buffer.from('0bca12c0', 'hex')), [one], 'the reserved bit is ignored');
  for (const length of [0, 1, 3, 5, 36, 1_400]) t.equal(parseTelephoneEvents(Buffer.alloc(length)), null, `${length}`);
});

/** A receiver, and what it told. */
function receiver() {
  const clock = new ManualClock();
  const digits: string[] = [];
  const refused = new Counters<string>();
  const events = new EventReceiver({
    clock,
    clockRateHz: () => 8_000,
    digit: (digit, durationMs) => digits.push(`${digit} ${durationMs}`),
    refused: (fault) => refused.count(fault),
  });
  const told = (timestamp: number, event: number, duration: number, isEnd = false) =>
    events.packet({ timestamp: timestamp >>> 0, payload: writeTelephoneEvent({ event, isEnd, volume: 10, duration }) });
  return { clock, digits, refused, events, told };
}

test('each digit is told once, whichever of its packets come', async (t) => {
  const clock = new ManualClock();
  for (let seed = 1; seed <= 40; seed++) {
    const random = seededRandom(seed);
    const { digits, events } = receiver();
    const told: string[] = [];
    const packets: { timestamp: number; payload: Buffer }[] = [];
    const sender = new EventSender({
      clock,
      begin: () => (0xffff_ff00 + Math.round(clock.nowMs() * 8)) >>> 0,
      send: (packet) => packets.push(packet),
      end: () => told.push('end'),
    });
    const format = { payloadType: 101, clockRateHz: 8_000 };
    t.equal(sender.send('15#', 100, format), true);
    t.equal(sender.send('A', 40, format), true);
    clock.advance(2_000);
    t.equal(told.length, 4);
    // 20 % are lost and 20 % come twice; of each digit one packet gets through.
    const firsts = new Set<number>();
    for (const packet of packets) {
      const isLost = random() < 0.2 && firsts.has(packet.timestamp);
      firsts.add(packet.timestamp);
      if (isLost) continue;
      events.packet(packet);
      if (random() < 0.2) events.packet(packet);
    }
    events.packet(packets[0] ?? { timestamp: 0, payload: Buffer.alloc(0) });
    clock.advance(300);
    const heard = digits.map((digit) => digit[0]).join('');
    t.ok(heard === '15#A' || heard === '15#', heard);
    events.close();
  }
});

test('a digit of which the end is lost, one that is long, and hostile ones', async (t) => {
  const lost = receiver();
  lost.told(800, 5, 160);
  lost.told(800, 5, 320);
  lost.clock.advance(249);
  t.same(lost.digits, []);
  lost.clock.advance(1);
  t.same(lost.digits, ['5 40']);
  lost.told(800, 5, 800, true);
  t.same(lost.digits, ['5 40'], 'its end comes too late');
  lost.told(2_400, 6, 160);
  lost.told(3_200, 7, 160, true);
  t.same(lost.digits, ['5 40', '6 20', '7 20'], 'the next one ends the one before');

  const long = receiver();
  long.told(-0x8000, 9, 0xffff);
  long.told(0x7fff, 9, 800);
  long.told(0x7fff, 9, 1_600, true);
  t.same(long.digits, ['9 8392'], 'two segments (RFC 4733, 2.5.1.3), over the wrap-around');
  long.told(0x7fff + 1_600, 9, 800, true);
  t.same(long.digits.slice(1), ['9 100'], 'the same digit again is another');

  for (const far of [2 ** 31, 2 ** 31 + 1, 3 * 2 ** 30, 2 ** 32 - 11 * 8_000]) {
    const anew = receiver();
    anew.told(5, 1, 800, true);
    anew.clock.advance(300);
    anew.told(5 + far, 2, 800, true);
    anew.told(5 + far, 2, 800, true);
    anew.told(5 + far - 1_600, 1, 800, true);
    t.same(anew.digits, ['1 100', '2 100'], `${far} ticks on: timestamps that began anew, or hours later`);
  }

  const packed = receiver();
  const digit = (event: number, duration: number) => writeTelephoneEvent({ event, isEnd: true, volume: 10, duration });
  packed.events.packet({ timestamp: 0, payload: Buffer.concat([digit(1, 800), digit(2, 400), digit(3, 0)]) });
  t.same(packed.digits, ['1 100', '2 50', '3 0'], 'several in one packet (2.5.1.5)');

  const hostile = receiver();
  for (let index = 0; index < 500; index++) hostile.told(index * 1_000, index % 16, 160, true);
  t.equal(hostile.digits.length, 20, 'no more than 20 in a second');
  hostile.told(600_000, 16, 160, true);
  hostile.events.packet({ timestamp: 0, payload: Buffer.alloc(3) });
  t.same(hostile.refused.all(), { 'event-flood': 480, 'event-not-a-digit': 1, 'event-malformed': 1 });
  const random = seededRandom(4_733);
  for (let index = 0; index < 5_000; index++) {
    const payload = Buffer.from(Array.from({ length: Math.floor(random() * 40) }, () => Math.floor(random() * 256)));
    hostile.events.packet({ timestamp: Math.floor(random() * 2 ** 32), payload });
    hostile.clock.advance(random() < 0.1 ? 300 : 10);
  }
  t.ok(hostile.digits.length <= 20 * 200, 'noise');
  t.ok(hostile.digits.every((told) => /^[0-9*#A-D] \d{1,5}$/.test(told) && Number(told.slice(2)) <= 10_000));
});

const agreement = { ...plainAgreement, telephoneEvent: { send: 98, receive: 98 } };

/** Two sessions that hear each other, 10 ms by 10 ms, and all RTP that the first one sends. */
async function pair() {
  const clock = new ManualClock();
  const sent: RtpPacket[] = [];
  const digits: string[] = [];
  const sessions: MediaSession[] = [];
  for (const ssrc of [21, 22]) {
    const send = (datagram: Uint8Array) => {
      const parsed = parseRtp(datagram);
      if (ssrc === 21 && parsed.ok && kindOfDatagram(datagram) === 'rtp') sent.push(parsed.packet);
      clock.after(5, () => sessions[22 - ssrc]?.datagram(datagram, clock.nowMs()));
    };
    sessions.push(
      await mediaSession({
        clock,
        ssrc,
        send,
        digit: (digit, durationMs) => digits.push(`${ssrc} ${digit} ${durationMs}`),
      }),
    );
  }
  const [a, b] = sessions as [MediaSession, MediaSession];
  const run = (ms: number, talk = true) => {
    for (let at = 0; at < ms; at += 10) {
      clock.advance(10);
      if (talk) for (const session of sessions) session.frame(toneFrame(clock.nowMs()));
      for (const session of sessions) session.pull(clock.nowMs());
    }
  };
  return { a, b, sent, digits, run };
}

test('digits in a call take the place of audio, in its sequence and on its timestamps', async (t) => {
  const { a, b, sent, digits, run } = await pair();
  t.throws(() => a.sendDigits('1', 100), { code: 'events-not-agreed' });
  for (const session of [a, b]) session.start(agreement);
  run(1_000);
  const before = sent.length;
  a.sendDigits('4*', 100);
  run(1_000);
  t.same(digits, ['22 4 100', '22 * 100']);
  const events = sent.filter(({ payloadType }) => payloadType === 98);
  t.equal(events.length, 2 * 8, 'five that grow, and the end three times');
  const four = events.slice(0, 8);
  t.same(
    four.map(({ marker }) => marker),
    [true, ...Array(7).fill(false)],
  );
  t.equal(new Set(four.map(({ timestamp }) => timestamp)).size, 1);
  t.same(
    four.map(({ payload }) => parseTelephoneEvents(payload)?.[0]),
    [960, 1_920, 2_880, 3_840, 4_800, 4_800, 4_800, 4_800].map((duration, index) => ({
      ...{ event: 4, isEnd: index >= 5, volume: 10, duration },
    })),
  );
  const first = sent.indexOf(four[0] as RtpPacket);
  t.same(sent.slice(first, first + 8), four, 'no audio between them');
  t.ok(
    sent.every(({ sequence }, index) => index === 0 || sequence === ((sent[index - 1]?.sequence ?? 0) + 1) % 2 ** 16),
    'one sequence',
  );
  const audio = sent.filter(({ payloadType }) => payloadType === 96);
  const after = audio.findIndex((packet) => packet.sequence > (four[7]?.sequence ?? 0));
  t.ok(audio[after]?.marker, 'audio begins anew');
  const ticks = ((audio[after]?.timestamp ?? 0) - (four[0]?.timestamp ?? 0)) / 48;
  t.ok(ticks >= 100 && ticks <= 200, `${ticks} ms after the digit's begin`);
  t.match(b.figures(), { lost: 0, concealed: 0, concealedMs: 0, quality: { concealedPct: 0 }, refused: {} });
  t.ok(b.figures().jitterMs < 5, `jitter of ${b.figures().jitterMs} ms`);
  t.ok(sent.length > before);

  for (const wrong of ['x', '1E']) t.throws(() => a.sendDigits(wrong, 100), { code: 'digits-invalid' });
  a.sendDigits('1'.repeat(32), 100);
  a.sendDigits('1'.repeat(32), 100);
  t.throws(() => a.sendDigits('1'.repeat(32), 100), { code: 'events-full' });
  run(14_000);
  t.equal(digits.length, 2 + 64);
  t.match(b.figures(), { lost: 0, late: 0, concealedMs: 0, refused: {} }, 'more of them than playout has room for');
  a.close();
  b.close();
});

test('digits of a muted call, and what a receiver has not agreed to', async (t) => {
  const { a, b, sent, digits, run } = await pair();
  a.start({ ...agreement, muted: true });
  b.start(agreement);
  run(500, false);
  a.sendDigits('12', 60);
  run(1_000, false);
  t.same(digits, ['22 1 60', '22 2 60']);
  t.ok(sent.every(({ payloadType }) => payloadType === 98));
  const [one, two] = [...new Set(sent.map(({ timestamp }) => timestamp))];
  const apartMs = (((two ?? 0) - (one ?? 0)) | 0) / 48;
  t.ok(apartMs >= 120 && apartMs <= 200, `${apartMs} ms apart`);
  b.start(plainAgreement);
  a.sendDigits('3', 60);
  run(500, false);
  t.equal(digits.length, 2);
  t.match(b.figures().refused, { 'other-payload-type': 6 });
  a.close();
  b.close();
});
