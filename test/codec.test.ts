import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { DiscordOpusEncoder } from '../src/adapters/opus/discord-opus-encoder.js';
import { NativeOpusDecoder, NativeOpusEncoder, nativeOpusName } from '../src/adapters/opus/native-opus.js';
import { opusDecoders, opusEncoders } from '../src/adapters/opus/opus-engines.js';
import { WasmOpusDecoder } from '../src/adapters/opus/wasm-opus-decoder.js';
import { WasmOpusEncoder } from '../src/adapters/opus/wasm-opus-encoder.js';
import type { RateHz } from '../src/audio/frame.js';
import { Resampler, resample } from '../src/audio/resample.js';
import { readWav } from '../src/audio/wav.js';
import { g711Decode, g711Encode } from '../src/codec/g711.js';
import { G711Decoder, G711Encoder } from '../src/codec/g711-codec.js';
import { opusCarriesFec } from '../src/codec/opus-packet.js';
import { type Logger, silentLogger } from '../src/core/logger.js';
import { similarity } from '../src/lab/similarity.js';

const rateHz: RateHz = 16_000;
const packetSamples = 320;
const settings = { bitrateBps: 24_000, complexity: 9, inbandFec: true, expectedLossPct: 20, packetTimeMs: 20 } as const;
const encoderChoices = ['native', 'discord', 'wasm'] as const;
const decoderChoices = ['native', 'wasm'] as const;

/** A human speaks: 1.4 s at 48 kHz, brought to 16 kHz. */
const speech = readWav(readFileSync('/usr/share/sounds/alsa/Front_Center.wav'));
const speech16k = Int16Array.from({ length: Math.floor(speech.samples.length / 3) }, (_, i) =>
  Math.round([0, 1, 2].reduce((sum, k) => sum + (speech.samples[3 * i + k] ?? 0), 0) / 3),
);
const packetsOf = (samples: Int16Array, count: number): Int16Array[] =>
  Array.from({ length: Math.floor(samples.length / count) }, (_, i) => samples.subarray(i * count, (i + 1) * count));

async function encoded(choice: (typeof encoderChoices)[number], change: object = {}): Promise<Buffer[]> {
  const engine = await opusEncoders(choice, silentLogger);
  const encoder = await engine.create({ rateHz, settings: { ...settings, ...change } });
  const payloads = packetsOf(speech16k, packetSamples).map((samples) => Buffer.from(encoder.encode(samples)));
  encoder.free();
  return payloads;
}

/** Every fourth packet lost, and the loss met in one of three ways. */
async function decoded(
  choice: (typeof decoderChoices)[number],
  payloads: Buffer[],
  lost: 'nothing' | 'fec' | 'conceal',
) {
  const decoder = await (await opusDecoders(choice, silentLogger)).create({ rateHz });
  const heard: number[] = [];
  for (const [i, payload] of payloads.entries()) {
    const next = payloads[i + 1];
    if (lost === 'nothing' || i % 4 !== 3 || next === undefined) heard.push(...decoder.decode(payload));
    else heard.push(...(lost === 'fec' ? decoder.decodeFec(next, packetSamples) : decoder.conceal(packetSamples)));
  }
  decoder.free();
  return heard;
}

test('Opus: every encoder there and every decoder back, a lost packet made good from the next one', async (t) => {
  t.equal(speech.rateHz, 48_000);
  const likeness = (heard: number[]) => similarity(speech16k, Int16Array.from(heard), rateHz).similarity;
  for (const encoder of encoderChoices) {
    const payloads = await encoded(encoder);
    for (const decoder of decoderChoices) {
      const way = `${encoder} to ${decoder}`;
      const [whole, fec, concealed] = [
        await decoded(decoder, payloads, 'nothing'),
        await decoded(decoder, payloads, 'fec'),
        await decoded(decoder, payloads, 'conceal'),
      ];
      for (const heard of [whole, fec, concealed]) t.equal(heard.length, payloads.length * packetSamples, 'no gap');
      t.ok(likeness(whole) > 0.9, `${way}: nothing lost: ${likeness(whole)}`);
      t.ok(likeness(fec) > likeness(concealed) + 0.02, `${way}: FEC ${likeness(fec)}, not ${likeness(concealed)}`);
    }
  }
});

