import { test } from 'tap';
import { negotiate, readPeer } from '../src/call/negotiate.js';
import { agreedKeys, answerSecurity, offerSecurity, type SdesSecurity } from '../src/call/sdes.js';
import { type AudioDescription, parseSdp, writeSdp } from '../src/call/sdp.js';
import { withoutSecrets } from '../src/core/logger.js';
import { describedAt } from './support/descriptions.js';

/** Keys that differ, and come again. */
function counting() {
  let made = 0;
  return (size: number) => Buffer.alloc(size, ++made);
}

const withKeys = (security: SdesSecurity | undefined): AudioDescription => ({
  ...describedAt(40_000),
  ...(security === undefined ? {} : { security }),
});

const RFC_KEY = 'd0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj';
/** An offer of RTP/SAVP with these lines. */
const offerOf = (...lines: string[]) =>
  writeSdp(describedAt(40_000))
    .replace('RTP/AVP', 'RTP/SAVP')
    .concat(lines.map((line) => `a=crypto:${line}\r\n`).join(''));

test('SDES: offered, answered, agreed on; each end sends with a key of its own', async (t) => {
  const random = counting();
  const offer = withKeys(offerSecurity('required', random));
  const text = writeSdp(offer);
  t.match(text, /^m=audio 40000 RTP\/SAVP /m);
  t.equal(text.match(/^a=crypto:\d \w+ inline:[A-Za-z0-9+/=]+\r$/gm)?.length, 3);
  t.same(parseSdp(text), { ok: true, value: offer });
  t.equal(new Set(offer.security?.keys.map(({ keyAndSalt }) => keyAndSalt)).size, 3);

  const answer = withKeys(answerSecurity('required', offer.security, random));
  t.same(parseSdp(writeSdp(answer)), { ok: true, value: answer });
  const [offered, answered] = [offer.security?.keys[0], answer.security?.keys[0]];
  t.match(answered, { tag: 1, suite: 'AES_CM_128_HMAC_SHA1_80' });
  t.same(negotiate(offer, answer, 20)?.srtp, { send: offered, receive: answered });
  t.same(negotiate(answer, offer, 20)?.srtp, { send: answered, receive: offered });
  t.equal(negotiate(offer, withKeys(undefined), 20)?.srtp, null);
  const otherTag = { isRequired: true, keys: [{ ...(answered as NonNullable<typeof answered>), tag: 9 }] } as const;
  t.equal(agreedKeys(offer.security, otherTag), null, 'a line that was not offered');
});

test('SDES: who must, may and must not', async (t) => {
  const random = counting();
  const said = (policy: 'required' | 'preferred' | 'off') => withKeys(offerSecurity(policy, random));
  const outcomes: [
    ours: 'required' | 'preferred' | 'off',
    theirs: 'required' | 'preferred' | 'off',
    outcome: string,
  ][] = [
    ['required', 'required', 'SRTP'],
    ['required', 'preferred', 'SRTP'],
    ['required', 'off', 'not-encrypted'],
    ['preferred', 'required', 'SRTP'],
    ['preferred', 'preferred', 'SRTP'],
    ['preferred', 'off', 'RTP'],
    ['off', 'required', 'only-encrypted'],
    ['off', 'preferred', 'RTP'],
    ['off', 'off', 'RTP'],
  ];
  for (const [ours, theirs, outcome] of outcomes) {
    const offer = readPeer(writeSdp(said(theirs)), ours);
    if (!offer.ok) {
      t.equal(offer.fault, outcome, `${theirs} calls ${ours}`);
      continue;
    }
    const security = answerSecurity(ours, offer.value.security, random);
    const answer = readPeer(writeSdp(withKeys(security)), theirs);
    t.ok(answer.ok, 'the caller takes the answer');
    t.equal(agreedKeys(security, offer.value.security) === null ? 'RTP' : 'SRTP', outcome, `${theirs} calls ${ours}`);
    t.equal(/RTP\/SAVP/.test(writeSdp(withKeys(security))), theirs === 'required', 'the profile is the offer\u2019s');
  }
});

test('SDES: of the lines of RFC 4568 those that can be followed', async (t) => {
  const good = `1 AES_CM_128_HMAC_SHA1_80 inline:${RFC_KEY}`;
  const taken: [name: string, line: string][] = [
    ['as it is', good],
    ['a lifetime that a call stays below', `${good}|2^31`],
    ['one in decimal', `${good}|281474976710656`],
  ];
  for (const [name, line] of taken) {
    const parsed = parseSdp(offerOf(line));
    t.match(parsed, { ok: true, value: { security: { keys: [{ tag: 1, keyAndSalt: RFC_KEY }] } } }, name);
  }
  const passedOver: [name: string, line: string][] = [
    ['another suite', good.replace('SHA1_80', 'SHA1_32')],
    ['no suite at all', good.replace('AES_CM_128_HMAC_SHA1_80', '__proto__')],
    ['no tag', good.replace('1 ', ' ')],
    ['an endless tag', good.replace('1 ', '99999999999 ')],
    ['a short key', good.slice(0, -4)],
    ['a long key', `${good}AAAA`],
    ['no base64', good.replace('d0Rm', '!!!!')],
    ['no inline', good.replace('inline:', 'outline:')],
    ['a master key identifier', `${good}|2^20|1:4`],
    ['a key that ends in mid-call', `${good}|2^16`],
    ['a lifetime that is none', `${good}|never`],
    ['two keys', `${good};inline:${RFC_KEY}`],
    ['no authentication', `${good} UNAUTHENTICATED_SRTP`],
    ['a key derivation rate', `${good} KDR=10`],
    ['a hint at the window, and what nobody knows', `${good} WSH=64 UNKNOWN=1`],
  ];
  for (const [name, line] of passedOver)
    t.match(parseSdp(offerOf(line)), { ok: false, fault: 'no-common-crypto' }, name);
  const second = parseSdp(offerOf(...passedOver.slice(0, 7).map(([, line]) => line), good.replace('1 ', '7 ')));
  t.match(second, { ok: true, value: { security: { keys: [{ tag: 7 }] } } }, 'the first that can be followed');
  t.match(parseSdp(offerOf(...Array.from({ length: 20 }, () => good))), { ok: true });
});

test('SDES: no line of a log has a key in it', async (t) => {
  const offer = withKeys(offerSecurity('required', counting()));
  const secrets = offer.security?.keys.map(({ keyAndSalt }) => keyAndSalt) ?? [];
  const quoted = JSON.stringify({ sdp: writeSdp(offer) });
  for (const line of [
    JSON.stringify({ message: quoted, srtp: { send: offer.security?.keys[0] } }),
    JSON.stringify({ text: JSON.stringify(JSON.stringify({ keys: offer.security })) }),
    `${quoted} and in a text`,
  ]) {
    t.ok(secrets.some((secret) => line.includes(secret)));
    const clean = withoutSecrets(line);
    t.notOk(
      secrets.some((secret) => clean.includes(secret)),
      clean,
    );
    t.equal(withoutSecrets(clean), clean);
  }
  t.same(JSON.parse(withoutSecrets(JSON.stringify({ a: 'a=crypto:1 X inline:AAAA|2^31' }))), {
    a: 'a=crypto:1 X inline:[secret]|2^31',
  });
});
