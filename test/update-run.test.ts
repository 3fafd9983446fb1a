import { execFileSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Test, test } from 'tap';
import { machineDisk } from '../src/adapters/slots/slot-disk.js';
import type { SlotsOnDisk } from '../src/adapters/slots/slot-store.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { type Chunk, chunkFile } from '../src/fleet/manifest.js';
import { newJob, type UpdateJournal } from '../src/fleet/update-journal.js';
import { diskBeforeParts, KindMachine, partRelease } from '../src/lab/kind-machine.js';
import { LabLauncher } from '../src/lab/lab-launcher.js';
import { PowerCutDisk } from '../src/lab/power-cut-disk.js';
import { type Behaviour, diskWithOldRelease, labReleases, UpdateMachine } from '../src/lab/update-machine.js';
import { folderSource, repositoryOf } from '../src/update/folder-source.js';
import { JobFile } from '../src/update/job-file.js';
import type { UpdateStation } from '../src/update/step-context.js';
import { Updater } from '../src/update/updater.js';
import { until } from './support/site.js';

function folder(t: Test): string {
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'entryphone-update-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function machineOf(t: Test, behaviour: Behaviour) {
  const dir = folder(t);
  const releases = await labReleases(join(dir, 'repository'));
  const launcher = new LabLauncher(dir);
  const machine = new UpdateMachine({ releases, behaviour, disk: await diskWithOldRelease(releases), launcher });
  return { dir, releases, launcher, machine };
}

const STATION: UpdateStation = {
  facts: { architecture: 'x64', board: 'virtual-board', nodeAbi: 137, firmware: '1.0.0' },
  untilQuiet: async () => {},
  noise: () => null,
};
const untaken = { untaken: 'nothing here takes them' };
const NO_OTHERS = { flows: untaken, config: untaken, models: untaken };
const LONG_WAY = [
  ...['check-space', 'fetch', 'verify', 'clear', 'unpack', 'sync', 'seal', 'wait-for-quiet', 'switch', 'restart'],
  ...['confirm', 'raise-floor', 'clean'],
];

test('a good release is installed, started by the launcher, proves itself and stays', async (t) => {
  const { machine } = await machineOf(t, 'good');
  const { state, reason } = await machine.update();
  t.same({ state, reason }, { state: 'succeeded', reason: null });
  t.same(machine.job.steps, LONG_WAY);
  t.same(await machine.runs(), { version: '1.1.0', floor: '1.1.0', failedThere: null });
  await machine.start();
  t.same(machine.starts.at(-1), { slot: 'b', isWhole: true }, 'and it is started the next time, too');
});

test('a release that does not prove itself is left again, and is not tried again', async (t) => {
  const { machine } = await machineOf(t, 'mute');
  const { state, reason } = await machine.update();
  t.same({ state, reason }, { state: 'failed', reason: 'the self-test heard nothing' });
  t.same(await machine.runs(), { version: '1.0.0', floor: '1.0.0', failedThere: reason });
  await machine.disk.unlink('job.json');
  const again = await machine.update();
  t.same(again.state, 'rejected');
  t.match(again.reason, /failed here before: the self-test heard nothing/);
});

test('a release whose station ends is gone back from by the launcher, which says so', async (t) => {
  const { machine } = await machineOf(t, 'crashing');
  const { state, reason } = await machine.update();
  t.same({ state, reason }, { state: 'failed', reason: 'not confirmed after 3 starts' });
  t.same(machine.starts.map(({ slot }) => slot).slice(0, 4), ['b', 'b', 'b', 'a']);
  t.same(await machine.runs(), { version: '1.0.0', floor: '1.0.0', failedThere: reason });
});

