import { test } from 'tap';
import { DiscordOpusEncoder } from '../src/adapters/opus/discord-opus-encoder.js';
import { FRAME_MS } from '../src/audio/frame.js';
import { opusCarriesFec } from '../src/codec/opus-packet.js';
import { Mixer } from '../src/media/mixer.js';
import { ToneSource } from '../src/media/tone.js';
import { parseRtcp } from '../src/rtp/rtcp-parse.js';
import { kindOfDatagram, parseRtp, type RtpPacket, writeRtp } from '../src/rtp/rtp-packet.js';
import { call, clean, type Path, SAMPLES, voice, WAY_MS } from './support/media-call.js';
import { plainAgreement as agreement, opus, RATE_HZ } from './support/media-session.js';
import { seededRandom } from './support/random.js';

const loseEveryTenth: Path = (index) => (index % 10 === 5 ? [] : [WAY_MS]);

/** The payload says that it holds 63 frames of 20 ms, which no Opus packet may (RFC 6716, 3.2.5). */
const breakEveryTenth: Path = (index, datagram) => {
  if (index % 10 === 5) datagram.fill(0xff, 12);
  return [WAY_MS];
};

test('a lost packet is made good from the next one, and heard better than concealed', async (t) => {
  // At one delay, so that the two can be laid over one another.
  /** Energy of what differs from a call without loss, against the energy of that call. */
  const damage = async (peerWantsFec: boolean) => {
    const whole = await call({ path: clean, peerWantsFec, leastMs: 40 });
    const lossy = await call({ path: loseEveryTenth, peerWantsFec, leastMs: 40 });
    const [wanted, got] = [whole.run(8_000), lossy.run(8_000)];
    const figures = lossy.b.session.figures();
    t.match(figures, { lost: 40, late: 0, duplicate: 0, refused: {} });
    t.equal(figures.fecDecoded + figures.concealed, 40);
    t.ok(peerWantsFec ? figures.fecDecoded > 25 : figures.fecDecoded === 0, `${figures.fecDecoded} from FEC`);
    const energy = (samples: ArrayLike<number>) => Array.from(samples, (x) => x * x).reduce((sum, x) => sum + x, 0);
    const ratio = energy(Array.from(wanted, (sample, i) => sample - (got[i] ?? 0))) / energy(wanted);
    whole.close();
    lossy.close();
    return ratio;
  };
  const [withFec, without] = [await damage(true), await damage(false)];
  t.ok(withFec < 0.75 * without, `${withFec.toFixed(3)} with FEC, ${without.toFixed(3)} without`);
});

test('whether an Opus packet carries FEC can be read from its first bits', async (t) => {
  const speech = voice(5);
  for (const packetTimeMs of [20, 40, 60] as const) {
    const share = (inbandFec: boolean) => {
      const encoder = new DiscordOpusEncoder({ rateHz: RATE_HZ, settings: { ...opus, inbandFec, packetTimeMs } });
      let carrying = 0;
      for (let i = 0; i < 50; i++) {
        const frames = Array.from({ length: packetTimeMs / FRAME_MS }, (_, k) => [...speech(k)]);
        if (opusCarriesFec(encoder.encode(Int16Array.from(frames.flat())))) carrying += 1;
      }
      encoder.free();
      return carrying / 50;
    };
    t.ok(share(true) > 0.5, `${packetTimeMs} ms with FEC`);
    t.equal(share(false), 0, `${packetTimeMs} ms without`);
  }
  // RFC 6716, 3.2: each code puts the first frame elsewhere; here it begins with "voice, FEC".
  const flags = 0b1100_0000;
  for (const packet of [
    [0x48, flags],
    [0x49, flags],
    [0x4a, 1, flags],
    [0x4a, 252, 0, flags],
    [0x4b, 0x02, flags],
  ]) {
    t.equal(opusCarriesFec(Uint8Array.from(packet)), true, `${packet}`);
  }
  t.equal(opusCarriesFec(Uint8Array.from([0x4b, 0xc2, 255, 1, 5, flags])), true, 'padded, frames of several lengths');
  t.equal(opusCarriesFec(Uint8Array.from([0xf8, flags])), false, 'CELT has none');
  for (const packet of [[], [0x48], [0x4a, 252], [0x4b], [0x4b, 0xff, 255]]) {
    t.equal(opusCarriesFec(Uint8Array.from(packet)), false, `cut off: ${packet}`);
  }
});

