import { randomBytes } from 'node:crypto';
import { test } from 'tap';
import { ReplayWindow } from '../src/rtp/replay-window.js';
import { writeRtcp } from '../src/rtp/rtcp-write.js';
import { parseRtp, type RtpPacket, writeRtp } from '../src/rtp/rtp-packet.js';
import { createSrtpCipher } from '../src/rtp/srtp-cipher.js';
import { deriveSrtpKeys, SRTP_SUITES, type SrtpMasterKey, type SrtpSuite } from '../src/rtp/srtp-keys.js';
import { type SrtpOpened, SrtpReceiver } from '../src/rtp/srtp-receiver.js';
import { SrtpSender } from '../src/rtp/srtp-sender.js';
import { keyOf, sessionKey } from './support/srtp-keys.js';

const SSRC = 0xcafe_babe;
const SUITES = Object.keys(SRTP_SUITES) as SrtpSuite[];
const hex = (text: string) => Buffer.from(text.replaceAll(' ', ''), 'hex');

const packet = (sequence: number, payload = 'speech', more: Partial<RtpPacket> = {}) =>
  writeRtp({
    payloadType: 96,
    marker: false,
    sequence: sequence & 0xffff,
    timestamp: (sequence * 960) >>> 0,
    ssrc: SSRC,
    csrcs: [],
    extension: null,
    payload: Buffer.from(payload),
    ...more,
  });

const report = (ssrc = SSRC) => writeRtcp([{ type: 'receiver-report', ssrc, reports: [] }]);

function ends(suite: SrtpSuite, key = keyOf(suite, randomBytes)) {
  const sender = new SrtpSender(SSRC);
  sender.use(key);
  return { sender, receiver: new SrtpReceiver(key), key };
}

/** What is sent; the test fails where nothing is. */
function sent(datagram: Uint8Array | null): Buffer {
  if (datagram === null) throw new Error('nothing was sent');
  return Buffer.from(datagram);
}

const outcome = (opened: SrtpOpened) => (opened.ok ? 'ok' : opened.fault);

test('SRTP: key derivation of RFC 3711, B.3', async (t) => {
  const master: SrtpMasterKey = {
    suite: 'AES_CM_128_HMAC_SHA1_80',
    keyAndSalt: hex('E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6').toString('base64'),
  };
  const { srtp } = deriveSrtpKeys(master);
  t.equal(srtp.key.export().toString('hex'), 'c61e7a93744f39ee10734afe3ff7a087');
  t.equal(srtp.salt.toString('hex'), '30cbbc08863d8c85d49db34a9ae1');
  t.equal(srtp.authentication?.export().toString('hex'), 'cebe321f6ff7716b6fd4ab49af256a156d38baa4');
  for (const suite of SUITES) {
    for (const keyAndSalt of ['', 'AAAA', Buffer.alloc(64).toString('base64')]) {
      t.throws(() => deriveSrtpKeys({ suite, keyAndSalt }), { code: 'srtp-key-invalid' });
    }
  }
});

test('SRTP: AES counter mode of RFC 3711, B.2', async (t) => {
  // The salt and the SSRC 0 begin the counter as the vector has it.
  const salt = hex('F0F1F2F3F4F5F6F7F8F9FAFBFCFD');
  const cipher = createSrtpCipher(
    'AES_CM_128_HMAC_SHA1_80',
    sessionKey('2B7E151628AED2A6ABF7158809CF4F3C', salt, true),
  );
  const place = { ssrc: 0, index: 0, headerBytes: 0, trailer: 0, isTrailerSent: false };
  const stream = cipher.seal(Buffer.alloc(0xff02 * 16), place);
  t.equal(stream.subarray(0, 16).toString('hex').toUpperCase(), 'E03EAD0935C95E80E166B16DD92B4EB4');
  t.equal(stream.subarray(16, 32).toString('hex').toUpperCase(), 'D23513162B02D0F72A43A2FE4A5F97AB');
  t.equal(stream.subarray(32, 48).toString('hex').toUpperCase(), '41E95B3BB0A2E8DD477901E4FCA894C0');
  t.equal(
    stream
      .subarray(0xfeff * 16, 0xff00 * 16)
      .toString('hex')
      .toUpperCase(),
    'EC8CDF7398607CB0F2D21675EA9EA1E4',
  );
  t.equal(
    stream
      .subarray(0xff00 * 16, 0xff01 * 16)
      .toString('hex')
      .toUpperCase(),
    '362B7C3C6773516318A077D7FC5073AE',
  );
  t.equal(
    stream
      .subarray(0xff01 * 16, 0xff02 * 16)
      .toString('hex')
      .toUpperCase(),
    '6A2CC3787889374FBEB4C81B17BA6C44',
  );
});