test('a job that is cancelled in a step leaves the old release running, until it is confirmed', async (t) => {
  const { releases, launcher } = await machineOf(t, 'good');
  for (const cancelled of LONG_WAY) {
    const machine = new UpdateMachine({
      releases,
      behaviour: 'good',
      disk: await diskWithOldRelease(releases),
      launcher,
    });
    let isTaken: Promise<boolean> | undefined;
    const { state } = await machine.update((run, step) => {
      if (step === cancelled) isTaken ??= run.cancel('by the manager');
    });
    const isLate = ['raise-floor', 'clean'].includes(cancelled);
    t.equal(await isTaken, !isLate, cancelled);
    t.equal(state, isLate ? 'succeeded' : 'canceled', cancelled);
    t.equal((await machine.runs()).version, isLate ? '1.1.0' : '1.0.0', cancelled);
  }
});

test('flows, configuration, models: what ran before is the first slot; the process is killed at each call of the disk', {
  timeout: 60_000,
}, async (t) => {
  const repository = join(folder(t), 'repository');
  const way = LONG_WAY.toSpliced(7, 0, 'check-content').toSpliced(0, 0, 'seed');
  const besideACall = way.filter((step) => step !== 'wait-for-quiet');
  const ways = { flows: besideACall, config: way, models: besideACall };
  const back = ['switch-back', 'restart', 'await-ready', 'clean'];
  for (const kind of ['flows', 'config', 'models'] as const) {
    const release = await partRelease(repository, kind);
    for (const behaviour of ['good', 'mute', 'refused'] as const) {
      const begin = await diskBeforeParts();
      const machineOn = (disk: PowerCutDisk) =>
        new KindMachine({ release, behaviour, disk: disk.after({ changes: disk.unsyncedChanges, content: 'kept' }) });
      const machine = machineOn(begin);
      t.equal(await machine.fault(await machine.update()), null, `${behaviour} ${kind}`);
      const expected = {
        good: ways[kind],
        mute: [...ways[kind].slice(0, -2), ...back],
        refused: [...ways[kind].slice(0, ways[kind].indexOf('check-content') + 1), 'clean'],
      };
      t.same(machine.job.steps, expected[behaviour], `${behaviour} ${kind}`);
      // One of each step stands for all here; `lab powercut` does all, and loses what was not synced.
      if (`${behaviour} ${kind}` !== 'good flows' && `${behaviour} ${kind}` !== 'mute config') continue;
      const cutIn = new Set<string>();
      for (let [cutAt, isCut] = [1, true]; isCut; cutAt++) {
        const cut = machineOn(begin);
        cut.disk.cutAt = cutAt;
        isCut = await cut.update().then(
          () => false,
          () => true,
        );
        if (!isCut) break;
        const step = cut.job.steps.at(-1) ?? 'before the first';
        cutIn.add(step);
        const again = machineOn(cut.disk);
        const fault = await again.update().then((journal) => again.fault(journal), String);
        if (fault !== null) t.fail(`${behaviour} ${kind}, killed at call ${cutAt} in ${step}: ${fault}`);
      }
      t.same(
        [...cutIn],
        [...new Set(['before the first', ...machine.job.steps])],
        `${behaviour} ${kind}: in each step`,
      );
    }
  }
});

test('a full disk, a chunk that is damaged for good', async (t) => {
  const full = await machineOf(t, 'good');
  await full.machine.disk.removeFolder('b');
  full.machine.disk.freeBytesLeft = 50_000;
  const failed = await full.machine.update();
  t.equal(failed.state, 'failed');
  t.match(failed.reason, /MB more on the disk/);
  t.equal((await full.machine.runs()).version, '1.0.0');

  // Others fill it in the middle: what was written has to go, or not even the end could be written down.
  for (const step of ['fetch', 'unpack']) {
    const filling = await machineOf(t, 'good');
    const ended = await filling.machine.update((_run, begun) => {
      if (begun === step) filling.machine.disk.freeBytesLeft = 4_000;
    });
    t.match(ended, { state: 'failed', reason: 'the disk is full' }, step);
    t.equal((await filling.machine.runs()).version, '1.0.0');
  }

  const damaged = await machineOf(t, 'good');
  const { old, next, repository } = damaged.releases;
  const known = new Set(old.manifest.chunks.map(({ id }) => id));
  const lacking = next.manifest.chunks.find(({ id }) => !known.has(id));
  if (lacking === undefined) throw new Error('the releases are the same');
  const file = join(repository.folder, chunkFile(lacking.id));
  const bytes = readFileSync(file);
  bytes.fill(0, 10, 20);
  writeFileSync(file, bytes);
  const refused = await damaged.machine.update();
  t.equal(refused.state, 'failed');
  t.match(refused.reason, /is not what its name says/);
  t.equal((await damaged.machine.runs()).version, '1.0.0');
});