test('two sessions over a lossy path: the figures add up, reports tell each side of the other', async (t) => {
  const random = seededRandom(3);
  const delivered = { lost: 0, doubled: 0 };
  const { a, b, run, close, clock } = await call({
    path: (index) => {
      const draw = random();
      const wayMs = WAY_MS + random() * 18;
      // The last packets come through, so that the sequence numbers tell of all that was lost.
      if (draw < 0.1 && index > 2 && index < 1_480) {
        delivered.lost += 1;
        return [];
      }
      if (draw > 0.98) delivered.doubled += 1;
      return draw > 0.98 ? [wayMs, wayMs + 5] : [wayMs];
    },
  });
  run(30_000);
  clock.advance(100);
  const [from, to] = [a.session.figures(), b.session.figures()];
  t.equal(from.sent, 1_500);
  t.equal(to.received, 1_500 - delivered.lost + delivered.doubled);
  t.equal(to.received + to.lost, from.sent);
  t.match(to, { duplicate: delivered.doubled, remoteSsrc: 11, ssrc: 12, refused: {} });
  const madeGood = to.fecDecoded + to.concealed;
  t.ok(Math.abs(madeGood - delivered.lost) <= 5, `${delivered.lost} lost, ${madeGood} made good`);
  t.ok(to.fecDecoded > to.concealed && to.concealed > 0, `${to.fecDecoded} from FEC, ${to.concealed} concealed`);
  t.ok(to.jitterMs > 2 && to.jitterMs < 12, `jitter ${to.jitterMs} ms`);
  t.ok(to.playoutDelayMs > 20 && to.playoutDelayMs < 80, `playout ${to.playoutDelayMs} ms`);
  t.ok(Math.abs((from.roundTripMs ?? 0) - 2 * WAY_MS) < 1, `round trip ${from.roundTripMs} ms`);
  t.ok((from.remoteLost ?? 0) > 50 && (from.remoteJitterMs ?? 0) > 2, 'the far end reports its losses and jitter');
  const heard = b.events.filter((event) => event.startsWith('heard'));
  t.same(heard, [`heard ${to.firstAudioAfterMs}`], 'heard is told once');
  t.ok((to.firstAudioAfterMs ?? 0) < 120, `${to.firstAudioAfterMs} ms`);

  close();
  const parsed = parseRtcp(a.sent.at(-1) ?? Buffer.alloc(0));
  t.same(parsed.ok && parsed.packets.map((packet) => packet.type), [
    'sender-report',
    'source-description',
    'extended-report',
    'goodbye',
  ]);
  t.match(parsed.ok && parsed.packets.at(-1), { ssrcs: [11] });
  const sent = a.sent.length;
  clock.advance(60_000);
  t.equal(a.sent.length, sent, 'nothing follows the goodbye');
  t.equal(b.session.pull(clock.nowMs()), null);
});

test('muted: no audio, reports only; the timestamps tell of the pause; a far end that falls silent is named', async (t) => {
  const { a, b, run, close } = await call({ path: clean });
  run(1_000);
  const rtp = () => a.sent.filter((datagram) => kindOfDatagram(datagram) === 'rtp');
  const before = rtp().length;
  a.session.start({ ...agreement, muted: true });
  t.equal(a.session.isSending, false);
  run(10_000);
  t.equal(rtp().length, before);
  t.ok(a.sent.length > before, 'reports go on');
  t.notOk(b.events.includes('silent'), 'which show that it is there');
  a.session.start(agreement);
  run(1_000);
  const [last, first] = [rtp()[before - 1], rtp()[before]].map((datagram) => parseRtp(datagram ?? Buffer.alloc(0)));
  if (!last?.ok || !first?.ok) throw new Error('unreadable');
  t.equal(first.packet.marker, true);
  t.equal((first.packet.sequence - last.packet.sequence) & 0xffff, 1);
  const pauseMs = ((first.packet.timestamp - last.packet.timestamp) >>> 0) / 48;
  t.ok(Math.abs(pauseMs - 10_020) <= 20, `${pauseMs} ms`);

  a.session.close();
  run(9_000);
  t.same(b.events.slice(1), ['silent']);
  b.session.datagram(rtp()[0] ?? Buffer.alloc(0), 21_000);
  t.same(b.events.slice(1), ['silent', 'not silent']);
  close();
});

