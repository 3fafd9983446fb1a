import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { opusDecoders, opusEncoders } from '../src/adapters/opus/opus-engines.js';
import { resample } from '../src/audio/resample.js';
import { readWav } from '../src/audio/wav.js';
import { OggOpusWriter, oggChecksum } from '../src/codec/ogg-opus.js';
import { silentLogger } from '../src/core/logger.js';
import { similarity } from '../src/lab/similarity.js';
import { type OggPage, readOgg } from './support/ogg.js';

const SETTINGS = { bitrateBps: 24_000, complexity: 5, inbandFec: false, expectedLossPct: 0, packetTimeMs: 20 } as const;
const speech = readWav(readFileSync('/usr/share/sounds/alsa/Front_Center.wav'));
const speech16k = resample(speech.samples, { fromHz: 48_000, toHz: 16_000 });

test('Ogg Opus: what every encoder makes comes back whole, of the same length, and not a millisecond late', async (t) => {
  for (const choice of ['native', 'discord', 'wasm'] as const) {
    const encoder = await (await opusEncoders(choice, silentLogger)).create({ rateHz: 16_000, settings: SETTINGS });
    const writer = new OggOpusWriter({ serial: 0xdeadbeef, inputRateHz: 16_000, vendor: choice });
    const parts = [writer.head()];
    const soundMs = speech16k.length / 16;
    for (let at = 0; at < speech16k.length + 104; at += 320) {
      const samples = new Int16Array(320);
      samples.set(speech16k.subarray(at, at + 320));
      const page = writer.packet(encoder.encode(samples));
      if (page !== null) parts.push(page);
    }
    parts.push(writer.end(soundMs));
    encoder.free();
    const { pages, packets } = readOgg(Buffer.concat(parts));
    const [head, tags] = packets.splice(0, 2);
    t.equal(head?.toString('latin1', 0, 8), 'OpusHead');
    t.equal(head?.readUInt16LE(10), 312);
    t.equal(head?.readUInt32LE(12), 16_000);
    t.equal(tags?.toString('latin1', 0, 8), 'OpusTags');
    t.ok(tags?.includes(choice));
    t.same(
      pages.map(({ flags }) => flags),
      [2, 0, 0, 4],
      'first, then comment, a second of sound, the rest',
    );
    t.equal(pages.at(-1)?.granules, 312n + BigInt(Math.round(soundMs * 48)));
    t.ok(pages.every(({ serial, sequence }, index) => serial === 0xdeadbeef && sequence === index));
    const decoder = await (await opusDecoders('native', silentLogger)).create({ rateHz: 16_000 });
    const heard = packets.flatMap((packet) => [...decoder.decode(packet)]).slice(104, 104 + speech16k.length);
    decoder.free();
    const { similarity: likeness, lagMs } = similarity(speech16k, Int16Array.from(heard), 16_000);
    t.ok(likeness > 0.9 && Math.abs(lagMs) <= 1, `${choice}: ${likeness} alike, ${lagMs} ms late`);
  }
});

test('Ogg pages: the checksum of the RFC, packets of any length, no page longer than its table', (t) => {
  // CRC-32/MPEG-2 without the initial value and the final one; of "123456789" it is this , what POSIX cksum counts by.
  t.equal(oggChecksum(Buffer.from('123456789')), 0x89a1897f);
  const writer = new OggOpusWriter({ serial: 1, inputRateHz: 16_000, vendor: '' });
  const sizes = [1, 254, 255, 256, 510, 1_275, ...Array<number>(60).fill(1_275)];
  const parts = [writer.head()];
  for (const size of sizes) {
    // 20 ms of wideband SILK, one frame
    const packet = new Uint8Array(size).fill(7);
    packet[0] = 9 << 3;
    const page = writer.packet(packet);
    if (page !== null) parts.push(page);
  }
  parts.push(writer.end(1e9));
  const { pages, packets } = readOgg(Buffer.concat(parts));
  t.same(
    packets.slice(2).map(({ length }) => length),
    sizes,
  );
  t.ok(pages.length > 3);
  const granules = pages.map((page: OggPage) => page.granules);
  t.same(
    granules,
    [...granules].sort((a, b) => Number(a - b)),
  );
  t.equal(granules.at(-1), BigInt(sizes.length * 960), 'never more than there is');
  for (const bad of [new Uint8Array(0), Uint8Array.of(3, 0), new Uint8Array(70_000)]) {
    t.throws(() => writer.packet(bad), RangeError);
  }
  t.end();
});
