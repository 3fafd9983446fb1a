import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { buildRelease } from '../src/adapters/releases/release-builder.js';
import { ReleaseRepository } from '../src/adapters/releases/release-repository.js';
import { machineDisk } from '../src/adapters/slots/slot-disk.js';
import { nodeProgram } from '../src/adapters/supervisor/node-program.js';
import { loadConfig } from '../src/config/load.js';
import type { Config } from '../src/config/schema.js';
import type { Clock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { isOver, type UpdateJournal } from '../src/fleet/update-journal.js';
import { configTarget } from '../src/station/config-target.js';
import { UpdatedStation } from '../src/station/updated-station.js';
import { countConfigStart } from '../src/update/config-start.js';
import { folderSource } from '../src/update/folder-source.js';
import type { ReleaseTargets } from '../src/update/step-context.js';
import { type UpdateOrder, Updater } from '../src/update/updater.js';

const root = resolve(import.meta.dirname, '../..');
const OTHER = { untaken: 'not here' };
const STATION = { facts: { architecture: 'x64', board: 'virtual-board', nodeAbi: 137, firmware: '1.4.0' } } as const;

/** Time passes as soon as somebody waits for it. */
function hastyClock(): Clock {
  let nowMs = 0;
  return {
    nowMs: () => nowMs,
    wallMs: () => 1_700_000_000_000 + nowMs,
    after: (delayMs, action) => {
      const timer = setImmediate(() => {
        nowMs += delayMs;
        action();
      });
      return { cancel: () => clearImmediate(timer) };
    },
  };
}

/** A station's own file, its slots, and a repository. */
class Place {
  readonly dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'entryphone-parts-'));
  readonly file = join(this.dir, 'station.yaml');
  readonly slots = join(this.dir, 'slots');
  readonly run = join(this.dir, 'run');
  readonly repository = new ReleaseRepository(join(this.dir, 'repository'));
  #jobs = 0;

  constructor(t: Test, more = '') {
    t.teardown(() => rmSync(this.dir, { recursive: true, force: true }));
    for (const folder of [this.slots, this.run]) mkdirSync(folder);
    const text = `station: { id: door, name: Front door, site: home }
board: ${join(root, 'device/virtual-board.yaml')}
audio: { capture: default, playback: default }
rtp: { address: 192.0.2.7 }
mqtt: { url: 'mqtts://192.0.2.7:8883', ca: ca.crt, cert: door.crt, key: door.key }
update: { slots: slots, needsSelfTest: false }
state: state
run: run
${more}`;
    writeFileSync(this.file, text);
  }

  async order(
    kind: 'config' | 'models',
    version: string,
    files: Readonly<Record<string, string | Uint8Array>>,
  ): Promise<UpdateOrder> {
    const tree = Object.entries(files).map(([path, content]) => {
      return { path, mode: 0o644, content: { bytes: Buffer.from(content as Uint8Array) } } as const;
    });
    const { file } = await buildRelease(
      { kind, version, architecture: 'any', requires: { boards: [] } },
      tree,
      this.repository,
    );
    const jobId = `job-${(this.#jobs++).toString().padStart(4, '0')}`;
    return { jobId, manifestText: readFileSync(file), origin: 'folder', deadlineMs: null, mayRetry: false };
  }

  updater(targets: Partial<ReleaseTargets>, clock: Clock, told: (journal: UpdateJournal) => void): Updater {
    const station = { ...STATION, noise: () => null, untilQuiet: async () => {} };
    return new Updater({
      ...{ disk: machineDisk(this.slots), station, clock, logger: silentLogger, told },
      targets: { firmware: OTHER, flows: OTHER, config: OTHER, models: OTHER, ...targets },
      source: () => folderSource(this.repository.folder),
    });
  }

  current(kind: string): string | null {
    const link = join(this.slots, kind, 'current');
    return existsSync(link) ? readlinkSync(link) : null;
  }
}

/**
 * A station as far as configuration defaults change it: each life loads them anew, as its processes do.
 * @param order null: it goes on with what was begun
 * @param comesUp whether it does with this configuration; `media-down`: without its media process
 */
