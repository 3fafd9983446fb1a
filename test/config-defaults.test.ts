import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { type DiskFile, pointDurably, putDurably, type SlotDisk } from '../src/adapters/slots/slot-disk.js';
import { SlotStore } from '../src/adapters/slots/slot-store.js';
import { countStart } from '../src/adapters/slots/start-count.js';
import { MAY_STAND } from '../src/config/defaults.js';
import { checkDefaults, checkDefaultsAlone, configJsonSchema, loadConfig } from '../src/config/load.js';
import { PowerCut, PowerCutDisk } from '../src/lab/power-cut-disk.js';

const root = resolve(import.meta.dirname, '../..');
const fixtures = join(root, 'test/fixtures/config-defaults');
const entryphone = join(root, 'dist/src/bin/entryphone.js');
const fixture = (name: string) => readFileSync(join(fixtures, name), 'utf8');
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

/** A station's own file, and slots of configuration defaults beside it. */
class Own {
  readonly dir = mkdtempSync(join(tmpdir(), 'entryphone-defaults-'));
  readonly file = join(this.dir, 'station.yaml');
  readonly slots = join(this.dir, 'slots');

  constructor(t: Test, more = '') {
    t.teardown(() => rmSync(this.dir, { recursive: true, force: true }));
    this.write(more);
  }

  write(more: string): void {
    writeFileSync(
      this.file,
      `station: { id: door, name: Front door, site: home }
board: ${join(root, 'device/virtual-board.yaml')}
audio: { capture: default, playback: default }
rtp: { address: 192.0.2.7 }
mqtt: { url: 'mqtts://192.0.2.7:8883', ca: ca.crt, cert: door.crt, key: door.key }
state: state
run: run
${more === '' ? 'update: { slots: slots }' : more}
`,
    );
  }

  /** @returns the folder of the release */
  release(
    text: string | null,
    { slot = 'a', kind = 'config', version = '1.4.0', hash = sha256(text ?? '') } = {},
  ): string {
    const folder = join(this.slots, 'config', slot);
    rmSync(folder, { recursive: true, force: true });
    mkdirSync(folder, { recursive: true });
    if (text !== null) writeFileSync(join(folder, 'defaults.yaml'), text);
    const files = [{ path: 'defaults.yaml', sha256: hash }];
    writeFileSync(join(folder, 'manifest.json'), JSON.stringify({ v: 1, kind, version, files }));
    this.point(slot);
    return folder;
  }

  point(to: string): void {
    rmSync(join(this.slots, 'config/current'), { force: true });
    symlinkSync(to, join(this.slots, 'config/current'));
  }

  /** What is said of the defaults that are left out. */
  leftOut(): string {
    const { config, defaults } = loadConfig(this.file);
    if (config.call.ringTimeoutMs !== 30_000 || defaults?.isApplied !== false) return 'they stand';
    return defaults.faults.map(({ path, text }) => `${path}: ${text}`).join('; ');
  }
}

test("a release's defaults stand over the built-in ones and under the station's own", async (t) => {
  const own = new Own(
    t,
    'update: { slots: slots, maxRateBps: 64000 }\ncall: { talkTimeoutMs: 20000 }\nmedia: { codecs: [opus] }',
  );
  t.equal(loadConfig(own.file).defaults, null, 'no release was installed here');
  own.release(fixture('good.yaml'), { slot: 'b' });
  const { config, defaults } = loadConfig(own.file);
  t.same(defaults, { slot: 'b', version: '1.4.0', isApplied: true, faults: [] });
  t.match(config.opus, { bitrateBps: 16_000, complexity: 5, inbandFec: true }, 'maps are joined');
  t.match(config.call, { ringTimeoutMs: 45_000, talkTimeoutMs: 20_000 });
  t.match(config.update, { maxRateBps: 64_000, quietHours: { from: '01:00', to: '05:00' } });
  t.same(config.media.codecs, ['opus'], 'lists are replaced');
  t.ok(Object.isFrozen(config.update.quietHours));
  own.release('');
  t.match(loadConfig(own.file), { config: { opus: { bitrateBps: 24_000 } }, defaults: { isApplied: true } }, 'none');
});

const REFUSED: readonly [file: string, expected: RegExp][] = [
  ['opens-the-door.yaml', /buttons: may not stand/],
  ['other-broker.yaml', /mqtt: may not stand/],
  ['runs-a-program.yaml', /audio\.capture: may not stand/],
  ['hears-the-microphone.yaml', /taps: may not stand/],
  ['not-encrypted.yaml', /media\.encryption: may not stand/],
  ['no-self-test.yaml', /update\.needsSelfTest: may not stand/],
  ['calls-elsewhere.yaml', /selftest\.echo: may not stand/],
  ['other-trust.yaml', /update\.slots: may not stand[\s\S]*update\.root: may not stand/],
  ['takes-orders.yaml', /fleet: may not stand/],
  ['runs-flows-programs.yaml', /flows\.allowExec: may not stand/],
  ['unknown-key.yaml', /defaults\.yaml: opus\.colour: is not a key/],
  ['out-of-range.yaml', /defaults\.yaml: door\.pulseMs: .*30000/],
  ['list.yaml', /must be a map of sections/],
  ['section-no-map.yaml', /media: must be a map/],
  ['prototype.yaml', /__proto__: may not stand/],
  ['not-yaml.yaml', /line \d/],
  ['alias.yaml', /[Aa]lias/],
  ['binary.yaml', /must be a map of sections/],
  ['tag.yaml', /opus\.dtx: /],
];

