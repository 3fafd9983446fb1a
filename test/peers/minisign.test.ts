/** Signatures of rescues against minisign as Debian has it: each verifies what the other has signed. */
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import {
  readMinisignKey,
  readMinisignSignature,
  signMinisign,
  verifyMinisign,
  writeMinisignKey,
} from '../../src/adapters/minisign/minisign.js';
import { newPrivateKey, publicBytes } from '../../src/adapters/tuf/signing-key.js';

const COMMENT = 'entryphone rescue firmware 1.4.0 arm64';

function minisign(args: readonly string[]): { readonly status: number | null; readonly said: string } {
  const { status, stdout, stderr, error } = spawnSync('minisign', args, { encoding: 'utf8', timeout: 30_000 });
  if (error !== undefined) throw error;
  return { status, said: `${stdout}${stderr}` };
}

test('minisign verifies what we sign', async (t) => {
  const dir = t.testdir();
  const [file, key] = [join(dir, 'file'), join(dir, 'key.pub')];
  const content = randomBytes(100_000);
  const privateKey = newPrivateKey();
  const own = { privateKey, publicBytes: publicBytes(privateKey) };
  writeFileSync(file, content);
  writeFileSync(key, writeMinisignKey(own.publicBytes));
  writeFileSync(`${file}.minisig`, signMinisign(content, { ...own, trustedComment: COMMENT }));
  const good = minisign(['-V', '-p', key, '-m', file]);
  t.equal(good.status, 0, good.said);
  t.match(good.said, COMMENT);
  writeFileSync(file, Buffer.concat([content, Buffer.from('x')]));
  t.not(minisign(['-V', '-p', key, '-m', file]).status, 0, 'and not another file');
});

test('we verify what minisign signs', async (t) => {
  const dir = t.testdir();
  const [file, key, secret] = [join(dir, 'file'), join(dir, 'key.pub'), join(dir, 'key')];
  const content = randomBytes(100_000);
  writeFileSync(file, content);
  const made = minisign(['-G', '-W', '-p', key, '-s', secret]);
  t.equal(made.status, 0, made.said);
  const signed = minisign(['-S', '-W', '-s', secret, '-m', file, '-t', COMMENT]);
  t.equal(signed.status, 0, signed.said);
  const signature = readMinisignSignature(readFileSync(`${file}.minisig`, 'utf8'));
  const known = readMinisignKey(readFileSync(key, 'utf8'));
  t.equal(verifyMinisign(content, signature, [known]), COMMENT);
  t.throws(() => verifyMinisign(content.subarray(1), signature, [known]), { code: 'minisign-refused' });
});
