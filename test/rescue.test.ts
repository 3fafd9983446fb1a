/** Rescue by a stick: signatures as minisign makes them, and what is refused. Against minisign itself: `test/peers`. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import {
  readMinisignKey,
  readMinisignSignature,
  signMinisign,
  verifyMinisign,
  writeMinisignKey,
} from '../src/adapters/minisign/minisign.js';
import { readRescue, rescueComment } from '../src/adapters/minisign/rescue.js';
import { newPrivateKey, publicBytes } from '../src/adapters/tuf/signing-key.js';
import { firstState } from '../src/fleet/slots.js';
import { manifest } from '../src/lab/trust-bench.js';
import { StationUpdates } from '../src/station/station-updates.js';

const fixtures = resolve(import.meta.dirname, '../../test/fixtures/minisign');
const fixture = (name: string) => readFileSync(join(fixtures, name), 'utf8');
const file = readFileSync(join(fixtures, 'file'));
const key = readMinisignKey(fixture('key.pub'));

test('what minisign has signed is verified, with its comment', async (t) => {
  const comment = verifyMinisign(file, readMinisignSignature(fixture('good.minisig')), [key]);
  t.equal(comment, 'entryphone rescue firmware 1.4.0 arm64');
  const oneLine = readMinisignKey(fixture('key.pub').split('\n')[1] ?? '');
  t.equal(verifyMinisign(file, readMinisignSignature(fixture('good.minisig')), [oneLine]), comment);
  const windows = fixture('good.minisig').replaceAll('\n', '\r\n');
  t.equal(verifyMinisign(file, readMinisignSignature(windows), [key]), comment, 'a stick may have been to Windows');
});

test('signatures with a fault are refused, each with its reason', async (t) => {
  const faults: readonly (readonly [name: string, code: string, says: RegExp])[] = [
    ['legacy-algorithm', 'minisign-invalid', /a kind that is not taken/],
    ['truncated', 'minisign-invalid', /no signature/],
    ['trusted-comment-missing', 'minisign-invalid', /no signature/],
    ['line-too-many', 'minisign-invalid', /no signature/],
    ['signature-too-short', 'minisign-invalid', /no signature/],
    ['trusted-comment-changed', 'minisign-refused', /trusted comment/],
    ['bit-flipped', 'minisign-refused', /not the file/],
  ];
  for (const [name, code, message] of faults) {
    const verified = () => verifyMinisign(file, readMinisignSignature(fixture(`${name}.minisig`)), [key]);
    t.throws(verified, { code, message }, name);
  }
  const good = readMinisignSignature(fixture('good.minisig'));
  t.throws(() => verifyMinisign(Buffer.from('another'), good, [key]), {
    code: 'minisign-refused',
    message: /not the file/,
  });
  t.throws(() => verifyMinisign(file, good, []), { code: 'minisign-refused', message: /does not know/ });
  for (const text of ['', 'RWQ', fixture('good.minisig'), 'x'.repeat(5_000), 'untrusted comment: \nRWQ=']) {
    t.throws(() => readMinisignKey(text), { code: 'minisign-invalid' });
    if (text !== fixture('good.minisig')) t.throws(() => readMinisignSignature(text), { code: 'minisign-invalid' });
  }
});

test('our signature is read as it was made; a comment is one line', async (t) => {
  const privateKey = newPrivateKey();
  const own = { privateKey, publicBytes: publicBytes(privateKey) };
  const text = signMinisign(file, { ...own, trustedComment: 'für heute' });
  const ownKey = readMinisignKey(writeMinisignKey(own.publicBytes));
  t.equal(verifyMinisign(file, readMinisignSignature(text), [key, ownKey]), 'für heute');
  t.throws(() => signMinisign(file, { ...own, trustedComment: 'two\nlines' }), { code: 'minisign-invalid' });
});

test('a rescue is taken at the floor and above, of a key that the root names', async (t) => {
  const privateKey = newPrivateKey();
  const keys = [writeMinisignKey(publicBytes(privateKey))];
  const stick = (content: Buffer, floor: string, comment = rescueComment(JSON.parse(content.toString('utf8')))) => ({
    manifest: content,
    signature: signMinisign(content, { privateKey, publicBytes: publicBytes(privateKey), trustedComment: comment }),
    keys,
    slots: firstState({ version: floor, hash: '0'.repeat(64) }),
  });
  for (const floor of ['1.2.0', '1.1.9', '1.2.0-rc.1']) {
    t.match(readRescue(stick(manifest('firmware'), floor)), { version: '1.2.0', architecture: 'arm64' }, floor);
  }
  for (const floor of ['1.2.1', '2.0.0-rc.1']) {
    t.throws(() => readRescue(stick(manifest('firmware'), floor)), { code: 'rescue-older', message: /older than/ });
  }
  t.throws(() => readRescue({ ...stick(manifest('firmware'), '1.0.0'), keys: [] }), { code: 'minisign-refused' });
  const noManifest = stick(Buffer.from('{}'), '1.0.0', 'entryphone rescue');
  t.throws(() => readRescue(noManifest), { code: 'rescue-invalid', message: /the manifest on the stick is none/ });
});

test('a station reads nothing of what is on a stick before its signature is checked', async (t) => {
  const brackets = '['.repeat(100_000) + ']'.repeat(100_000);
  const stick = t.testdir({ 'manifest.json': brackets, 'manifest.json.minisig': fixture('good.minisig') });
  // Of its slots, and so of what the manifest says, it knows nothing here.
  const station = { trust: { rescueKeys: () => [fixture('key.pub')] } };
  await t.rejects(StationUpdates.prototype.installFrom.call(station, stick), { code: 'minisign-refused' });
});