async function livesOf(
  place: Place,
  order: UpdateOrder | null,
  comesUp: (config: Config) => boolean | 'media-down',
): Promise<{ journal: UpdateJournal; lives: number; steps: string[] }> {
  const clock = hastyClock();
  const steps: string[] = [];
  let next = order;
  for (let lives = 1; lives < 12; lives++) {
    await countConfigStart(place.file, { notify: { restart: () => {} }, logger: silentLogger });
    const { config, board, file, defaults } = loadConfig(place.file);
    const isUp = comesUp(config);
    if (isUp === false) continue;
    const ended = Promise.withResolvers<UpdateJournal | null>();
    const station = new UpdatedStation({
      ...{ config, board, firmware: '1.4.0', clock, logger: silentLogger, noise: () => null },
      ...{
        lacks: async () => (isUp === true ? null : { text: 'media does not run', withinMs: 45_000 }),
        isOnBroker: () => true,
      },
      selfTest: () => Promise.reject(new Error('nobody asks for it')),
      notify: { restart: (what) => what === 'everything' && ended.resolve(null) },
    });
    const target = configTarget(station, { slots: place.slots, file, defaults, clock });
    const updater = place.updater({ config: target }, clock, (journal) => {
      if (journal.at !== null && steps.at(-1) !== journal.at.do) steps.push(journal.at.do);
      if (isOver(journal.state) && (order === null || journal.jobId === order.jobId)) ended.resolve(journal);
    });
    await updater.resume();
    if (next !== null) await updater.order(next);
    next = null;
    const journal = await ended.promise;
    updater.close();
    if (journal !== null) return { journal, lives, steps };
  }
  throw new Error('it comes to no end');
}

test('configuration defaults are installed, read by the next start, and stay', async (t) => {
  const place = new Place(t);
  const first = await place.order('config', '1.0.0', { 'defaults.yaml': 'opus: { bitrateBps: 16000 }' });
  const { journal, lives, steps } = await livesOf(place, first, () => true);
  t.match(journal, { state: 'succeeded', reason: null });
  t.equal(lives, 2, 'one restart');
  t.same(steps.slice(0, 1), ['seed']);
  t.ok(steps.indexOf('check-content') < steps.indexOf('wait-for-quiet'), 'looked through before anybody is disturbed');
  t.match(loadConfig(place.file), { config: { opus: { bitrateBps: 16_000 } }, defaults: { version: '1.0.0' } });

  const second = await place.order('config', '1.1.0', { 'defaults.yaml': 'opus: { bitrateBps: 20000 }' });
  t.match(await livesOf(place, second, () => true), { journal: { state: 'succeeded' }, lives: 2 });
  t.match(loadConfig(place.file), { config: { opus: { bitrateBps: 20_000 } }, defaults: { version: '1.1.0' } });
  const older = await place.order('config', '1.0.5', { 'defaults.yaml': 'opus: { bitrateBps: 6000 }' });
  t.match(await livesOf(place, older, () => true), {
    journal: { state: 'rejected', reason: /older than 1\.1\.0/ },
    lives: 1,
  });
});

test('defaults that may not be, or do not fit this station, are refused before anything is switched', async (t) => {
  const place = new Place(t, 'selftest: { everyHours: 2 }\n');
  for (const [name, text, reason] of [
    ['opens the door', 'buttons: { bell: { do: open-door } }', /its defaults are refused: buttons: may not stand/],
    ['unknown', 'opus: { colour: blue }', /opus\.colour: is not a key/],
    ['does not fit', "selftest: { dailyAt: '04:00' }", /everyHours: dailyAt and everyHours exclude/],
  ] as const) {
    const order = await place.order('config', '1.0.0', { 'defaults.yaml': text });
    const { journal, lives, steps } = await livesOf(place, order, () => true);
    t.match(journal, { state: 'failed', reason }, name);
    t.same([lives, steps.includes('switch'), place.current('config')], [1, false, 'a'], 'nothing was restarted');
    rmSync(place.repository.folder, { recursive: true });
    t.match(loadConfig(place.file), { defaults: { version: '0.0.0', isApplied: true } });
  }
  const none = await place.order('config', '1.0.1', { 'other.yaml': '' });
  t.match(await livesOf(place, none, () => true), { journal: { state: 'failed', reason: /ENOENT/ } });
});