test('every Opus encoder takes every setting, in mid-stream', async (t) => {
  for (const choice of encoderChoices) {
    const encoder = await (await opusEncoders(choice, silentLogger)).create({ rateHz, settings });
    const bytesOf = (change: object, samples: number = packetSamples) => {
      encoder.adjust({ ...settings, ...change });
      const payloads = packetsOf(speech16k, samples).map((packet) => Buffer.from(encoder.encode(packet)));
      const fec = payloads.filter((payload) => opusCarriesFec(payload)).length / payloads.length;
      return { bytes: payloads.reduce((sum, { length }) => sum + length, 0), fec };
    };
    const usual = bytesOf({});
    t.ok(usual.fec > 0.5, `${choice}: FEC in ${usual.fec}`);
    t.equal(bytesOf({ inbandFec: false }).fec, 0, `${choice}: no FEC`);
    t.ok(bytesOf({ bitrateBps: 8_000 }).bytes < 0.5 * usual.bytes, `${choice}: bit rate`);
    for (const packetTimeMs of [10, 40, 60, 20] as const) {
      const one = bytesOf({ packetTimeMs }, (packetSamples * packetTimeMs) / 20);
      t.ok(one.bytes > 0.5 * usual.bytes && one.bytes < 2 * usual.bytes, `${choice}: ${packetTimeMs} ms`);
    }
    // RFC 6716, table 2: SILK's narrowband is 0 … 3, CELT's 16 … 19.
    const narrow = await encoded(choice, { maxBandwidth: 'narrowband', signal: 'voice' });
    t.ok(
      narrow.every(([toc = 0xff]) => [0, 4].includes(toc >> 5)),
      `${choice}: bandwidth`,
    );
    // What a report that lies would have it set to.
    const beyond = { bitrateBps: 1e9, expectedLossPct: 300.5, complexity: -3 };
    t.ok(bytesOf(beyond).bytes > usual.bytes, `${choice}: figures beyond the limits are held there`);

    encoder.adjust({ ...settings, dtx: true });
    const silence = Array.from({ length: 100 }, () => encoder.encode(new Int16Array(packetSamples)).length);
    t.ok(silence.filter((bytes) => bytes <= 2).length > 70, `${choice}: DTX`);
    encoder.adjust(settings);
    t.ok(encoder.encode(speech16k.subarray(8_000, 8_000 + packetSamples)).length > 2, `${choice}: and back`);

    t.throws(() => encoder.encode(new Int16Array(packetSamples + 1)), { code: 'packet-time-wrong' });
    t.throws(() => encoder.encode(new Int16Array(0)), { code: 'packet-time-wrong' });
    encoder.free();
    encoder.free();
    encoder.adjust(settings);
    t.throws(() => encoder.encode(new Int16Array(packetSamples)), { code: 'codec-freed' });
  }
});

test('every Opus decoder conceals any count and refuses garbage unharmed', async (t) => {
  const payloads = await encoded('native');
  const payload = payloads[21] ?? Buffer.alloc(0);
  for (const choice of decoderChoices) {
    const decoder = await (await opusDecoders(choice, silentLogger)).create({ rateHz });
    decoder.decode(payloads[20] ?? Buffer.alloc(0));
    for (const count of [0, 1, 40, 100, 160, 320, 960, 2_000, 5_000]) t.equal(decoder.conceal(count).length, count);
    t.equal(decoder.decodeFec(payload, 333).length, 333, 'no multiple of 2.5 ms: concealed');
    t.equal(decoder.decodeFec(payload, 3_000).length, 3_000, 'longer than a packet can be: concealed');
    const invalid = { code: 'payload-invalid' };
    for (const garbage of [
      Buffer.alloc(0),
      Buffer.from([0xff]),
      Buffer.from([0xff, 0xff, 1, 2]),
      Buffer.alloc(9, 0xfe),
      Buffer.alloc(65_507, 0xff),
    ]) {
      const shown = garbage.subarray(0, 9).toString('hex');
      t.throws(() => decoder.decode(garbage), invalid, `${choice}: ${shown}`);
      t.throws(() => decoder.decodeFec(garbage, packetSamples), invalid, `${choice}: as FEC: ${shown}`);
    }
    t.equal(decoder.decode(payload).length, packetSamples, `${choice}: garbage leaves the decoder whole`);
    decoder.free();
    decoder.free();
    const freed = { code: 'codec-freed' };
    t.throws(() => decoder.decode(payload), freed);
    t.throws(() => decoder.decodeFec(payload, packetSamples), freed);
    t.throws(() => decoder.conceal(packetSamples), freed);
  }
});