test('SRTP: AES-GCM of RFC 7714, 16 and 17', async (t) => {
  const salt = Buffer.from('Quid pro quo');
  const key = '000102030405060708090a0b0c0d0e0f';
  const key256 = `${key}101112131415161718191a1b1c1d1e1f`;
  const rtp = Buffer.concat([hex('8040f17b 8041f8d3 5501a0b2'), Buffer.from('Gallia est omnis divisa in partes tres')]);
  const rtcp = hex(
    '81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef',
  );
  const rtpPlace = { ssrc: 0x5501_a0b2, index: 0xf17b, headerBytes: 12, trailer: 0, isTrailerSent: false };
  const rtcpPlace = { ssrc: 0x4d61_7273, index: 0x5d4, headerBytes: 8, trailer: 0x8000_05d4, isTrailerSent: true };
  const vectors: [suite: SrtpSuite, key: string, srtp: string, srtcp: string][] = [
    [
      'AEAD_AES_128_GCM',
      key,
      '8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce',
      '81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce09b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4',
    ],
    [
      'AEAD_AES_256_GCM',
      key256,
      '8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13',
      '81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4',
    ],
  ];
  for (const [suite, keyText, srtp, srtcp] of vectors) {
    const cipher = createSrtpCipher(suite, sessionKey(keyText, salt, false));
    t.equal(cipher.seal(rtp, rtpPlace).toString('hex'), srtp, `${suite}, SRTP`);
    t.equal(cipher.seal(rtcp, rtcpPlace).toString('hex'), srtcp, `${suite}, SRTCP`);
    t.same(cipher.open(hex(srtp), rtpPlace, true), rtp);
    t.same(cipher.open(hex(srtcp), rtcpPlace, true), rtcp);
  }
  const tagged = hex(`${rtcp.toString('hex')} 841dd9683dd78ec92ae58790125f62b3 000005d4`);
  const cipher = createSrtpCipher('AEAD_AES_128_GCM', sessionKey(key, salt, false));
  t.same(cipher.open(tagged, { ...rtcpPlace, trailer: 0x5d4 }, false), rtcp, '17.3: authenticated alone');
});

test('SRTP: the packets that libsrtp is tested with, key derivation included', async (t) => {
  const rtp = hex('800f1234 decafbad cafebabe abababab abababab abababab abababab');
  const rtcp = hex('81c8000b cafebabe abababab abababab abababab abababab');
  const vectors: [suite: SrtpSuite, master: string, srtp: string, srtcp: string][] = [
    [
      'AES_CM_128_HMAC_SHA1_80',
      'e1f97a0d3e018be0d64fa32c06de4139 0ec675ad498afeebb6960b3aabe6',
      '800f1234decafbadcafebabe4e55dc4ce79978d88ca4d215949d2402b78d6acc99ea179b8dbb',
      '81c8000bcafebabe7128035be487b9bdbef89041f977a5a880000001993e08cd54d6c1230798',
    ],
    [
      'AEAD_AES_128_GCM',
      '000102030405060708090a0b0c0d0e0f a0a1a2a3a4a5a6a7a8a9aaab',
      '800f1234decafbadcafebabec5002ede04cfdd2eb91159e0880aa06ed2976826f796b201df3131a127e8a392',
      '81c8000bcafebabec98b8b5df0392a55852b6c21ac8e7025c52c6fbea2b3b446ea31123ba88ce61e80000001',
    ],
  ];
  for (const [suite, master, srtp, srtcp] of vectors) {
    const key: SrtpMasterKey = { suite, keyAndSalt: hex(master).toString('base64') };
    const sender = new SrtpSender(SSRC);
    sender.use(key);
    t.equal(sent(sender.rtp(rtp)).toString('hex'), srtp);
    sender.rtcp(rtcp); // libsrtp's first index is 1
    t.equal(sent(sender.rtcp(rtcp)).toString('hex'), srtcp);
    const receiver = new SrtpReceiver(key);
    t.same(receiver.rtp(hex(srtp), 0), { ok: true, packet: rtp });
    t.same(receiver.rtcp(hex(srtcp), 0), { ok: true, packet: rtcp });
  }
});