test('what the running release has is not fetched, unless it is damaged there', async (t) => {
  const { releases, dir } = await machineOf(t, 'good');
  const known = new Set(releases.old.manifest.chunks.map(({ id }) => id));
  const fetched = async (damage: (root: string) => void) => {
    const root = join(dir, `slots-${Math.random()}`);
    const begin = await diskWithOldRelease(releases);
    const disk = machineDisk(root);
    await disk.makeFolder('.');
    for (const [path, entry] of begin.entries()) {
      if (entry.is === 'folder') await disk.makeFolder(path);
      else if (entry.is === 'link') await disk.link(entry.target, path);
      else {
        const made = await disk.create(path, entry.mode);
        await made.append(entry.bytes);
        await made.close();
      }
    }
    damage(root);
    const asked: string[] = [];
    const bring = folderSource(releases.repository.folder);
    const ended = Promise.withResolvers<UpdateJournal>();
    const updater = new Updater({
      disk,
      station: STATION,
      targets: {
        firmware: {
          ...{ prove: async () => null, check: async () => null, hasKept: async () => false, seed: async () => [] },
          ...{ isReady: async () => true, restart: async () => {}, settle: async () => {} },
          running: async ({ current }) => current,
        },
        ...NO_OTHERS,
      },
      source: () => async (chunk, signal) => {
        asked.push(chunk.id);
        return bring(chunk, signal);
      },
      ...{ clock: systemClock, logger: silentLogger },
      told: (journal) => journal.state === 'succeeded' && ended.resolve(journal),
    });
    const order = {
      jobId: 'job-0002',
      manifestText: releases.next.text,
      origin: 'x',
      deadlineMs: null,
      mayRetry: false,
    };
    await updater.order(order);
    await t.rejects(updater.order({ ...order, jobId: 'job-0003' }), { code: 'update-busy' }, 'one job at a time');
    await ended.promise;
    updater.close();
    return asked;
  };
  const asked = await fetched(() => {});
  t.ok(asked.length > 0 && asked.every((id) => !known.has(id)), `${asked.length} chunks, none of them known`);
  const more = await fetched((root) => {
    const file = join(root, 'a/dist/src/bin/media.js');
    writeFileSync(file, readFileSync(file).fill(0, 20_000, 20_100));
  });
  t.ok(more.length > asked.length, `${more.length} with what was damaged`);
  t.ok(more.some((id) => known.has(id)));
});

