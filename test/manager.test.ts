import { existsSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'tap';
import { stringify } from 'yaml';
import { FleetStore } from '../src/adapters/sqlite/fleet-store.js';
import { createKey, openSigningKey, readKeyFolder, roleKeys } from '../src/adapters/tuf/key-folder.js';
import { TufRepository } from '../src/adapters/tuf/repository.js';
import { stationTables } from '../src/bin/commands/fleet-tables.js';
import { loadManagerConfig } from '../src/config/manager-config.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { commandKey } from '../src/manager/command-key.js';
import { FleetManager } from '../src/manager/manager.js';
import { TimestampKeeper } from '../src/manager/timestamp-keeper.js';
import { bench, client, fleet, folder, StationDouble } from './support/manager-bench.js';
import { until } from './support/site.js';

test('a manager knows its stations, and has them do what they are told; each order is noted before and after', async (t) => {
  const { dir, site, running, view } = await bench(t);
  const { manager } = running;
  t.equal(statSync(join(dir, 'state/command-key.pem')).mode & 0o777, 0o600);
  const door = await StationDouble.start(site, 'door', [manager.publicKey]);
  const attic = await StationDouble.start(site, 'attic', []);
  await until(() => view('door')?.isOnline === true && view('attic') !== undefined);
  await door.say('reported/config', { v: 1, id: 'reported-1', seq: 0, hash: 'sha256:1', error: null }, true);
  await door.say('evt/selftest', {
    ...{ v: 1, id: '5e8f2a5e-8f39-4b52-8d5e-0d7c6c1f2a11', seq: 1, at: 7, data: { verdict: 'pass', ok: true } },
  });
  await until(() => view('door')?.reports.length === 2);
  t.match(view('door'), { release: '1.1.0', architecture: 'arm64' });

  const ask = await client(t, dir);
  const order = { station: 'door', by: 'ana' };
  t.match(await ask.call('fleet.run', { ...order, order: { verb: 'restart', service: 'media' } }), { ok: true });
  t.same(door.restarted, ['media']);
  t.match(await ask.call('fleet.run', { ...order, order: { verb: 'restart', service: 'media' } }), {
    ...{ ok: false, code: 'too-soon', remedy: /again in/ },
  });
  await t.rejects(ask.call('fleet.run', { ...order, station: 'cellar', order: { verb: 'self-test' } }), {
    code: 'station-unknown',
  });
  await t.rejects(ask.call('fleet.run', { ...order, order: { verb: 'open-door' } as never }), { code: 'bad-params' });
  t.match(await ask.call('manager.status', {}), {
    broker: { connected: true },
    stations: 2,
    commandKey: manager.publicKey,
  });

  const socket = join(folder(t), 'none.sock');
  const pki = join(site.dir, 'pki');
  const [listed, tested, nobody, prepared] = await Promise.all([
    fleet(dir, 'stations'),
    fleet(dir, 'run', 'self-test', 'door', '--json'),
    fleet(dir, 'stations', '--json', '--socket', socket),
    fleet(dir, 'prepare', dir, '--url', 'mqtts://127.0.0.1:1', '--credentials', pki, '--repository', dir),
  ]);
  t.equal(prepared.code, 0);
  t.match(loadManagerConfig(join(dir, 'manager.yaml')), {
    mqtt: { ca: join(pki, 'ca.pem') },
    repository: { folder: dir },
  });
  t.match(listed.out, /attic@home[\s\S]*door@home.*online.*1\.1\.0.*arm64.*pass/);
  t.match(JSON.parse(tested.out), { ok: true, code: 'done', result: { verdict: 'pass' } });
  t.equal(tested.code, 0);
  t.equal(nobody.code, 69);
  t.match(JSON.parse(nobody.out), { ok: false, failed: [/no fleet manager answers/] });
  const audit = manager.store.audits(10).reverse();
  t.match(
    audit.map(({ what, outcome }) => `${what}: ${outcome}`),
    [
      ...['restart media: ordered', 'restart media: done', 'restart media: ordered', 'restart media: too-soon'],
      ...['self-test: ordered', 'self-test: done'],
    ],
  );
  t.ok(audit.every(({ by, target }) => by.length > 0 && target === 'door@home'));

  // A log, until its sender ends it; another station can't speak in its stream.
  const logs = fleet(dir, 'logs', 'door', '--json');
  await until(() => manager.store.audits(1)[0]?.outcome === 'done' && manager.store.audits(1)[0]?.what === 'logs');
  door.tap.tell('{"level":30,"msg":"a line","password":"hunter"}');
  await attic.say('res/fleet-manager', {
    ...{ v: 1, id: 'forged-1', seq: 0, to: 'not-an-order', type: 'log', lines: ['forged'], dropped: 0, ended: null },
  });
  await until(() => manager.refused.get('unexpected-log') === 1);
  door.commands.close();
  const logged = JSON.parse((await logs).out);
  t.match(logged, { ok: true, ended: 'station-stopped', lines: [/a line/] });
  t.notMatch(logged.lines.join(), /hunter|forged/);

  await door.online(false);
  await door.link.close();
  await until(() => view('door')?.isOnline === false);
  await t.rejects(ask.call('fleet.run', { ...order, order: { verb: 'self-test' } }), {
    ...{ code: 'no-answer', message: /door@home is not connected/ },
  });
  t.match(manager.store.audits(1)[0], { outcome: 'unheard' });
  const shown = stationTables(await ask.call('fleet.station', { station: 'door' }), Date.now());
  t.match(shown, /door@home.*away[\s\S]*selftest.*verdict[\s\S]*restart media: too-soon/);

  // One without a broker knows nobody, and says why; what was never ordered has a way on.
  const lone = folder(t);
  const mqtt = { url: 'mqtts://127.0.0.1:1', ...site.host.credentialsOf('fleet-manager') };
  const config = { mqtt, state: join(lone, 'state'), run: join(lone, 'run') };
  const alone = await FleetManager.start({ config, clock: systemClock, logger: silentLogger });
  t.teardown(() => alone.close());
  const [none, unknown, unordered] = await Promise.all([
    fleet(lone, 'stations'),
    fleet(lone, 'watch', 'u-1'),
    fleet(lone, 'audit'),
  ]);
  t.match(none, { code: 0, out: /no station was heard of yet/, err: /not connected to its broker\. / });
  t.match(unknown, { code: 1, err: /no job u-1\. See: entryphone fleet jobs/ });
  t.match(unordered, { code: 0, out: /^$/, err: /nothing was ordered yet/ });
});

test('what a manager remembers is bounded, outlasts it, and a damaged file is set aside', async (t) => {
  const dir = folder(t, existsSync('/dev/shm') ? '/dev/shm' : tmpdir());
  const path = join(dir, 'fleet.sqlite');
  const clock = new ManualClock();
  const open = () => new FleetStore({ path, clock, logger: silentLogger });
  const door = { site: 'home', station: 'door', isOnline: true, release: '1.0.0', architecture: 'x64' };
  const store = open();
  t.equal(store.report('home', 'door', 'config', {}), false, 'of nobody');
  store.presence(door);
  store.presence({ ...door, isOnline: false, architecture: null });
  for (let i = 0; i < 30; i++) store.report('home', 'door', `kind-${i}`, { i });
  t.equal(store.station('home', 'door')?.reports.length, 16);
  t.equal(store.report('home', 'door', 'kind-0', { text: 'x'.repeat(9_000) }), false);
  store.audit({ by: 'ana', what: 'update', target: 'door@home', outcome: 'ordered', detail: 'x'.repeat(9_000) });
  const fake = (n: number): boolean => store.presence({ ...door, site: 'made-up', station: `door-${n}` });
  t.same(Array.from({ length: 502 }, (_, n) => fake(n)).indexOf(false), 500, 'of a site that makes stations up');
  t.ok(fake(3), 'those that are known are');
  t.ok(store.presence({ ...door, site: 'away' }), 'and other sites have their place');
  const changes = new DatabaseSync(path, { readOnly: true });
  const version = () => changes.prepare('PRAGMA data_version').get()?.data_version;
  store.seen('home', 'door');
  const before = version();
  for (let n = 0; n < 50; n++) {
    clock.advance(1_000);
    store.seen('home', 'door');
    store.presence({ ...door, isOnline: false, architecture: null });
  }
  t.equal(version(), before, 'telemetry of each second is no write of each second');
  t.equal(store.station('home', 'door')?.seenAtMs, clock.wallMs(), 'and known to the second');
  clock.advance(20_000);
  store.seen('home', 'door');
  t.not(version(), before, 'a minute later it is written');
  changes.close();
  clock.advance(1_000);
  store.seen('home', 'door');
  store.seen('home', 'of-nobody');
  store.close();
  const again = open();
  t.match(again.station('home', 'door'), { isOnline: false, architecture: 'x64', seenAtMs: clock.wallMs() });
  t.equal(again.audits(5)[0]?.detail.length, 500);
  t.equal(again.setAside, null);
  again.close();
  writeFileSync(path, 'this is no database');
  const anew = open();
  t.ok(anew.setAside);
  t.same(anew.stations(), []);
  anew.close();

  writeFileSync(join(dir, 'key.pem'), 'no key');
  await t.rejects(commandKey(join(dir, 'key.pem')), { code: 'key-invalid' });
  const made = await commandKey(join(dir, 'own.pem'));
  t.equal((await commandKey(join(dir, 'own.pem'))).publicHex, made.publicHex);
});

test('the manager vouches for what its repository has, each half day', async (t) => {
  const dir = folder(t);
  const keys = join(dir, 'keys');
  const passphrase = 'six words that dice have drawn';
  for (const role of ['root', 'root', 'root', 'targets', 'flows', 'snapshot', 'timestamp'] as const) {
    await createKey(keys, role, passphrase);
  }
  const stored = await readKeyFolder(keys);
  const clock = new ManualClock();
  const repository = new TufRepository({ dir: join(dir, 'repository'), clock });
  await repository.init(roleKeys(stored));
  await repository.sign(await Promise.all(stored.map((key) => openSigningKey(key, passphrase))));
  const before = (await repository.expiries()).timestamp ?? 0;
  writeFileSync(join(dir, 'passphrase'), `${passphrase}\n`);
  const keeper = new TimestampKeeper({
    ...{ folder: join(dir, 'repository'), keys, passphraseFile: join(dir, 'passphrase'), clock, logger: silentLogger },
  });
  await keeper.start();
  clock.advance(12 * 3_600_000);
  await until(async () => ((await repository.expiries()).timestamp ?? 0) >= before + 12 * 3_600_000);
  keeper.close();
  for (const { path, role } of stored) if (role === 'timestamp') rmSync(`${path}.pem`);
  await t.rejects(keeper.refresh(), { code: 'keys-too-few' });
});

test("a manager's configuration is read with its faults, and its paths are meant from its own folder", async (t) => {
  const dir = folder(t);
  const file = join(dir, 'manager.yaml');
  const mqtt = { url: 'mqtts://127.0.0.1:8883', ca: 'ca.pem', cert: 'own.pem', key: 'own.pem' };
  writeFileSync(file, stringify({ mqtt, repository: { folder: 'repository' }, state: 'state', run: '/run/x' }));
  t.match(loadManagerConfig(file), {
    mqtt: { ca: join(dir, 'ca.pem') },
    repository: { folder: join(dir, 'repository') },
    run: '/run/x',
  });
  writeFileSync(file, stringify({ mqtt: { ...mqtt, url: 'http://x' }, state: 'state', surprise: 1 }));
  t.throws(() => loadManagerConfig(file), { code: 'config-invalid', message: /mqtt\.url[\s\S]*run/ });
});