test('SRTP: each suite there and back, with all that a header can hold', async (t) => {
  for (const suite of SUITES) {
    const { sender, receiver } = ends(suite);
    const extension = { profile: 0xbede, data: Buffer.from([1, 2, 3, 4]) };
    for (const [at, more] of [{}, { csrcs: [1, 2, 3] }, { extension }, { csrcs: [7], extension }].entries()) {
      const plain = packet(at, 'what a visitor says', more);
      const protectedOne = sent(sender.rtp(plain));
      t.equal(protectedOne.length, plain.length + SRTP_SUITES[suite].tagBytes);
      t.notOk(protectedOne.includes('visitor'), 'nothing can be read');
      t.same(parseRtp(protectedOne).ok, true, 'the header can');
      t.same(receiver.peekRtp(protectedOne, 0), { ok: true, packet: plain });
      t.same(receiver.rtp(protectedOne, 0), { ok: true, packet: plain });
    }
    t.same(receiver.rtp(sent(sender.rtp(packet(4, ''))), 0), { ok: true, packet: packet(4, '') }, 'no payload');
    for (let round = 0; round < 3; round += 1) {
      t.same(receiver.rtcp(sent(sender.rtcp(report())), 0), { ok: true, packet: report() });
    }
  }
});

test('SRTP: what is not the far end’s, or comes twice, is named and dropped', async (t) => {
  for (const suite of SUITES) {
    const { sender, receiver } = ends(suite);
    const one = sent(sender.rtp(packet(1)));
    const two = sent(sender.rtp(packet(2)));
    t.equal(outcome(receiver.rtp(one, 0)), 'ok');
    t.equal(outcome(receiver.rtp(one, 0)), 'srtp-replayed');
    t.equal(outcome(receiver.peekRtp(one, 0)), 'srtp-replayed');
    for (let at = 0; at < two.length * 8; at += 1) {
      const forged = Buffer.from(two);
      forged[at >> 3] = (forged[at >> 3] ?? 0) ^ (1 << (at & 7));
      if (receiver.rtp(forged, 0).ok) t.fail(`bit ${at} of ${suite} is not protected`);
    }
    for (let length = 0; length < two.length; length += 1) {
      if (receiver.rtp(two.subarray(0, length), 0).ok) t.fail(`${length} bytes of ${suite} are taken`);
    }
    t.equal(outcome(receiver.rtp(two.subarray(0, 12), 0)), 'srtp-too-short');
    t.equal(
      outcome(receiver.rtp(Buffer.concat([hex('8f60000200000000cafebabe'), Buffer.alloc(40)]), 0)),
      'srtp-too-short',
    );
    t.equal(outcome(receiver.rtp(two, 0)), 'ok', 'what was forged has not taken its place');

    const other = ends(suite);
    t.equal(outcome(receiver.rtp(sent(other.sender.rtp(packet(3))), 0)), 'srtp-auth-failed');
    t.equal(outcome(receiver.rtcp(sent(other.sender.rtcp(report())), 0)), 'srtcp-auth-failed');
    t.equal(outcome(receiver.rtp(packet(3, 'a plain packet is told from a forged one'), 0)), 'srtp-auth-failed');
    t.equal(outcome(receiver.rtcp(report(), 0)), 'rtcp-not-encrypted');
    t.equal(outcome(receiver.rtp(packet(3, 'once its sender has sent a plain report'), 0)), 'rtp-not-encrypted');
    const rtcp = sent(sender.rtcp(report()));
    t.equal(outcome(receiver.rtcp(rtcp.subarray(0, 20), 0)), 'srtcp-too-short');
    t.equal(outcome(receiver.rtcp(rtcp, 0)), 'ok');
    t.equal(outcome(receiver.rtcp(rtcp, 0)), 'srtcp-replayed');
  }
});

test('SRTP: the replay window slides, takes what is late once, and forgets nothing too early', async (t) => {
  const window = new ReplayWindow();
  for (const index of [10, 12, 11]) {
    t.ok(window.admits(index));
    window.take(index);
    t.notOk(window.admits(index));
  }
  window.take(267);
  t.notOk(window.admits(11), 'too old');
  t.notOk(window.admits(12), 'has come');
  t.ok(window.admits(13));
  window.take(100_000);
  t.ok(window.admits(99_999), 'a leap leaves nothing of before');
  t.notOk(window.admits(100_000 - 256));
  t.notOk(window.admits(-1));
});

