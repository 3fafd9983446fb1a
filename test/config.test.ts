import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import { boardJsonSchema, configJsonSchema, loadBoard, loadConfig } from '../src/config/load.js';
import { ConfigError } from '../src/config/yaml-file.js';

const root = resolve(import.meta.dirname, '../..');
const fixtures = join(root, 'test/fixtures/config');
const entryphone = join(root, 'dist/src/bin/entryphone.js');

function faultsOf(name: string): string[] {
  try {
    loadConfig(join(fixtures, name));
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults.map((fault) => fault.path).sort();
    throw error;
  }
}

test('a good configuration is whole, frozen, and its paths are absolute', async (t) => {
  const { config, board } = loadConfig(join(fixtures, 'good.yaml'));
  t.equal(config.opus.bitrateBps, 24_000, 'defaults are there');
  t.equal(config.mqtt.key, join(fixtures, 'indoor.key'));
  t.equal(config.state, join(fixtures, 'state'));
  t.equal(board.gpio.relay?.safe, 'low');
  t.throws(() => Object.assign(config.rtp, { address: '127.0.0.1' }), TypeError, 'nobody changes it');
});

test('every fault is named at once, with its path', async (t) => {
  t.same(faultsOf('many-faults.yaml'), [
    'audio.playback',
    'buttons.gong',
    'door.pulseMs',
    'door.ttlMs',
    'mqtt.url',
    'opus.bitrateBps',
    'opus.colour',
    'rtp.address',
    'rtp.ports.from',
    'station.id',
    'station.name',
  ]);
  t.same(faultsOf('role-without-site-host.yaml'), ['buttons.gong', 'gpio.relay.line', 'siteHost'], 'across both files');
  t.same(
    faultsOf('echo-taken.yaml'),
    ['selftest.dailyAt', 'selftest.everyHours', 'siteHost.stations.door'],
    'the echo is called by its number alone',
  );
  t.throws(() => loadBoard(join(fixtures, 'board-contact-alone.yaml')), { message: /no gpio\.relay/ });
});

for (const [name, expected] of [
  ['not-yaml.yaml', /line \d/],
  ['duplicate-key.yaml', /line 2.*unique/i],
  ['alias-bomb.yaml', /alias/i],
  ['empty.yaml', /station/],
  ['board-missing.yaml', /nowhere\.yaml: can't be read \(ENOENT\)/],
  ['no-such-file.yaml', /can't be read \(ENOENT\)/],
] as const) {
  test(`${name} is refused with what is wrong`, async (t) => {
    t.throws(() => loadConfig(join(fixtures, name)), { code: 'config-invalid', message: expected });
  });
}

test('config check exits 2 for a fault, 0 for none, and its JSON is one object', async (t) => {
  const check = (...names: string[]) =>
    spawnSync(
      process.execPath,
      [entryphone, 'config', 'check', '--json', ...names.map((name) => join(fixtures, name))],
      { encoding: 'utf8' },
    );
  const good = check('good.yaml');
  t.equal(good.status, 0);
  t.same(JSON.parse(good.stdout), { ok: true, failed: [], faults: [], defaults: [] });
  const bad = check('good.yaml', 'many-faults.yaml');
  t.equal(bad.status, 2);
  const said = JSON.parse(bad.stdout);
  t.equal(said.ok, false);
  t.equal(said.faults.length, 11);
});

test('the processes refuse a wrong configuration with exit code 2 before anything starts', async (t) => {
  for (const program of ['media.js', 'station.js']) {
    const run = spawnSync(
      process.execPath,
      [join(root, 'dist/src/bin', program), '--config', join(fixtures, 'many-faults.yaml')],
      {
        encoding: 'utf8',
        timeout: 10_000,
      },
    );
    t.equal(run.status, 2, program);
    t.match(run.stderr, /door\.pulseMs/, `${program} names the faults`);
  }
});

test('the JSON Schemas describe the files', async (t) => {
  t.match(configJsonSchema(), { type: 'object', properties: { rtp: { type: 'object' } } });
  t.match(boardJsonSchema(), { type: 'object', properties: { gpio: { type: 'object' } } });
  t.notOk(
    (configJsonSchema() as { required: string[] }).required.includes('opus'),
    'what has a default is not required',
  );
});

test('the profile that ships is a board', async (t) => {
  t.match(readFileSync(join(root, 'device/virtual-board.yaml'), 'utf8'), /fail-secure/);
});
