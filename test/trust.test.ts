/** Trust in releases: what a station takes as signed, and every attack that it must refuse. */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { encryptedPem } from '../src/adapters/tuf/encrypted-key.js';
import { httpSource } from '../src/adapters/tuf/metadata-source.js';
import { FLOWS_PATTERNS, roleOfTarget } from '../src/adapters/tuf/roles.js';
import { newPrivateKey, publicBytes, readPrivateKey, signingKey } from '../src/adapters/tuf/signing-key.js';
import { checkTarget, TufTrust } from '../src/adapters/tuf/tuf-trust.js';
import { silentLogger } from '../src/core/logger.js';
import { attackOutcome } from '../src/lab/attack.js';
import { ATTACKS } from '../src/lab/attacks-scenario.js';
import { another, DAY_MS, FIRMWARE, FLOWS, manifest, trusting } from '../src/lab/trust-bench.js';
import { Mutator } from './support/mutate.js';
import { seededRandom } from './support/random.js';

for (const attack of ATTACKS) {
  test(`refused: ${attack.name}`, async (t) => {
    const dir = mkdtempSync(join(tmpdir(), 'ep-trust-'));
    // What a station keeps of a job is written after it is told.
    t.teardown(() => rm(dir, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 }));
    const { refused, reason } = await attackOutcome(attack, dir);
    t.ok(refused, reason);
    t.ok(reason.length > 10, 'with a reason in words');
  });
}

test('an attack that is taken, or fails by another fault, is not told as refused', async (t) => {
  const harmless = { name: 'none', does: 'nothing', code: 'trust-expired' };
  const taken = await attackOutcome({ ...harmless, prepare: async () => async () => {} }, t.testdir());
  t.same(taken, { refused: false, reason: 'it was taken' });
  const fault = async () => {
    throw new Error('a fault of its own');
  };
  t.equal((await attackOutcome({ ...harmless, prepare: async () => fault }, t.testdir())).refused, false);
  t.equal((await attackOutcome({ ...harmless, prepare: fault }, t.testdir())).refused, false);
});

test('what is signed is taken, and told', async (t) => {
  const dir = t.testdir();
  const { bench, trust } = await trusting(dir);
  const firmware = await trust.target(FIRMWARE);
  t.same(await trust.fetchTarget(firmware), manifest('firmware'));
  t.same(await trust.fetchTarget(await trust.target(FLOWS)), manifest('flows'));
  t.match(await trust.manifest(FIRMWARE), { kind: 'firmware', version: '1.2.0', architecture: 'arm64' });
  t.match(await trust.manifest(FLOWS), { kind: 'flows', version: '1.2.0' });
  t.same(trust.report().versions, { root: 1, targets: 1, flows: 1, snapshot: 1, timestamp: 1 });
  t.equal(trust.report().expiresMs, bench.clock.wallMs() + 7 * DAY_MS, 'the timestamp is the first to expire');
  await another(bench);
  t.equal((await trust.target('releases/1.3.0/arm64/manifest.json')).path, 'releases/1.3.0/arm64/manifest.json');
  t.same(await trust.target(FIRMWARE), firmware, 'what was signed before is signed still');
  t.throws(() => checkTarget(firmware, manifest('flows')), { code: 'trust-wrong-target' });
  t.same(trust.refused.all(), {});
});

test('the state is one file, written when all has passed, and carried over a restart', async (t) => {
  const dir = t.testdir();
  const { bench, trust } = await trusting(dir);
  const path = join(dir, 'trust', 'trust.json');
  const before = readFileSync(path);
  t.equal(statSync(path).mode & 0o777, 0o600);
  await another(bench);
  bench.serve('metadata/2.targets.json', 'no metadata');
  await t.rejects(trust.refresh(), { code: 'trust-mixed' });
  t.same(trust.refused.all(), { 'trust-mixed': 1 });
  t.same(readFileSync(path), before, 'a timestamp and a snapshot that were good are not kept without their targets');
  bench.serveNothingElse();
  await trust.refresh();
  t.same(readdirSync(join(dir, 'trust')), ['trust.json']);
  const kept = readFileSync(path);
  bench.pass(60_000);
  await trust.refresh();
  t.same(readFileSync(path), kept, 'a minute alone is not written');
  bench.restart();
  t.equal((await bench.trust()).report().versions.targets, 2);
});