test('what may not stand in a release, or is wrong, is refused by its name, and keeps no station from starting', async (t) => {
  const own = new Own(t);
  for (const [name, expected] of REFUSED) {
    const folder = own.release(fixture(name));
    t.throws(() => checkDefaults(folder, own.file), { code: 'config-invalid', message: expected }, name);
    t.throws(
      () => checkDefaultsAlone(folder),
      { code: 'config-invalid', message: expected },
      `${name}, when it is built`,
    );
    t.match(`defaults.yaml: ${own.leftOut()}`, new RegExp(expected.source.replaceAll('defaults\\.yaml: ', '')), name);
  }
  const folder = own.release(fixture('good.yaml'));
  checkDefaults(folder, own.file);
  checkDefaultsAlone(folder);
  own.write('update: { slots: slots }\nselftest: { everyHours: 2 }');
  t.throws(() => checkDefaults(folder, own.file), { message: /everyHours: dailyAt and everyHours exclude/ });
  t.match(own.leftOut(), /exclude each other/, 'what fits the station no more');
  own.write('update: { slots: slots }\ndoor: { pulseMs: 1 }');
  t.throws(
    () => loadConfig(own.file),
    { message: /station\.yaml: door\.pulseMs/ },
    "a fault of the station's own is one",
  );
});

test('whatever stands in the place of defaults, a station starts without them and says why', async (t) => {
  const own = new Own(t);
  const place = (make: (file: string) => void): string => {
    const file = join(own.release(''), 'defaults.yaml');
    unlinkSync(file);
    make(file);
    return own.leftOut();
  };
  t.match(
    place(() => {}),
    /can't be read \(ENOENT\)/,
  );
  t.match(
    place((file) => symlinkSync('/etc/hostname', file)),
    /is a link/,
  );
  t.match(
    place((file) => mkdirSync(file)),
    /is no file/,
  );
  t.match(
    place((file) => spawnSync('mkfifo', [file])),
    /is no file/,
    'nobody waits for a writer',
  );
  t.match(
    place((file) => writeFileSync(file, `# ${'x'.repeat(70_000)}`)),
    /is 70002 bytes; at most 65536/,
  );
  t.match(
    place((file) => writeFileSync(file, fixture('good.yaml'))),
    /is damaged/,
    'another than was signed',
  );
  const nested = `call: ${'['.repeat(60_000)}`;
  own.release(nested);
  t.not(own.leftOut(), 'they stand', 'nested without end');
  own.release('\u0000\u0001binary');
  t.not(own.leftOut(), 'they stand');
  own.release(fixture('good.yaml'), { kind: 'flows' });
  t.match(own.leftOut(), /no whole release/, 'of another kind');
  const folder = own.release(fixture('good.yaml'));
  for (const torn of ['', '{', '[]', '{"kind":"config"}', `"${'x'.repeat(300_000)}"`]) {
    writeFileSync(join(folder, 'manifest.json'), torn);
    t.match(own.leftOut(), /no whole release/, 'a manifest that is torn');
  }
  rmSync(folder, { recursive: true });
  t.match(own.leftOut(), /no whole release/, 'an empty slot');
  cpSync(fixtures, join(own.dir, 'elsewhere'), { recursive: true });
  for (const target of ['../../elsewhere', '/etc', '..', 'c', 'a/']) {
    own.point(target);
    t.equal(loadConfig(own.file).defaults, null, `current leads to ${target}`);
  }
});

test('what may stand in a release is known to the schema, and opens nothing', async (t) => {
  type Schema = { properties?: Record<string, Schema> };
  const at = (path: string) =>
    path.split('.').reduce<Schema | undefined>((of, key) => of?.properties?.[key], configJsonSchema() as Schema);
  for (const path of MAY_STAND) t.ok(at(path), path);
  const never = [
    'station',
    'board',
    'buttons',
    'taps',
    'inference',
    'fleet',
    'mqtt',
    'siteHost',
    'rtp',
    'state',
    'run',
  ];
  const sections = Object.keys((configJsonSchema() as Schema).properties ?? {});
  const may = new Set(MAY_STAND.map((path) => path.split('.', 1)[0]));
  t.same(sections.filter((section) => !may.has(section)).sort(), never.sort(), 'a new section is none of them');
});

