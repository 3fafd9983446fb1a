import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { stringify } from 'yaml';
import type { CardedModel } from '../src/adapters/onnx/model-folder.js';
import { buildRelease } from '../src/adapters/releases/release-builder.js';
import { ReleaseRepository } from '../src/adapters/releases/release-repository.js';
import { machineDisk } from '../src/adapters/slots/slot-disk.js';
import { loadConfig } from '../src/config/load.js';
import { modelsPlace } from '../src/config/models-place.js';
import type { Config } from '../src/config/schema.js';
import { type Clock, systemClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { isOver, type UpdateJournal } from '../src/fleet/update-journal.js';
import { type Listener, startListener } from '../src/listener/listener.js';
import { INFERENCE_SOCKET } from '../src/protocol/inference-api.js';
import { configTarget } from '../src/station/config-target.js';
import { EdgeCounters } from '../src/station/edge-counters.js';
import { Hearing } from '../src/station/hearing.js';
import { modelsTarget } from '../src/station/models-target.js';
import { UpdatedStation } from '../src/station/updated-station.js';
import { countConfigStart } from '../src/update/config-start.js';
import { folderSource } from '../src/update/folder-source.js';
import type { ReleaseTargets } from '../src/update/step-context.js';
import { type UpdateOrder, Updater } from '../src/update/updater.js';
import { until } from './support/site.js';
import { tinyModel } from './support/tiny-model.js';

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
async function _livesOf(
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

/** A model and its card, as files of a release. */
function filesOf({ card, bytes }: CardedModel, changes: object = {}): Record<string, string | Uint8Array> {
  return { 'two-tone.onnx': bytes, 'two-tone.card.yaml': stringify({ ...card, ...changes }) };
}

test('models are taken up by the inference process alone; those that it refuses are gone back from', async (t) => {
  const place = new Place(t, `inference: { enabled: true, models: models }\n`);
  const models = join(place.dir, 'models');
  mkdirSync(models);
  for (const [path, content] of Object.entries(filesOf(tinyModel()))) writeFileSync(join(models, path), content);
  const { config } = loadConfig(place.file);
  const hearing = await Hearing.serve({
    path: join(place.run, INFERENCE_SOCKET),
    isEnabled: true,
    taps: { open: async () => 1, release: () => {} },
    edge: new EdgeCounters(systemClock),
    ...{ clock: systemClock, logger: silentLogger },
    listener: { changed: () => {}, decided: () => {}, logged: () => {} },
  });
  t.teardown(() => hearing.close());
  let starts = 0;
  let listener: Listener | undefined;
  // Its supervisor starts it as often as it ends.
  const start = async (): Promise<void> => {
    await listener?.close();
    starts += 1;
    const endProcess = () => void start().catch(t.fail);
    listener = await startListener({ config, endProcess, clock: systemClock, logger: silentLogger });
  };
  t.teardown(() => listener?.close());
  await start();
  await until(() => hearing.view.state === 'running');
  const target = modelsTarget({ slots: place.slots, config, hearing, clock: systemClock });
  const install = async (order: UpdateOrder): Promise<UpdateJournal> => {
    const ended = Promise.withResolvers<UpdateJournal>();
    const updater = place.updater({ models: target }, systemClock, (journal) => {
      if (isOver(journal.state)) ended.resolve(journal);
    });
    await updater.order(order);
    return ended.promise;
  };
  const served = () => hearing.view.models.map(({ name, version }) => `${name} ${version}`);
  t.same(served(), ['two-tone 1.0.0'], "the configuration's own");

  // What the runtime alone finds: the tensors are of another shape than the card says.
  const wrong = await place.order('models', '1.1.0', filesOf(tinyModel(), { version: '1.1.0', frames: 10 }));
  const failed = await install(wrong);
  t.match(failed, { state: 'failed', reason: /^inference refuses two-tone\.onnx: .*not float32 \[1, 10, 40\]/ });
  t.same(served(), ['two-tone 1.0.0'], 'those before are back');
  t.equal(place.current('models'), 'a');

  const good = await place.order('models', '1.2.0', filesOf(tinyModel({ version: '1.2.0' })));
  t.match(await install(good), { state: 'succeeded', reason: null });
  t.same(served(), ['two-tone 1.2.0']);
  t.equal(hearing.modelsSlot, 'b');

  const startsBefore = starts;
  const tiny = tinyModel();
  for (const [version, files, reason] of [
    ['1.3.0', filesOf({ ...tiny, bytes: tiny.bytes.subarray(0, 100) }), /cut off: 100 of \d+ bytes/],
    ['1.4.0', { 'README.md': 'none' }, /no model/],
    ['1.5.0', { ...filesOf(tiny), 'two-tone.card.yaml': 'name: [' }, /two-tone\.card\.yaml: .*no YAML/],
  ] as const) {
    t.match(await install(await place.order('models', version, files)), { state: 'failed', reason });
  }
  t.same(served(), ['two-tone 1.2.0']);
  t.equal(starts, startsBefore, 'what its reader can find costs no restart');
});

test('models of hundreds of megabytes are found in their slot: a manifest of as many chunks is read', async (t) => {
  const place = new Place(t);
  const slot = join(place.slots, 'models/a');
  mkdirSync(slot, { recursive: true });
  symlinkSync('a', join(place.slots, 'models/current'));
  const chunk = { id: '0'.repeat(64), sizeBytes: 65_536, storedBytes: 65_536 };
  const files = [{ path: 'large.card.yaml', mode: '644', sizeBytes: 1, sha256: '0'.repeat(64) }];
  const chunks = Array.from({ length: 8_192 }, () => chunk);
  writeFileSync(join(slot, 'manifest.json'), JSON.stringify({ v: 1, kind: 'models', version: '1.0.0', files, chunks }));
  t.match(modelsPlace(loadConfig(place.file).config), { folder: slot, slot: 'a', cards: 1 });
});

test('where inference is off models are looked through and wait for it', async (t) => {
  const place = new Place(t);
  const { config } = loadConfig(place.file);
  const hearing = { view: { state: 'absent' }, modelsSlot: undefined, restart: () => t.fail('nobody is there') };
  const target = modelsTarget({ slots: place.slots, config, hearing: hearing as never, clock: hastyClock() });
  const ended = Promise.withResolvers<UpdateJournal>();
  const updater = place.updater({ models: target }, hastyClock(), (journal) => {
    if (isOver(journal.state)) ended.resolve(journal);
  });
  await updater.order(await place.order('models', '1.0.0', filesOf(tinyModel())));
  t.match(await ended.promise, { state: 'succeeded' });
  t.equal(place.current('models'), 'b');
});

test('inference that is not there ends a job about its models, and keeps no other waiting', async (t) => {
  const place = new Place(t, 'inference: { enabled: true }\n');
  const { config } = loadConfig(place.file);
  const absent = () => {
    throw new AppError('service-absent', 'this station has no inference process');
  };
  const hearing = { view: { state: 'absent' }, modelsSlot: undefined, restart: absent };
  const target = modelsTarget({ slots: place.slots, config, hearing: hearing as never, clock: hastyClock() });
  const ended = Promise.withResolvers<UpdateJournal>();
  const updater = place.updater({ models: target }, hastyClock(), (journal) => {
    if (isOver(journal.state)) ended.resolve(journal);
  });
  t.teardown(() => updater.close());
  await updater.order(await place.order('models', '1.0.0', filesOf(tinyModel())));
  t.match(await ended.promise, { state: 'failed', reason: /^inference did not become ready \(it is absent\)$/ });
  t.equal(place.current('models'), 'a', 'whoever starts next has those before');
});
