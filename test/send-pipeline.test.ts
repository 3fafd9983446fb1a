import { test } from 'tap';
import { opusEncoders } from '../src/adapters/opus/opus-engines.js';
import { FRAME_MS, frameSamples } from '../src/audio/frame.js';
import type { AudioEncoder } from '../src/codec/codec.js';
import { G711Encoder } from '../src/codec/g711-codec.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { SendPipeline } from '../src/media/send-pipeline.js';
import { parseRtp, type RtpPacket } from '../src/rtp/rtp-packet.js';
import { seededRandom } from './support/random.js';

const rateHz = 16_000;
const SAMPLES = frameSamples(rateHz);
const START = { sequence: 0xffff, timestamp: 0xffff_ffff };
const silence = new Int16Array(SAMPLES);

/** A pipeline with all that it sends, fed 10 ms at a time on a clock of its own. */
function pipeline() {
  const packets: RtpPacket[] = [];
  const failed: unknown[] = [];
  let nowMs = 0;
  const sender = new SendPipeline({
    rateHz,
    ssrc: 5,
    ...START,
    nowMs: () => nowMs,
    send: (datagram, timestamp, payloadBytes) => {
      const parsed = parseRtp(datagram);
      if (!parsed.ok) throw new Error(parsed.fault);
      if (parsed.packet.timestamp !== timestamp || parsed.packet.payload.length !== payloadBytes)
        throw new Error('told wrong');
      packets.push(parsed.packet);
    },
    encoderFailed: (error) => failed.push(error),
  });
  const push = (count = 1, samples: Int16Array = silence) => {
    for (let i = 0; i < count; i++) {
      nowMs += FRAME_MS;
      sender.push({ samples, rateHz, capturedAtMs: nowMs });
    }
  };
  const wait = (ms: number) => {
    nowMs += ms;
  };
  return { sender, packets, failed, push, wait };
}

/** Notes what it was given; each packet takes 3 ms, the tenth 30. */
function noting(wait: (ms: number) => void) {
  const sizes: number[] = [];
  const encoder: AudioEncoder = {
    encode: (samples) => {
      wait(sizes.push(samples.length) === 10 ? 30 : 3);
      return Buffer.from([sizes.length]);
    },
    adjust: () => {},
    free: () => {},
  };
  return { encoder, sizes };
}

test('packet times are gathered on the clock of Opus; a change of format keeps sequence, SSRC and samples', async (t) => {
  for (const [packetTimeMs, ticks] of [
    [10, 480],
    [20, 960],
    [60, 2_880],
  ] as const) {
    const { sender, packets, push } = pipeline();
    const { encoder, sizes } = noting(() => {});
    const opus = { encoder, clockRateHz: 48_000 };
    push();
    t.same(packets, [], 'nothing before a format is agreed');
    sender.use({ ...opus, packetTimeMs, payloadType: 96 });
    push(18);
    t.same(new Set(sizes), new Set([packetTimeMs * 16]));
    t.equal(packets.length, 180 / packetTimeMs);
    t.match(packets[0], { ...START, marker: true, payloadType: 96, ssrc: 5 });
    t.match(packets[1], { marker: false, sequence: 0, timestamp: ticks - 1 });

    sender.use({ ...opus, packetTimeMs: 40, payloadType: 97 });
    const sent = packets.length;
    const timestamp = 180 * 48 - 1;
    push(3);
    t.equal(packets.length, sent);
    sender.use({ ...opus, packetTimeMs: 60, payloadType: 98 });
    push(3);
    const sequence = (0xffff + sent) & 0xffff;
    t.match(packets[sent], { payloadType: 98, sequence, timestamp, marker: false }, 'what was gathered goes along');
    push(3);
    sender.use({ ...opus, packetTimeMs: 20, payloadType: 99 });
    push(2);
    t.match(
      packets[sent + 1],
      { payloadType: 99, timestamp: timestamp + 90 * 48 },
      'too long to go along: time passes',
    );
    t.equal(sender.packetTimeMs, 20);
  }
});

test('a pause of the microphone shows in the timestamp and the marker; how long encoding takes is told', async (t) => {
  const { sender, packets, push, wait } = pipeline();
  const { encoder } = noting(wait);
  t.same(sender.encodeMs, { mean: 0, worst: 0 });
  sender.use({ encoder, packetTimeMs: 20, payloadType: 96, clockRateHz: 48_000 });
  push(4);
  t.same(sender.encodeMs, { mean: 3, worst: 3 });
  wait(1_000);
  push(2);
  t.match(packets[2], { marker: true, sequence: 1 });
  const gapTicks = ((packets[2]?.timestamp ?? 0) - (packets[1]?.timestamp ?? 0)) >>> 0;
  t.ok(gapTicks >= 1_000 * 48 && gapTicks <= 1_030 * 48, `${gapTicks} ticks`);
  push(14);
  t.equal(sender.encodeMs.worst, 30);
  t.ok(sender.encodeMs.mean > 4 && sender.encodeMs.mean < 6, `mean ${sender.encodeMs.mean}`);
  push(200);
  t.equal(sender.encodeMs.worst, 3, 'forgotten after a while');
  t.ok(sender.encodeMs.mean < 3.1);
});