test('config check names the release whose defaults stand under a file, or are left out', async (t) => {
  const own = new Own(t);
  const check = (...options: string[]) =>
    spawnSync(process.execPath, [entryphone, 'config', 'check', own.file, ...options], { encoding: 'utf8' });
  own.release(fixture('good.yaml'));
  const good = JSON.parse(check('--json').stdout);
  t.match(good, { ok: true, defaults: [{ file: own.file, version: '1.4.0', isApplied: true }] });
  own.release(fixture('opens-the-door.yaml'));
  const bad = check();
  t.equal(bad.status, 0, 'no fault of the file');
  t.match(bad.stderr, /release 1\.4\.0 are left out/);
  t.match(bad.stderr, /buttons.*may not stand in a release/);
});

/** Slots of which b is on trial, and a is what was before. */
async function onTrial(trying = 'slot=b starts=0\n'): Promise<PowerCutDisk> {
  const disk = new PowerCutDisk();
  for (const slot of ['a', 'b']) {
    await disk.makeFolder(slot);
    await putDurably(disk, `${slot}/manifest.json`, `{"of":"${slot}"}`);
  }
  await disk.link('a', 'previous');
  await disk.link('b', 'current');
  await putDurably(disk, 'trying', trying);
  return disk;
}

const textOf = async (disk: SlotDisk, path: string) => Buffer.from((await disk.read(path)) ?? '').toString();

test('the starts of a trial are counted, and after three it goes back and says why', async (t) => {
  const disk = await onTrial();
  for (const starts of [1, 2, 3]) {
    t.equal(await countStart(disk), null);
    t.equal(await textOf(disk, 'trying'), `slot=b starts=${starts}\n`);
    t.equal(await disk.readLink('current'), 'b');
  }
  t.same(await countStart(disk), { from: 'b', to: 'a', reason: 'not confirmed after 3 starts' });
  t.equal(await disk.readLink('current'), 'a');
  t.equal(await disk.read('trying'), null);
  t.equal(await countStart(disk), null, 'and stays there');
  t.match(await new SlotStore(disk).tidy(), { from: 'b', to: 'a', reason: 'not confirmed after 3 starts' });
});

test('a record that is damaged, a disk that counts nothing and a slot that is gone bring no station into a loop', async (t) => {
  for (const damaged of ['', 'slot=c starts=0\n', 'slot=b starts=12\n', '\u0000'.repeat(40)]) {
    const disk = await onTrial(damaged);
    t.match(await countStart(disk), { to: 'a', reason: /damaged/ });
    t.equal(await disk.readLink('current'), 'a');
  }
  const stale = await onTrial('slot=a starts=3\n');
  t.equal(await countStart(stale), null, 'a trial of a slot that is not current means nothing');
  t.equal(await stale.readLink('current'), 'b');
  t.equal(await countStart(new PowerCutDisk()), null, 'nothing was installed');

  const full = await onTrial();
  full.create = (): Promise<DiskFile> => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC' }));
  t.match(await countStart(full), { to: 'a', reason: /cannot be counted/ });
  t.equal(await full.readLink('current'), 'a');

  for (const spoil of [
    (disk: SlotDisk) => disk.removeFolder('a'),
    (disk: SlotDisk) => disk.unlink('a/manifest.json'),
    async (disk: SlotDisk) => {
      await disk.unlink('previous');
      await disk.removeFolder('a');
    },
    (disk: SlotDisk) => pointDurably(disk, 'previous', 'b'),
  ]) {
    const lone = await onTrial('slot=b starts=3\n');
    await spoil(lone);
    t.match(await countStart(lone), { reason: /not confirmed/ });
    t.equal(await lone.readLink('current'), 'a', 'what is not whole is left out, and a station starts');
  }
});

test('however the power goes, no trial is started a fifth time, nor forgotten', async (t) => {
  let cases = 0;
  for (const starts of [0, 2, 3]) {
    for (let cutAt = 1; ; cutAt++) {
      const disk = await onTrial(`slot=b starts=${starts}\n`);
      disk.calls = 0;
      disk.cutAt = cutAt;
      const isCut = await countStart(disk).then(
        () => false,
        (error) => error instanceof PowerCut,
      );
      for (let changes = 0; changes <= disk.unsyncedChanges; changes++) {
        for (const content of ['lost', 'torn', 'kept'] as const) {
          const left = disk.after({ changes, content });
          for (let start = 0; start < 5; start++) await countStart(left);
          const reason = await textOf(left, 'back');
          t.equal(await left.readLink('current'), 'a', `${starts} starts, cut at ${cutAt}, ${changes}, ${content}`);
          t.match(reason, /^from=b to=a reason=not confirmed after 3 starts\n$/);
          t.equal((await new SlotStore(left).read()).state.trial, null);
          cases += 1;
        }
      }
      if (!isCut) break;
    }
  }
  t.ok(cases > 60, `${cases} cases`);
});