test('a damaged state is set aside, and trust begins anew with the first root', async (t) => {
  const dir = t.testdir();
  const { bench } = await trusting(dir);
  const path = join(dir, 'trust', 'trust.json');
  for (const text of [
    '',
    '{"v":1',
    '{"v":1,"lastSeenMs":0,"metadata":{"root":"{}"}}',
    readFileSync(path, 'utf8').slice(9),
  ]) {
    writeFileSync(path, text);
    bench.restart();
    const trust = await bench.trust();
    t.same(trust.report().versions, { root: 1 });
    await trust.refresh();
    t.equal(trust.report().versions.timestamp, 1);
    t.equal(readFileSync(`${path}.damaged`, 'utf8'), text);
  }
  const options = { dir: join(dir, 'none'), source: bench.source(), clock: bench.clock, logger: silentLogger };
  for (const initialRoot of ['', '{}', (await bench.published('targets')).toString('utf8')]) {
    await t.rejects(TufTrust.open({ ...options, initialRoot }), { code: 'trust-root-invalid' });
  }
});

test('keys are rotated: a station that was away for several follows all of them', async (t) => {
  const { bench, trust } = await trusting(t.testdir());
  for (const role of ['root', 'targets', 'flows', 'timestamp', 'snapshot', 'root', 'root'] as const) {
    await bench.rotate(role);
  }
  await trust.target(FLOWS);
  const { versions } = trust.report();
  t.equal(versions.root, 7, 'the keys of flows stand in targets');
  t.equal(versions.targets, 3);
  t.equal(versions.flows, 2);
});

test('a time that a stolen key has told is forgotten with the key', async (t) => {
  const { bench, trust } = await trusting(t.testdir());
  const startMs = bench.clock.wallMs();
  const at = (days: number) => new Date(startMs + days * DAY_MS).toISOString();
  const ahead = { version: 900, 'x-issued': at(20), expires: at(25) };
  const forged = await bench.forge('timestamp', (signed) => Object.assign(signed, ahead), [bench.key('timestamp')]);
  bench.serve('metadata/timestamp.json', forged);
  await trust.refresh();
  t.equal(trust.nowMs(), startMs + 20 * DAY_MS, 'it is believed, for it is signed');
  bench.serveNothingElse();
  await t.rejects(trust.refresh(), { code: 'trust-rollback' });
  await bench.rotate('timestamp');
  t.equal((await trust.refresh()).versions.timestamp, 2);
  t.equal(trust.nowMs(), startMs);
});

test('a key that was rotated away by fewer than two of root stays', async (t) => {
  const { bench } = await trusting(t.testdir());
  const [removed, second] = bench.keys.root;
  const added = signingKey(newPrivateKey());
  await bench.repository.rotate('targets', { removed: bench.key('targets').keyId, added });
  const offline = [...bench.keys.targets, added, ...bench.keys.flows, bench.key('timestamp'), bench.key('snapshot')];
  const first = await bench.repository.sign([...(removed === undefined ? [] : [removed]), ...offline]);
  const waiting = [{ role: 'root', signatures: 1, threshold: 2 }] as const;
  t.same(first, { published: ['timestamp'], waiting }, 'nothing of it is published by half; the timestamp goes on');
  t.equal((await (await bench.trust()).refresh()).versions.root, 1);
  const both = await bench.repository.sign([...(second === undefined ? [] : [second]), ...offline]);
  t.same(both, { published: ['root', 'targets', 'snapshot', 'timestamp'], waiting: [] });
  t.equal((await (await bench.trust()).refresh()).versions.root, 2);
});

test('what expires is renewed, and a station with an old clock takes it', async (t) => {
  const { bench, trust } = await trusting(t.testdir());
  bench.pass(364 * DAY_MS);
  await bench.repository.renew(30 * DAY_MS);
  await bench.publish();
  t.same((await trust.refresh()).versions, { root: 1, targets: 2, snapshot: 2, timestamp: 2 });
  bench.setClock(0);
  await bench.repository.renew(0);
  t.same((await trust.refresh()).versions.targets, 2, 'nothing is too old, or of the future');
  t.ok(trust.nowMs() > Date.UTC(2027, 0, 1), 'the time is not before what was seen');
});

test('the repository refuses to sign one version twice, a path of nobody, and too few keys', async (t) => {
  const dir = t.testdir();
  const { bench } = await trusting(dir);
  const { repository } = bench;
  await t.rejects(repository.addTargets([{ path: FIRMWARE, bytes: Buffer.from('other') }]), { code: 'target-changed' });
  await repository.addTargets([{ path: FIRMWARE, bytes: manifest('firmware') }]);
  for (const path of ['', '/etc/passwd', 'releases/../x', 'other/1.0.0/x', '__proto__/x', 'flows//x', 'flows/.x']) {
    t.throws(() => roleOfTarget(path), { code: 'trust-target-unknown' }, path);
  }
  t.ok(FLOWS_PATTERNS.every((pattern) => /^(flows|config)(\/\*)+$/.test(pattern)));
  await t.rejects(repository.init(bench.keys), { code: 'repository-exists' });
  await t.rejects(repository.rotate('root', { removed: 'nobody' }), { code: 'key-unknown' });
  await t.rejects(repository.rotate('targets', { removed: bench.key('targets').keyId }), { code: 'keys-too-few' });
  const empty = new (repository.constructor as typeof import('../src/adapters/tuf/repository.js').TufRepository)({
    dir: join(dir, 'empty'),
    clock: bench.clock,
  });
  await t.rejects(empty.keys(), { code: 'repository-missing' });
  mkdirSync(join(dir, 'empty', 'pending'), { recursive: true });
  writeFileSync(join(dir, 'empty', 'pending', 'root.json'), '{"signed":{}}');
  await t.rejects(empty.keys(), { code: 'repository-damaged' });
});