test('with G.711 the timestamps go on at its pace, and come back to that of Opus', async (t) => {
  const { sender, packets, push, wait } = pipeline();
  const opus = { encoder: noting(() => {}).encoder, packetTimeMs: 20, payloadType: 96, clockRateHz: 48_000 };
  const g711 = {
    encoder: new G711Encoder({ law: 'pcma', rateHz }),
    packetTimeMs: 40,
    payloadType: 8,
    clockRateHz: 8_000,
  };
  sender.use(opus);
  push(4);
  sender.use(g711);
  push(8);
  wait(990);
  push(4);
  sender.use(opus);
  push(4);
  const steps = packets.slice(1).map((packet, i) => (packet.timestamp - (packets[i]?.timestamp ?? 0)) >>> 0);
  t.same(steps, [960, 960, 320, 320 + 990 * 8, 320, 960]);
  t.same(
    packets.map(({ sequence }) => sequence),
    [0xffff, 0, 1, 2, 3, 4, 5],
  );
  t.same(
    packets.filter(({ payloadType }) => payloadType === 8).map(({ payload }) => payload.length),
    [320, 320, 320],
  );
});

test('in silence DTX sends a packet now and then; speech begins with the marker, and the timestamps go on', async (t) => {
  const random = seededRandom(4);
  const speech = () => Int16Array.from(silence, (_, i) => 8_000 * Math.sin(i / 3) * random());
  for (const choice of ['native', 'discord', 'wasm'] as const) {
    const { sender, packets, push } = pipeline();
    const settings = {
      bitrateBps: 24_000,
      complexity: 5,
      inbandFec: false,
      expectedLossPct: 0,
      packetTimeMs: 20,
    } as const;
    const encoder = await (await opusEncoders(choice, silentLogger)).create({
      rateHz,
      settings: { ...settings, dtx: true },
    });
    sender.use({ encoder, packetTimeMs: 20, payloadType: 96, clockRateHz: 48_000 });
    for (let i = 0; i < 50; i++) push(1, speech());
    t.equal(packets.length, 25, `${choice}: speech is sent whole`);
    push(500);
    const inSilence = packets.length - 25;
    t.ok(inSilence > 5 && inSilence < 60, `${choice}: ${inSilence} packets for 5 s of silence`);
    const before = packets.length;
    for (let i = 0; i < 50; i++) push(1, speech());
    t.ok(packets.length - before >= 24, `${choice}: and speech again`);
    const steps = packets.slice(1).map((packet, i) => ({
      sequence: (packet.sequence - (packets[i]?.sequence ?? 0)) & 0xffff,
      ticks: (packet.timestamp - (packets[i]?.timestamp ?? 0)) >>> 0,
      marker: packet.marker,
    }));
    t.ok(
      steps.every(({ sequence }) => sequence === 1),
      'no packet is missing',
    );
    t.ok(
      steps.every(({ marker, ticks }) => marker === ticks > 960),
      'the marker stands after what was not sent, and only there',
    );
    t.ok(
      steps.every(({ ticks }) => ticks % 960 === 0 && ticks <= 960 * 25),
      'silence is told of twice a second at least',
    );
    encoder.free();
  }
});

test('an encoder that throws costs its packet time and no more; frames of another rate are ignored', async (t) => {
  const { sender, packets, failed, push } = pipeline();
  let count = 0;
  const encoder: AudioEncoder = {
    encode: () => {
      count += 1;
      if (count === 2) throw new AppError('encoder-failed', 'out of memory');
      return Buffer.from([1]);
    },
    adjust: () => {},
    free: () => {},
  };
  sender.use({ encoder, packetTimeMs: 20, payloadType: 96, clockRateHz: 48_000 });
  push(6);
  sender.push({ samples: new Int16Array(480), rateHz: 48_000, capturedAtMs: 70 });
  sender.push({ samples: new Int16Array(480), rateHz: 48_000, capturedAtMs: 80 });
  t.match(failed, [{ code: 'encoder-failed' }]);
  t.equal(count, 3);
  t.match(packets, [
    { sequence: 0xffff, timestamp: 0xffff_ffff },
    { sequence: 0, timestamp: 2 * 960 - 1, marker: true },
  ]);
});