test('what a session refuses is counted by name, and never throws', async (t) => {
  const { b, run, a, close } = await call({ path: clean });
  run(500);
  const sample = parseRtp(a.sent.find((datagram) => kindOfDatagram(datagram) === 'rtp') ?? Buffer.alloc(0));
  if (!sample.ok) throw new Error('unreadable');
  const rtp = (change: Partial<RtpPacket>) => b.session.datagram(writeRtp({ ...sample.packet, ...change }), 500);
  rtp({ payloadType: 0 });
  rtp({ ssrc: 12 });
  rtp({ ssrc: 99 });
  rtp({ ssrc: 98 });
  rtp({ sequence: (sample.packet.sequence + 1_000) & 0xffff });
  b.session.datagram(Buffer.from('90600001000000000000000bbede0002', 'hex'), 500);
  b.session.datagram(Buffer.from('80c9000900000001', 'hex'), 500);
  b.session.datagram(Buffer.from([0]), 500);
  b.session.datagram(Buffer.from('000100002112a442', 'hex'), 500);
  t.same(b.session.figures().refused, {
    'other-payload-type': 1,
    'own-ssrc': 1,
    'source-not-valid': 2,
    'sequence-jump': 1,
    'rtp-truncated-extension': 1,
    'rtcp-length-past-end': 1,
    'rtp-too-short': 1,
    'rtp-wrong-version': 1,
  });
  t.ok(b.session.expects(writeRtp(sample.packet)));
  t.notOk(b.session.expects(writeRtp({ ...sample.packet, ssrc: 5 })));
  t.notOk(b.session.expects(writeRtp({ ...sample.packet, payloadType: 5 })));
  close();

  const broken = await call({ path: breakEveryTenth });
  broken.run(2_000);
  const figures = broken.b.session.figures();
  t.equal(figures.refused['payload-invalid'], 10);
  t.equal(figures.concealed, 10);
  t.equal(figures.lost, 0);
  broken.close();
});

test('a running call changes over to G.711 and back: same SSRC and sequence, clocks of its own, and it is heard', async (t) => {
  const { a, b, run, close, clock } = await call({ path: clean });
  const power = (samples: Int16Array) => samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  const usual = power(run(3_000).subarray(1_000 * 16));
  const agreed = { pcma: 8, pcmu: 0, opus: 96 } as const;
  const packets = () => a.sent.flatMap((sent) => (kindOfDatagram(sent) === 'rtp' ? [parseRtp(sent)] : []));
  for (const codec of ['pcma', 'pcmu', 'opus'] as const) {
    const before = packets().length;
    const [sendPayloadType, receivePayloadType] = [agreed[codec], agreed[codec]];
    for (const { session } of [a, b]) session.start({ ...agreement, codec, sendPayloadType, receivePayloadType });
    const heard = run(3_000);
    const loudness = power(heard.subarray(1_000 * 16)) / usual;
    t.ok(loudness > 0.4 && loudness < 2, `${codec}: as loud as before, ${loudness}`);
    const own = packets().slice(before);
    const steps = own.slice(1).map((parsed, i) => {
      const last = own[i];
      if (!parsed.ok || !last?.ok) return null;
      return parsed.packet.timestamp - last.packet.timestamp;
    });
    t.same(new Set(steps), new Set([codec === 'opus' ? 960 : 160]), `${codec}: 20 ms of its clock`);
    const figures = b.session.figures();
    t.match(figures, { duplicate: 0, remoteSsrc: 11 });
    t.ok(figures.lost <= 3, 'only what was on its way then is lost');
    t.ok(figures.jitterMs < 2, `${codec}: jitter ${figures.jitterMs} ms`);
    t.ok(figures.playoutDelayMs < 60, `${codec}: delay ${figures.playoutDelayMs} ms`);
  }
  const sequences = packets().map((parsed) => (parsed.ok ? parsed.packet.sequence : -1));
  t.ok(
    sequences.every((sequence, i) => i === 0 || sequence === (((sequences[i - 1] ?? 0) + 1) & 0xffff)),
    'the sequence goes on',
  );

  // Of any length, and none of G.711's own: nothing throws, and what is no packet is counted.
  for (const { session } of [a, b]) {
    session.start({ ...agreement, codec: 'pcma', sendPayloadType: 8, receivePayloadType: 8 });
  }
  run(500);
  const last = packets().at(-1);
  if (!last?.ok) return t.fail('no packet');
  for (const [i, sizeBytes] of [0, 1, 7, 1_601, 2_000].entries()) {
    const sequence = (last.packet.sequence + 1 + i) & 0xffff;
    const timestamp = last.packet.timestamp + 160 * (1 + i);
    b.session.datagram(
      writeRtp({ ...last.packet, sequence, timestamp, payload: Buffer.alloc(sizeBytes, 0x2a) }),
      clock.nowMs(),
    );
  }
  run(500, false);
  t.equal(b.session.figures().refused['payload-invalid'], 3);
  close();
});

