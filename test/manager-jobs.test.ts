import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'tap';
import type { Publication } from '../src/adapters/mqtt/mqtt-link.js';
import { FleetStore } from '../src/adapters/sqlite/fleet-store.js';
import { jobsTable } from '../src/bin/commands/fleet-tables.js';
import { ManualClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { silentLogger } from '../src/core/logger.js';
import { FIRMWARE, manifest } from '../src/lab/trust-bench.js';
import { Jobs } from '../src/manager/jobs.js';
import type { JobView } from '../src/protocol/manager-api.js';
import { bench, client, fleet, folder, repositoryIn, StationDouble } from './support/manager-bench.js';
import { until } from './support/site.js';

test('an update is kept for a station until it is over, told as it goes, called off, and outlives the manager', async (t) => {
  const { dir, site, start, running, view, job } = await bench(t);
  const door = await StationDouble.start(site, 'door', []);
  const attic = await StationDouble.start(site, 'attic', []);
  await until(() => view('door') !== undefined && view('attic') !== undefined);
  const ask = await client(t, dir);
  const wanted = {
    ...{ stations: ['door'], version: '1.2.0', deadlineMs: null, isUrgent: false, mayRetry: false },
    kind: 'firmware' as const,
    ...{ baseUrl: null, by: 'ana' },
  };
  const update = (...more: string[]) => fleet(dir, 'update', 'door', '--release', '1.2.0', ...more);

  await t.rejects(ask.call('fleet.update', { ...wanted, version: '9.9.9' }), {
    ...{ code: 'release-unknown', message: /no firmware 9\.9\.9 for arm64/ },
  });
  await t.rejects(ask.call('fleet.update', { ...wanted, version: 'latest' }), { code: 'bad-params' });
  t.same(door.jobs, [], 'nothing was ordered');

  door.onJob = async (told) => {
    if (told.do !== 'desired' || told.deadlineAt === undefined) return;
    await door.tell(told, 1, 'in_progress', { step: 'download', progress: 10 });
    await attic.tell(told, 99, 'succeeded');
    await door.tell(told, 2, 'in_progress', { step: 'download', progress: 90 });
    await door.tell(told, 1, 'failed');
    await door.tell(told, 3, 'in_progress', { step: 'restart' });
    await door.tell(told, 4, 'succeeded', { step: 'confirm', progress: 100 });
  };
  const good = await update('--watch', '--json', '--deadline', '1h', '--urgent');
  t.equal(good.code, 0);
  const [first] = JSON.parse(good.out).jobs as JobView[];
  t.match(first, { version: '1.2.0', target: 'releases/1.2.0/arm64/manifest.json', isUrgent: true, isOver: true });
  t.match(
    first?.history.map(({ state, step }) => `${state} ${step}`),
    ['in_progress download', 'in_progress restart', 'succeeded confirm'],
    'progress is no history; others and old reports are not believed',
  );
  t.match(good.err, /in_progress, download 10 %[\s\S]*succeeded/, 'as it goes');
  t.equal(running.manager.refused.get('stale-job-report'), 2);
  t.match(door.jobs[0], { do: 'desired', rev: 1, isUrgent: true, station: 'door', target: first?.target });
  const desired = () => view('door')?.desired;
  t.same(desired(), [{ kind: 'firmware', rev: 1, target: first?.target }]);
  await until(() => door.jobs.length > 1);
  t.match(door.jobs[1], { id: first?.jobId, rev: 1, deadlineAt: undefined }, 'it has no end now');
  const { length: told } = door.jobs;
  await door.online(true);
  await until(() => door.jobs.length > told);
  t.match(door.jobs.at(-1), { id: first?.jobId }, 'it stays, for a board that comes in the place of this one');

  door.onJob = (told) => void door.tell(told, 1, 'failed', { step: 'rollback', reason: 'media did not start' });
  const bad = await update('--watch');
  t.match(bad, { code: 1, out: /failed.*rollback.*media did not start/ });
  t.match(
    door.jobs.findLast(({ id }) => id !== first?.jobId),
    { rev: 2 },
  );
  await until(() => door.jobs.at(-1)?.id === first?.jobId);
  t.match(desired(), [{ rev: 1 }], 'what did not succeed is desired no longer');

  // What the station has heard of, and this manager has not.
  await door.say('reported/firmware', { v: 1, id: 'r-1', seq: 0, rev: 1, knownRev: 40, error: null }, true);
  await until(() => view('door')?.reports.some(({ body }) => body.knownRev === 40) === true);
  door.onJob = (told) => void (told.do === 'desired' && told.rev > 40 && door.tell(told, 1, 'rejected'));
  await update('--watch');
  t.match(
    door.jobs.findLast(({ id }) => id !== first?.jobId),
    { rev: 41 },
  );
  await door.say('reported/firmware', { v: 1, id: 'r-2', seq: 1, rev: 0xffff_ffff, error: null }, true);
  await until(() => view('door')?.reports.some(({ body }) => body.rev === 0xffff_ffff) === true);

  // The station is away; the manager ends and comes back; then the job is called off.
  door.onJob = () => {};
  await door.link.close();
  const [away] = (await ask.call('fleet.update', wanted)).jobs;
  if (away === undefined) throw new Error('no job');
  t.match(away, { now: { state: 'queued' }, isOver: false });
  t.match(desired(), [{ rev: 42 }], 'nor may a station leave none to come');
  await t.rejects(ask.call('fleet.update', wanted), { code: 'job-open', remedy: new RegExp(away.jobId) });
  const back = await StationDouble.start(site, 'door', []);
  await until(() => back.jobs.some(({ id }) => id === away.jobId));
  await running.manager.close();
  running.manager = await start();
  const before = back.jobs.length;
  await until(() => back.jobs.length > before);
  t.match(back.jobs.at(-1), { id: away.jobId, do: 'desired' }, 'said again to a broker that may have lost it');
  const anew = await client(t, dir);
  await anew.call('fleet.cancel', { jobId: away.jobId, by: 'ana' });
  const cancels = () => back.jobs.filter((one) => one.do === 'cancel');
  await until(() => cancels().length > 0 && back.jobs.at(-1)?.id === first?.jobId);
  t.match(cancels(), [{ id: away.jobId, seq: 1, reason: /canceled by/ }]);
  t.match(desired(), [{ rev: 1 }], 'what was desired before is again');
  await running.manager.close();
  running.manager = await start();
  await until(() => cancels().length > 1);
  t.notOk(
    back.jobs.slice(-2).some(({ id, do: what }) => id === away.jobId && what === 'desired'),
    'and is not taken back by a restart',
  );
  await back.say(`job/${away.jobId}`, 'no JSON');
  await back.tell({ id: away.jobId }, 7, 'canceled', { reason: 'canceled by ana' });
  await until(() => job(away.jobId)?.isOver === true && back.forgotten.includes(away.jobId));
  t.equal(running.manager.refused.get('malformed-job-report'), 1);
  const last = await client(t, dir);
  await t.rejects(last.call('fleet.cancel', { jobId: away.jobId, by: 'ana' }), {
    code: 'job-over',
    message: /canceled/,
  });
  const all = jobsTable((await last.call('fleet.jobs', {})).jobs);
  t.match(all, /canceled[\s\S]*failed[\s\S]*succeeded/, 'the newest first');
  t.match(running.manager.store.audits(1)[0], { what: 'update', outcome: 'canceled' });
});

test('a station that never says what became of a job does not keep it open; what it says later counts', async (t) => {
  const dir = folder(t);
  const clock = new ManualClock();
  const store = new FleetStore({ path: join(dir, 'fleet.sqlite'), clock, logger: silentLogger });
  const repository = await repositoryIn(join(dir, 'trust'));
  const said: Publication[] = [];
  const refused = new Counters<string>();
  const changes: JobView[] = [];
  const jobs = new Jobs({
    ...{ store, refused, clock, logger: silentLogger, folder: repository },
    link: { publish: async (one: Publication) => void said.push(one) },
    onChange: (job) => changes.push(job),
  });
  t.teardown(() => jobs.close());
  store.presence({ site: 'home', station: 'door', isOnline: true, release: '1.1.0', architecture: 'arm64' });
  const stations = store.stations();
  const order = {
    stations,
    kind: 'firmware',
    version: '1.2.0',
    isUrgent: false,
    mayRetry: false,
    baseUrl: null,
    by: 'ana',
  } as const;
  const [job] = await jobs.update({ ...order, deadlineMs: 60_000 });
  t.match(job, { now: { state: 'queued' } });
  for (const station of ['attic', 'door']) jobs.online('home', station);
  t.same(
    said.map(({ topic }) => topic),
    Array(2).fill('entryphone/v1/home/d/door/down/desired/firmware'),
    'said again to the station that comes',
  );
  t.ok(
    said.every(({ retained, expiryS }) => retained === true && expiryS === undefined),
    'kept for as long as it takes',
  );
  clock.advance(119_000);
  t.equal(store.job(job?.jobId ?? '')?.isOver, false, 'it may be late');
  clock.advance(30_000);
  t.match(store.job(job?.jobId ?? '')?.now, { state: 'timed_out', reason: /did not say/ });
  t.match(said.at(-1), { body: '', retained: true, topic: /desired/ }, 'the broker forgets it');
  t.equal(changes.at(-1)?.isOver, true);
  const late = {
    v: 1,
    id: job?.jobId,
    seq: 3,
    state: 'succeeded',
    step: 'confirm',
    progress: 100,
    reason: null,
    at: 1,
  };
  jobs.take('home', 'door', job?.jobId ?? '', Buffer.from(JSON.stringify(late)));
  t.equal(store.job(job?.jobId ?? '')?.now.state, 'succeeded');
  t.match(said.at(-1), { body: new RegExp(job?.jobId ?? 'no job') }, 'what runs after all is what is desired');

  store.presence({ site: 'home', station: 'old', isOnline: true, release: '1.0.0', architecture: null });
  const old = store.stations().filter(({ station }) => station === 'old');
  await t.rejects(jobs.update({ ...order, stations: old, deadlineMs: null }), { code: 'release-unknown' });
  const unsigned = join(repository, FIRMWARE.replace('1.2.0', '1.3.0'));
  mkdirSync(dirname(unsigned), { recursive: true });
  writeFileSync(unsigned, manifest('firmware', '1.3.0'));
  await t.rejects(jobs.update({ ...order, version: '1.3.0', deadlineMs: null }), { code: 'release-unsigned' });
  writeFileSync(unsigned, manifest('firmware'));
  await t.rejects(jobs.update({ ...order, version: '1.3.0', deadlineMs: null }), { code: 'release-unknown' });
  writeFileSync(unsigned, '{"v":1');
  await t.rejects(jobs.update({ ...order, version: '1.3.0', deadlineMs: null }), { code: 'release-unknown' });
  store.close();
});