test('SRTP: the roll-over counter', async (t) => {
  const { sender, receiver, key } = ends('AES_CM_128_HMAC_SHA1_80');
  const all = Array.from({ length: 140_000 }, (_, at) => sent(sender.rtp(packet(at + 30_000))));
  const at = (index: number) => all[index - 30_000] as Buffer;
  const outcomeAt = (index: number, ms = 0) => outcome(receiver.rtp(at(index), ms));
  // Out of order around the wrap, with losses, and twice.
  for (const index of [65_533, 65_536, 65_534, 65_537, 65_535, 65_540])
    t.equal(outcomeAt(index), 'ok', `packet ${index}`);
  for (const index of [65_535, 65_536, 65_540]) t.equal(outcomeAt(index), 'srtp-replayed', `packet ${index} again`);
  t.equal(outcomeAt(65_540 + 32_767), 'ok', 'half a cycle lost');
  t.equal(outcomeAt(65_540), 'srtp-replayed');

  // Who has heard nothing for long finds the counter, but never goes back.
  t.equal(outcomeAt(66_000, 5_000), 'srtp-replayed');
  let waited = 0;
  while (outcomeAt(168_000 + waited, 10_000) !== 'ok' && waited < 10) waited += 1;
  t.equal(waited, 0, 'the next roll-over is tried at once');
  t.equal(outcomeAt(168_000 + waited + 1, 10_020), 'ok');
  t.equal(outcomeAt(98_400, 99_000), 'srtp-replayed');

  const late = new SrtpReceiver(key);
  let missed = 0;
  while (!late.rtp(at(140_000 + missed), missed * 20).ok && missed < 10) missed += 1;
  t.ok(missed < 2, `who joins in mid-call hears after ${missed} packets`);
  t.ok(late.rtp(at(140_000 + missed + 1), 2_000).ok);
  // After a day: 66 times rolled over.
  const old = createSrtpCipher(key.suite, deriveSrtpKeys(key).srtp);
  const seal = (index: number) =>
    old.seal(packet(index), {
      ...{ ssrc: SSRC, index, headerBytes: 12 },
      ...{ trailer: Math.floor(index / 65_536), isTrailerSent: false },
    });
  const later = new SrtpReceiver(key);
  let tried = 0;
  while (!later.rtp(seal(66 * 65_536 + tried), tried * 20).ok && tried < 100) tried += 1;
  t.ok(tried < 66, `a day later after ${tried} packets`);
});

test('SRTP: no place in a stream is used twice under one key', async (t) => {
  const [a, b] = [keyOf('AEAD_AES_128_GCM', randomBytes), keyOf('AEAD_AES_128_GCM', randomBytes)];
  const sender = new SrtpSender(SSRC);
  sender.use(a);
  const first = sent(sender.rtp(packet(65_535)));
  t.equal(sender.rtp(packet(65_535, 'other')), null, 'again');
  t.equal(sender.rtp(packet(65_534, 'other')), null, 'back');
  t.equal(sender.rtp(packet(1, 'other', { ssrc: 1 })), null, 'of another source');
  t.equal(sender.rtp(Buffer.from('no RTP at all')), null);
  sender.use(b);
  t.ok(sender.rtp(packet(65_536)), 'rolls over under another key');
  sender.use(null);
  t.same(sender.rtp(packet(65_536 + 65_535)), null, 'a leap of a whole cycle is a step back');
  t.same(sender.rtp(packet(65_537)), packet(65_537), 'plain');
  t.same(sender.rtcp(report()), report());
  sender.use(a);
  sender.use({ ...a });
  const receiver = new SrtpReceiver(a);
  t.ok(receiver.rtp(first, 0).ok);
  t.ok(receiver.rtp(sent(sender.rtp(packet(65_538))), 0).ok, 'the counter has gone on meanwhile');
  const indices = [sender.rtcp(report()), sender.rtcp(report())].map((one) => sent(one).readUInt32BE(24));
  t.same(indices, [0x8000_0000, 0x8000_0001]);
});

test('SRTP: a far end that starts again and again costs no memory', async (t) => {
  const key = keyOf('AES_CM_128_HMAC_SHA1_80', randomBytes);
  const receiver = new SrtpReceiver(key);
  const first = new SrtpSender(1);
  first.use(key);
  const kept = sent(first.rtp(packet(5, 'x', { ssrc: 1 })));
  t.ok(receiver.rtp(kept, 0).ok);
  for (let ssrc = 2; ssrc <= 16; ssrc += 1) {
    const sender = new SrtpSender(ssrc);
    sender.use(key);
    t.ok(receiver.rtp(sent(sender.rtp(packet(5, 'x', { ssrc }))), ssrc).ok);
    t.ok(receiver.rtcp(sent(sender.rtcp(report(ssrc))), ssrc).ok);
  }
  t.equal(outcome(receiver.rtp(kept, 20)), 'srtp-replayed', 'sixteen sources are known');
});