test('what can not be tidied of one kind keeps no job of another from going on, and is tried again', async (t) => {
  const { releases } = await machineOf(t, 'good');
  const { manifest, text } = releases.next;
  const disk = await diskWithOldRelease(releases);
  const journal = newJob({ jobId: 'job-0005', ...manifest });
  const origin = releases.repository.folder;
  await new JobFile(disk).begin({
    ...{ journal, manifest, manifestText: text, origin, deadlineMs: null, mayRetry: false },
  });
  const clock = new ManualClock();
  const ended = Promise.withResolvers<UpdateJournal>();
  let [readsFail, settles, isOver] = [1, 0, false];
  const read = disk.read.bind(disk);
  disk.read = async (path) => {
    if (path === 'job.json' && readsFail-- > 0) throw Object.assign(new Error('input/output'), { code: 'EIO' });
    return read(path);
  };
  const good = {
    ...{ prove: async () => null, check: async () => null, hasKept: async () => false, seed: async () => [] },
    ...{ isReady: async () => true, restart: async () => {}, settle: async () => {} },
    running: async ({ current }: SlotsOnDisk) => current,
  };
  const settle = async () => {
    if (++settles === 1) throw Object.assign(new Error('full'), { code: 'ENOSPC' });
  };
  const updater = new Updater({
    ...{ disk, station: STATION, source: folderSource, clock, logger: silentLogger },
    targets: { ...NO_OTHERS, firmware: good, flows: { ...good, settle } },
    told: (now) => now.state === 'succeeded' && ended.resolve(now),
  });
  t.teardown(() => updater.close());
  await t.rejects(updater.resume(), { code: 'EIO' });
  await until(() => {
    clock.advance(1_000);
    return settles === 1;
  });
  const order = { jobId: 'job-0006', manifestText: text, origin, deadlineMs: null, mayRetry: false };
  await t.rejects(updater.order(order), { code: 'update-busy' }, 'what was begun comes first');
  ended.promise.then(() => {
    isOver = true;
  });
  await until(() => {
    clock.advance(1_000);
    return isOver && settles > 1;
  });
  t.match(updater.journal, { jobId: 'job-0005', state: 'succeeded' });
});

test('a manifest that is cut off, of another kind, or not where a repository has it', async (t) => {
  const { releases } = await machineOf(t, 'good');
  const updater = new Updater({
    disk: new PowerCutDisk(),
    station: STATION,
    targets: { firmware: {} as never, ...NO_OTHERS },
    source: () => async () => new Uint8Array(0),
    ...{ clock: systemClock, logger: silentLogger, told: () => {} },
  });
  const text = releases.next.text;
  const order = { jobId: 'job-0004', origin: 'x', deadlineMs: null, mayRetry: false };
  const cutOff = text.subarray(0, text.length / 2);
  await t.rejects(updater.order({ ...order, manifestText: cutOff }), { code: 'manifest-invalid' });
  const flows = Buffer.from(Buffer.from(text).toString().replace('"firmware"', '"flows"'));
  await t.rejects(updater.order({ ...order, manifestText: flows }), {
    code: 'kind-untaken',
    message: /nothing here takes them/,
  });
  t.throws(() => repositoryOf('/stick/elsewhere', releases.next.manifest), { code: 'usage' });
  t.equal(repositoryOf('/stick/releases/1.1.0/x64', releases.next.manifest), '/stick');
});

test('a stick whose chunks are links, devices, pipes or files without end costs the job, and nothing else', async (t) => {
  const dir = folder(t);
  const bring = folderSource(dir);
  const content = Buffer.from('as it is stored');
  const put = (n: number): { chunk: Chunk; file: string } => {
    const id = n.toString(16).padStart(64, '0');
    const file = join(dir, chunkFile(id));
    mkdirSync(dirname(file), { recursive: true });
    return { chunk: { id, sizeBytes: 40, storedBytes: content.length }, file };
  };
  const none = new AbortController().signal;
  const [whole, long, link, pipe, absent] = [put(1), put(2), put(3), put(4), put(5)];
  writeFileSync(whole.file, content);
  t.same(Buffer.from(await bring(whole.chunk, none)), content);
  writeFileSync(long.file, '');
  truncateSync(long.file, 1e12);
  await t.rejects(bring(long.chunk, none), { code: 'chunk-wrong' });
  symlinkSync('/dev/zero', link.file);
  await t.rejects(bring(link.chunk, none), { code: 'chunk-absent', message: /ELOOP/ });
  execFileSync('mkfifo', [pipe.file]);
  await t.rejects(bring(pipe.chunk, none), { code: 'chunk-wrong' });
  await t.rejects(bring(absent.chunk, none), { code: 'chunk-absent' });
});
