/** The commands that make keys and sign releases, as people run them. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { readMinisignKey } from '../src/adapters/minisign/minisign.js';
import { readRescue } from '../src/adapters/minisign/rescue.js';
import { createKey, openKey, readKeyFolder, roleKeys } from '../src/adapters/tuf/key-folder.js';
import { TufRepository } from '../src/adapters/tuf/repository.js';
import { systemClock } from '../src/core/clock.js';
import { firstState } from '../src/fleet/slots.js';
import { manifest } from '../src/lab/trust-bench.js';

const program = resolve(import.meta.dirname, '../src/bin/entryphone.js');
const PASSPHRASE = 'eight dice drew these words';

function runner(t: Test, passphrase: string | null = PASSPHRASE) {
  const { ENTRYPHONE_PASSPHRASE: _, ...env } = process.env;
  return (args: readonly string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [program, ...args, '--json'], {
      encoding: 'utf8',
      env: passphrase === null ? env : { ...env, ENTRYPHONE_PASSPHRASE: passphrase },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    t.notMatch(`${stdout}${stderr}`, new RegExp(`${PASSPHRASE}|PRIVATE KEY`), 'nothing secret is told');
    return { status, stderr, told: JSON.parse(stdout) };
  };
}

test('from keys to a release that a station would take, and a rotation', async (t) => {
  const dir = t.testdir();
  const [keys, repository, other] = ['keys', 'repository', 'other'].map((name) => join(dir, name)) as [
    string,
    string,
    string,
  ];
  const run = runner(t);
  const made = run(['keys', 'create', 'root', '--out', keys]);
  t.equal(made.status, 0, made.stderr);
  const [name = ''] = readdirSync(keys).filter((one) => one.endsWith('.pem'));
  t.equal(statSync(join(keys, name)).mode & 0o777, 0o600);
  t.match(readFileSync(join(keys, name), 'utf8'), /BEGIN ENCRYPTED PRIVATE KEY/);
  for (const role of ['root', 'targets', 'flows', 'snapshot', 'timestamp', 'rescue'] as const) {
    await createKey(keys, role, PASSPHRASE);
  }
  // The third key of root is kept elsewhere: its public half alone is here.
  const third = await createKey(other, 'root', PASSPHRASE);
  writeFileSync(join(keys, 'third.pub'), readFileSync(`${third.path}.pub`));

  const first = run(['keys', 'init-repository', repository, '--keys', keys]);
  t.same(first.told.published, ['root', 'targets', 'flows', 'snapshot', 'timestamp'], first.stderr);
  const root = join(repository, 'metadata', '1.root.json');
  const release = join(repository, 'releases', '1.2.0', 'arm64');
  mkdirSync(release, { recursive: true });
  writeFileSync(join(release, 'manifest.json'), manifest('firmware'));
  // Who makes releases has no online keys: what is signed is not seen yet, and both commands say by what it will be.
  const offline = join(dir, 'offline');
  for (const file of readdirSync(keys).filter((one) => !/^(snapshot|timestamp).*pem$/.test(one))) {
    mkdirSync(offline, { recursive: true });
    writeFileSync(join(offline, file), readFileSync(join(keys, file)));
  }
  const half = run(['release', 'sign', release, '--keys', offline]);
  t.match(half.told, { ok: true, published: ['targets'], waiting: [] }, half.stderr);
  const unseen = run(['release', 'verify-signature', release, '--root', root]);
  t.equal(unseen.status, 1);
  t.match(unseen.told.failed, [/signed by nobody who may sign it\. .*entryphone keys refresh/]);
  const locked = runner(t, 'another twelve words')(['release', 'sign', release, '--keys', offline, '--rescue']);
  t.match(locked.told.failed, [/^rescue-[0-9a-f]{8}: the key does not open/], 'which of the keys it is');

  const signed = run(['release', 'sign', release, '--keys', keys, '--rescue']);
  t.match(signed.told, { ok: true, published: ['targets', 'snapshot', 'timestamp'], waiting: [] }, signed.stderr);
  const named: string[] = JSON.parse(readFileSync(root, 'utf8')).signed['x-rescue-keys'];
  t.equal(named.map(readMinisignKey).length, 1);
  const stick = {
    manifest: readFileSync(join(release, 'manifest.json')),
    signature: readFileSync(join(release, 'manifest.json.minisig'), 'utf8'),
    keys: named,
    slots: firstState({ version: '1.1.0', hash: '0'.repeat(64) }),
  };
  t.equal(readRescue(stick).version, '1.2.0');

  const before = (await readKeyFolder(keys)).find(({ role }) => role === 'targets');
  const rotated = run(['keys', 'rotate', 'targets', '--repository', repository, '--keys', keys]);
  t.match(rotated.told, { ok: true, published: ['root', 'targets', 'snapshot', 'timestamp'] }, rotated.stderr);
  t.notMatch(readFileSync(join(repository, 'metadata', '2.root.json'), 'utf8'), before?.keyId ?? 'none');
  // By the first root still, which the stations have.
  const verified = run(['release', 'verify-signature', release, '--root', root]);
  t.match(verified.told, { ok: true, target: 'releases/1.2.0/arm64/manifest.json', versions: { root: 2, targets: 4 } });

  // Where the repository is served there are the online keys, and no others.
  for (const { role, path } of await readKeyFolder(keys)) {
    if (['root', 'targets', 'flows', 'rescue'].includes(role)) rmSync(`${path}.pem`, { force: true });
  }
  const refreshed = run(['keys', 'refresh', '--repository', repository, '--keys', keys]);
  t.match(refreshed.told, { ok: true, published: ['timestamp'] }, refreshed.stderr);
});

test('what is wrong with keys is told, with a remedy', async (t) => {
  const dir = t.testdir();
  const keys = join(dir, 'keys');
  await t.rejects(createKey(keys, 'root', 'short'), { code: 'passphrase-short' });
  const key = await createKey(keys, 'timestamp', PASSPHRASE);
  await t.rejects(openKey(key, 'not these words at all'), { code: 'key-locked' });
  const other = await createKey(join(dir, 'other'), 'timestamp', PASSPHRASE);
  await t.rejects(openKey({ ...key, publicHex: other.publicHex }, PASSPHRASE), { code: 'key-invalid' });
  await t.rejects(readKeyFolder(join(dir, 'none')), { code: 'keys-missing' });
  for (const text of [
    '',
    '{}',
    readFileSync(`${key.path}.pub`, 'utf8').replace(/"keyId":".{8}/, '"keyId":"00000000'),
  ]) {
    writeFileSync(join(keys, 'wrong.pub'), text);
    await t.rejects(readKeyFolder(keys), { code: 'key-invalid', message: /wrong\.pub/ });
  }
  rmSync(join(keys, 'wrong.pub'));
  const repository = new TufRepository({ dir: join(dir, 'repository'), clock: systemClock });
  await t.rejects(repository.init(roleKeys(await readKeyFolder(keys))), {
    code: 'keys-too-few',
    message: /root has 0 keys, and needs 2/,
  });
  const silent = runner(t, null)(['keys', 'create', 'root', '--out', keys]);
  t.equal(silent.status, 2);
  t.match(silent.told.failed, [/no passphrase.*ENTRYPHONE_PASSPHRASE_FILE/]);
});