test('the Opus engine that is chosen is taken, another where it is missing, and the log says so', async (t) => {
  t.match(nativeOpusName, /^native libopus \d/);
  const names = async (choice: 'native' | 'wasm') => [
    (await opusEncoders(choice, silentLogger)).name,
    (await opusDecoders(choice, silentLogger)).name,
  ];
  t.same(await names('native'), [nativeOpusName, nativeOpusName]);
  t.same(await names('wasm'), [WasmOpusEncoder.engine, WasmOpusDecoder.engine]);
  t.equal((await opusEncoders('discord', silentLogger)).name, DiscordOpusEncoder.engine);
  t.ok((await (await opusEncoders('auto', silentLogger)).create({ rateHz, settings })) instanceof NativeOpusEncoder);
  t.ok((await (await opusDecoders('auto', silentLogger)).create({ rateHz })) instanceof NativeOpusDecoder);

  const warned: string[] = [];
  const logger: Logger = {
    ...silentLogger,
    warn: (fields, message) => warned.push(`${JSON.stringify(fields)} ${message}`),
  };
  const absent = () => Promise.reject(new Error('libopus.so.0: cannot open shared object file'));
  const wasm = async () => ({
    name: 'the wasm one',
    create: (options: { rateHz: RateHz }) => WasmOpusDecoder.create(options),
  });
  for (const choice of ['native', 'auto'] as const) {
    t.equal((await opusDecoders(choice, logger, { native: absent, wasm })).name, 'the wasm one');
  }
  t.equal(warned.length, 2);
  t.match(warned[0], /"engine":"native".*libopus\.so\.0.*another is taken/);
  t.equal((await opusDecoders('wasm', logger, { native: absent, wasm })).name, 'the wasm one');
  t.equal(warned.length, 2, 'what was not chosen is not even tried');
  await t.rejects(opusDecoders('auto', logger, { native: absent, wasm: absent }), { code: 'opus-missing' });
});

test('G.711: the codes of both laws, each sample to the nearest step', async (t) => {
  // ITU-T G.711, tables 1 and 2, scaled to 16 bits: the first and last steps of either sign, and some between.
  const known = {
    pcmu: [
      [0xff, 0],
      [0xfe, 8],
      [0x7e, -8],
      [0xf0, 120],
      [0xef, 132],
      [0xc0, 1_884],
      [0x80, 32_124],
      [0x00, -32_124],
    ],
    pcma: [
      [0xd5, 8],
      [0x55, -8],
      [0xd4, 24],
      [0xc5, 264],
      [0xf5, 528],
      [0xaa, 32_256],
      [0x2a, -32_256],
    ],
  } as const;
  const every16 = Int16Array.from({ length: 65_536 }, (_, i) => i - 32_768);
  for (const law of ['pcmu', 'pcma'] as const) {
    const codes = Uint8Array.from({ length: 256 }, (_, code) => code);
    const steps = new Int16Array(256);
    g711Decode(law, codes, steps);
    for (const [code, sample] of known[law]) t.equal(steps[code], sample, `${law} ${code.toString(16)}`);
    const again = new Uint8Array(256);
    g711Encode(law, steps, again);
    const changed = codes.filter((code) => again[code] !== code);
    t.same([...changed], law === 'pcmu' ? [0x7f] : [], 'codes last, but for the negative zero of μ-law');

    const coded = new Uint8Array(65_536);
    g711Encode(law, every16, coded);
    const ordered = [...steps].sort((a, b) => a - b);
    const worst = every16.reduce((most, sample, i) => {
      const step = steps[coded[i] ?? 0] ?? 0;
      const at = ordered.indexOf(step);
      const [below = step, above = step] = [ordered[at - 1], ordered[at + 1]];
      const isBeyond = sample < (ordered[0] ?? 0) || sample > (ordered.at(-1) ?? 0);
      const off = Math.abs(sample - step) - Math.max(step - below, above - step) / 2;
      return isBeyond ? most : Math.max(most, off);
    }, 0);
    // 16 bits have finer steps than G.711's 14 and 12, which are cut off.
    t.ok(worst <= (law === 'pcmu' ? 4 : 16), `${law}: off by ${worst} from the nearest step`);
  }
});