test('defaults that are in order and bring no station up are gone back from, and say what happened', async (t) => {
  const place = new Place(t);
  const good = await place.order('config', '1.0.0', { 'defaults.yaml': 'opus: { complexity: 5 }' });
  await livesOf(place, good, () => true);
  const mute = await place.order('config', '1.1.0', { 'defaults.yaml': 'opus: { complexity: 1 }' });
  const muted = await livesOf(place, mute, ({ opus }) => (opus.complexity === 1 ? 'media-down' : true));
  t.match(muted, { journal: { state: 'failed', reason: 'not all processes became ready' }, lives: 3 });
  t.match(loadConfig(place.file), { config: { opus: { complexity: 5 } }, defaults: { version: '1.0.0' } });

  const dead = await place.order('config', '1.2.0', { 'defaults.yaml': 'opus: { complexity: 2 }' });
  const died = await livesOf(place, dead, ({ opus }) => opus.complexity !== 2);
  t.match(died, { journal: { state: 'failed', reason: 'not confirmed after 3 starts' }, lives: 5 });
  t.match(loadConfig(place.file), { config: { opus: { complexity: 5 } }, defaults: { version: '1.0.0' } });
  t.match(await livesOf(place, { ...dead, jobId: 'job-again' }, () => true), {
    journal: { state: 'rejected', reason: /failed here before/ },
  });

  // On the disk they were whole when they were looked through, and are not when they are read.
  const torn = await place.order('config', '1.3.0', { 'defaults.yaml': 'opus: { complexity: 3 }' });
  let starts = 0;
  const left = await livesOf(place, torn, () => {
    if (++starts === 1) return true;
    const slot = place.current('config');
    if (loadConfig(place.file).defaults?.version === '1.3.0') {
      writeFileSync(join(place.slots, 'config', slot ?? '', 'defaults.yaml'), 'opus: {');
    }
    return true;
  });
  t.match(left.journal, { state: 'succeeded' }, 'read before');
  t.match(
    loadConfig(place.file),
    { config: { opus: { complexity: 9 } }, defaults: { isApplied: false } },
    'and left out then',
  );
});

test('the station itself counts its starts while defaults are on trial, and comes back to those before', async (t) => {
  // Of its own accord it does not come up: it has no certificates.
  const place = new Place(t, 'flows: { enabled: false }\n');
  const order = await place.order('config', '1.0.0', { 'defaults.yaml': 'opus: { complexity: 2 }' });
  let isTried = false;
  await t.rejects(
    livesOf(place, order, ({ opus }) => {
      isTried ||= opus.complexity === 2;
      if (isTried) throw new Error('the rest by real processes');
      return true;
    }),
    { message: 'the rest by real processes' },
  );
  const start = () => {
    const program = nodeProgram(join(root, 'dist/src/bin/station.js'));
    const [node = '', ...args] = [...program, '--config', place.file];
    const { status, stderr } = spawnSync(node, args, { encoding: 'utf8', timeout: 20_000 });
    t.equal(status, 1, 'it does not come up');
    return stderr;
  };
  const trying = () => readFileSync(join(place.slots, 'config/trying'), 'utf8');
  t.equal(trying(), 'slot=b starts=1\n');
  writeFileSync(join(place.slots, 'config/trying'), 'slot=b starts=2\n');
  t.match(start(), /configuration defaults of a release/);
  t.equal(trying(), 'slot=b starts=3\n');
  t.match(start(), /went back to the configuration defaults before/);
  t.equal(place.current('config'), 'a');
  t.match(await livesOf(place, null, () => true), {
    journal: { state: 'failed', reason: 'not confirmed after 3 starts' },
    lives: 1,
  });
});

test('defaults that bring no station up are left also where those before are damaged: its own file brings it up', async (t) => {
  for (const manifest of ['{ "torn', '']) {
    const place = new Place(t);
    await livesOf(
      place,
      await place.order('config', '1.0.0', { 'defaults.yaml': 'opus: { complexity: 5 }' }),
      () => true,
    );
    const dead = await place.order('config', '1.1.0', { 'defaults.yaml': 'opus: { complexity: 1 }' });
    const { journal, lives } = await livesOf(place, dead, ({ opus }) => {
      if (opus.complexity === 1) writeFileSync(join(place.slots, 'config/b/manifest.json'), manifest);
      return opus.complexity !== 1;
    });
    t.match(journal, { state: 'failed', reason: 'not confirmed after 3 starts' });
    t.ok(lives <= 6, `it was not restarted again and again: ${lives} lives`);
    t.equal(loadConfig(place.file).config.opus.complexity, 9);
    const next = await place.order('config', '1.2.0', { 'defaults.yaml': 'opus: { complexity: 3 }' });
    t.match(await livesOf(place, next, () => true), { journal: { state: 'succeeded' } }, 'and the next is taken');
    t.match(loadConfig(place.file), { config: { opus: { complexity: 3 } }, defaults: { version: '1.2.0' } });
  }
});