test('tones have their cadence and pitch; the mixer sums with saturation', async (t) => {
  const loudness = (source: ToneSource, ms: number) => {
    const frames: number[] = [];
    let crossings = 0;
    let before = 0;
    for (let i = 0; i < ms / FRAME_MS; i++) {
      const frame = source.pull();
      frames.push(Math.max(...frame));
      for (const sample of frame) {
        if (before < 0 && sample >= 0) crossings += 1;
        before = sample;
      }
    }
    return { frames, crossings };
  };
  const ringback = loudness(new ToneSource('ringback', RATE_HZ), 10_000);
  t.ok(Math.abs(ringback.crossings - 2 * 425) <= 4, `${ringback.crossings} periods in 2 s of 425 Hz`);
  t.ok(
    ringback.frames.slice(2, 98).every((level) => level > 5_000) &&
      ringback.frames.slice(100, 500).every((level) => level === 0),
  );
  const busy = loudness(new ToneSource('busy', RATE_HZ), 1_000);
  t.ok(busy.frames.slice(2, 48).every((level) => level > 5_000) && busy.frames.slice(50).every((level) => level === 0));
  const bell = loudness(new ToneSource('bell', 48_000), 3_000);
  t.ok(Math.max(...bell.frames) > 10_000 && (bell.frames.at(-1) ?? 1) === 0, 'the bell dies away');

  const mixer = new Mixer(RATE_HZ);
  const source = (value: number | null) => ({
    pull: () => (value === null ? null : new Int16Array(SAMPLES).fill(value)),
  });
  t.same(mixer.pull(0), new Int16Array(SAMPLES), 'silence');
  const [loud, louder, negative] = [source(20_000), source(30_000), source(-32_000)];
  mixer.add(loud);
  mixer.add(source(null));
  t.equal(mixer.pull(0)[0], 20_000);
  mixer.add(louder);
  t.equal(mixer.pull(0)[SAMPLES - 1], 32_767);
  mixer.remove(loud);
  mixer.add(negative);
  t.equal(mixer.pull(0)[5], -2_000);
  mixer.remove(louder);
  mixer.add(source(-32_000));
  t.equal(mixer.pull(0)[0], -32_768);

  const quiet = new Mixer(RATE_HZ);
  quiet.setVolume(50);
  quiet.add(source(20_000));
  t.equal(quiet.pull(0)[0], 5_000, 'half the volume is 12 dB less');
  quiet.add(source(1_000), 'as-it-is');
  t.equal(quiet.pull(0)[0], 6_000, 'a tone is as loud as ever');
  quiet.setVolume(0);
  t.equal(quiet.pull(0)[0], 1_000);
  quiet.setVolume(100);
  t.equal(quiet.pull(0)[0], 21_000);
});
