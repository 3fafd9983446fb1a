import { test } from 'tap';
import { framePackets, MOST_FRAMED_PACKETS, unframePackets } from '../src/rtp/framing.js';
import { seededRandom } from './support/random.js';

const bytes = (...values: number[]): Buffer => Buffer.from(values);
const texts = (message: Uint8Array): string[] =>
  unframePackets(message).packets.map((one) => Buffer.from(one).toString());

test('packets come out as they went in (RFC 4571)', async (t) => {
  const packets = ['one', 'a second packet', 'x'.repeat(2_048)].map((text) => Buffer.from(text));
  const message = framePackets(packets);
  t.same(
    message.subarray(0, 5),
    bytes(0, 3, 0x6f, 0x6e, 0x65),
    'the length, most significant byte first, then the packet',
  );
  t.same(unframePackets(message), { packets, fault: null });
  t.same(unframePackets(bytes()), { packets: [], fault: null });
  t.same(texts(Buffer.concat([bytes(0, 0), framePackets([Buffer.from('after a null packet')])])), [
    'after a null packet',
  ]);
  const full = framePackets(new Array(MOST_FRAMED_PACKETS).fill(Buffer.from('p')));
  t.equal(unframePackets(full).packets.length, MOST_FRAMED_PACKETS);
});

test('a bad length is named, and what came before it is kept', async (t) => {
  const good = framePackets([Buffer.from('good')]);
  const faults: [name: string, rest: Buffer, fault: string][] = [
    ['half a length', bytes(0), 'framing-truncated'],
    ['a length past the end', bytes(0, 9, 1, 2), 'framing-truncated'],
    ['a packet that no path carries', framePackets([Buffer.alloc(2_049)]), 'framing-packet-too-large'],
  ];
  for (const [name, rest, fault] of faults) {
    const message = Buffer.concat([good, rest]);
    t.equal(unframePackets(message).fault, fault, name);
    t.same(texts(message), ['good'], name);
  }
  const many = framePackets(new Array(MOST_FRAMED_PACKETS + 1).fill(Buffer.from('p')));
  t.equal(unframePackets(many).fault, 'framing-too-many-packets');
  t.equal(unframePackets(many).packets.length, MOST_FRAMED_PACKETS);
});

test('mutated messages give packets of their own bytes or a fault, and nothing throws', async (t) => {
  const random = seededRandom(4_571);
  const below = (limit: number): number => Math.floor(random() * limit);
  const faults = new Set<string | null>();
  for (let round = 0; round < 5_000; round++) {
    const message = framePackets(Array.from({ length: 1 + below(6) }, () => Buffer.alloc(below(120), below(256))));
    for (let i = below(4); i > 0; i--) message[below(message.length)] = below(256);
    const cut = message.subarray(0, below(message.length + 1));
    const { packets, fault } = unframePackets(cut);
    faults.add(fault);
    const held = packets.reduce((sum, packet) => sum + packet.length + 2, 0);
    if (held > cut.length || (fault === null && packets.some((packet) => packet.length === 0)))
      t.fail(`round ${round}`);
  }
  t.ok(faults.has(null) && faults.has('framing-truncated'), 'good ones and bad ones');
});
