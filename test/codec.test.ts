import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { DiscordOpusEncoder } from '../src/adapters/opus/discord-opus-encoder.js';
import { NativeOpusDecoder, NativeOpusEncoder, nativeOpusName } from '../src/adapters/opus/native-opus.js';
import { opusDecoders, opusEncoders } from '../src/adapters/opus/opus-engines.js';
import { WasmOpusDecoder } from '../src/adapters/opus/wasm-opus-decoder.js';
import { WasmOpusEncoder } from '../src/adapters/opus/wasm-opus-encoder.js';
import type { RateHz } from '../src/audio/frame.js';
import { readWav } from '../src/audio/wav.js';
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