test('metadata with any fault is refused, or is what was signed', async (t) => {
  const { bench } = await trusting(t.testdir());
  const good = await bench.published('timestamp');
  const words = [
    '"__proto__":{},',
    'null',
    '-1',
    '1e999',
    '[[[[[[[[',
    '"expires":"2999-01-01T00:00:00Z",',
    '\\u0000',
    '{}',
  ];
  const mutator = new Mutator({ random: seededRandom(7), corpus: [good, await bench.published('snapshot')], words });
  const before = (await bench.trust()).report();
  for (let round = 0; round < 80; round += 1) {
    const bytes = mutator.next();
    bench.serve('metadata/timestamp.json', bytes);
    const trust = await bench.trust();
    const thrown = await trust.refresh().then(
      () => undefined,
      (error: { code?: string }) => error.code,
    );
    t.ok(thrown === undefined || thrown.startsWith('trust-'), `${thrown}: ${bytes.toString('base64')}`);
    t.same(trust.report().versions, before.versions, 'nothing else is trusted');
  }
});

test('a repository on a web server', async (t) => {
  const dir = t.testdir();
  const { bench } = await trusting(dir);
  const server = createServer((request, response) => {
    const path = join(dir, 'repository', request.url ?? '');
    if (request.url === '/broken/metadata/timestamp.json') response.writeHead(500).end();
    else if (request.url === '/moved/metadata/2.root.json') response.writeHead(302, { location: '/' }).end();
    else if (!statSync(path, { throwIfNoEntry: false })?.isFile()) response.writeHead(404).end();
    else response.end(readFileSync(path));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const initialRoot = (await bench.published('root')).toString('utf8');
  const open = (path: string, name: string) =>
    TufTrust.open({
      dir: join(dir, name),
      initialRoot,
      source: httpSource(`http://127.0.0.1:${port}${path}`),
      clock: bench.clock,
      logger: silentLogger,
    });
  const trust = await open('', 'web');
  t.equal((await trust.target(FIRMWARE)).sizeBytes, manifest('firmware').length);
  await t.rejects(trust.fetchTarget(await trust.target(FIRMWARE)), { code: 'trust-missing' });
  await t.rejects((await open('/broken', 'broken')).refresh(), { code: 'trust-unreachable', message: /status 500/ });
  await t.rejects((await open('/moved', 'moved')).refresh(), { code: 'trust-unreachable' });
  await t.rejects((await open('/nothing', 'nothing')).refresh(), { code: 'trust-missing' });
  server.closeAllConnections();
  server.close();
  await once(server, 'close');
  await t.rejects(trust.refresh(), { code: 'trust-unreachable', remedy: /tried again/ });
});

test('a key is encrypted as OpenSSL reads it, and opens with its passphrase alone', async (t) => {
  const dir = t.testdir();
  const key = newPrivateKey();
  const passphrase = 'Käse und Brot';
  const pem = encryptedPem(key, passphrase);
  t.same(publicBytes(readPrivateKey(pem, passphrase)), publicBytes(key));
  for (const wrong of ['', 'kase und brot', `${passphrase} `]) {
    t.throws(() => readPrivateKey(pem, wrong), { code: 'key-locked' });
  }
  t.throws(() => readPrivateKey(pem.slice(0, 100), passphrase), { code: 'key-locked' });
  t.notMatch(pem, key.export({ type: 'pkcs8', format: 'der' }).subarray(-32).toString('base64').slice(0, 16));
  const file = join(dir, 'key.pem');
  writeFileSync(file, pem);
  const openssl = spawnSync('openssl', [
    'pkey',
    '-in',
    file,
    '-passin',
    `pass:${passphrase}`,
    '-pubout',
    '-outform',
    'DER',
  ]);
  if (openssl.error === undefined)
    t.same(openssl.stdout.subarray(-32), publicBytes(key), openssl.stderr.toString('utf8'));
});