test('G.711 as a codec: 8 kHz inside, loss concealed by its pitch and faded, garbage refused', async (t) => {
  const voiced = (rate: RateHz) =>
    Int16Array.from({ length: rate }, (_, i) => {
      const phase = (2 * Math.PI * 125 * i) / rate;
      return 6_000 * (Math.sin(phase) + 0.5 * Math.sin(2 * phase + 1) + 0.25 * Math.sin(9 * phase));
    });
  for (const rate of [8_000, 16_000, 48_000] as const) {
    for (const law of ['pcmu', 'pcma'] as const) {
      const count = rate / 50;
      const spoken = voiced(rate);
      const heard = (isLost: (index: number) => boolean) => {
        const encoder = new G711Encoder({ law, rateHz: rate });
        const decoder = new G711Decoder({ law, rateHz: rate });
        return packetsOf(spoken, count).flatMap((samples, i) => {
          const payload = encoder.encode(samples);
          if (payload.length !== 160) t.fail(`${payload.length} octets for 20 ms`);
          return [...(isLost(i) ? decoder.conceal(count) : decoder.decode(payload))];
        });
      };
      const energy = (samples: number[]) => samples.reduce((sum, sample) => sum + sample * sample, 0);
      const [whole, lossy, gone] = [heard(() => false), heard((i) => i % 5 === 4), heard((i) => i >= 20)];
      const damage = energy(lossy.map((sample, i) => sample - (whole[i] ?? 0))) / energy(whole);
      t.ok(damage < 0.02, `${law} ${rate}: a fifth lost costs ${damage}`);
      const [early, late] = [gone.slice(20 * count, 20 * count + rate / 100), gone.slice(24 * count)];
      t.ok(energy(early) > 0.7 * energy(whole.slice(0, rate / 100)), 'the first 10 ms are as loud as before');
      t.equal(energy(late), 0, 'after 80 ms it is silent');
    }
  }
  const encoder = new G711Encoder({ law: 'pcma', rateHz });
  const decoder = new G711Decoder({ law: 'pcma', rateHz });
  const heard = packetsOf(speech16k, packetSamples).flatMap((samples) => [...decoder.decode(encoder.encode(samples))]);
  const likeness = similarity(speech16k, Int16Array.from(heard), rateHz).similarity;
  t.ok(likeness > 0.9, `speech by G.711: ${likeness}`);
  for (const sizeBytes of [1, 7, 160, 960, 1_600]) {
    t.equal(decoder.decode(Buffer.alloc(sizeBytes, 0x2a)).length, 2 * sizeBytes);
  }
  for (const count of [0, 1, 40, 333, 5_000]) t.equal(decoder.conceal(count).length, count);
  t.equal(decoder.decodeFec(Buffer.alloc(160), 320).length, 320);
  for (const sizeBytes of [0, 1_601, 65_000]) {
    t.throws(() => decoder.decode(Buffer.alloc(sizeBytes)), { code: 'payload-invalid' }, `${sizeBytes} octets`);
  }
});

test('resampling passes speech and stops what would alias, whatever the blocks', async (t) => {
  const level = (fromHz: number, toHz: number, toneHz: number) => {
    const tone = Int16Array.from(
      { length: fromHz / 4 },
      (_, i) => 10_000 * Math.sin((2 * Math.PI * toneHz * i) / fromHz),
    );
    const resampler = new Resampler({ fromHz, toHz });
    const resampled: number[] = [];
    // Blocks of 10 ms, then ones that do not fit the ratio.
    for (let at = 0; at < tone.length; ) {
      const count = at < tone.length / 2 ? fromHz / 100 : 97;
      resampled.push(...resampler.resample(tone.subarray(at, at + count)));
      at += count;
    }
    t.ok(Math.abs(resampled.length - toHz / 4) <= 1, `${fromHz} to ${toHz}: ${resampled.length} samples`);
    const steady = resampled.slice(200);
    return 10 * Math.log10(steady.reduce((sum, sample) => sum + sample * sample, 1) / steady.length / 5e7);
  };
  for (const [fromHz, toHz] of [
    [48_000, 8_000],
    [16_000, 8_000],
    [8_000, 16_000],
    [8_000, 48_000],
  ] as const) {
    for (const toneHz of [300, 1_000, 3_400]) {
      t.ok(Math.abs(level(fromHz, toHz, toneHz)) < 0.2, `${toneHz} Hz passes from ${fromHz} to ${toHz}`);
    }
    for (const toneHz of [4_700, 6_000, 7_500].filter((hz) => hz < fromHz / 2)) {
      t.ok(level(fromHz, toHz, toneHz) < -50, `${toneHz} Hz does not pass from ${fromHz} to ${toHz}`);
    }
  }
  for (const [fromHz, toHz] of [
    [48_000, 16_000],
    [22_050, 48_000],
  ] as const) {
    const tone = (rateHz: number, seconds: number) =>
      Int16Array.from({ length: rateHz * seconds }, (_, i) => 10_000 * Math.sin((2 * Math.PI * 3_000 * i) / rateHz));
    const [whole, wanted] = [resample(tone(fromHz, 1), { fromHz, toHz }), tone(toHz, 1)];
    t.equal(whole.length, toHz);
    const inStep = whole
      .subarray(2_000, -2_000)
      .every((sample, i) => Math.abs(sample - (wanted[2_000 + i] ?? 0)) < 100);
    t.ok(inStep, `${fromHz} to ${toHz}: a whole recording stays in step`);
  }
  const loud = new Resampler({ fromHz: 8_000, toHz: 48_000 }).resample(new Int16Array(800).fill(32_767));
  t.ok(
    Math.min(...loud.subarray(200)) > 30_000 && Math.max(...loud) === 32_767,
    'what overshoots is clipped, not wrapped',
  );
  t.equal(new Resampler({ fromHz: 48_000, toHz: 8_000 }).resample(new Int16Array(0)).length, 0);
});
