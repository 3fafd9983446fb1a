import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import type { JobReport, WantedUpdate } from '../src/protocol/update-job.js';
import { JobIntake, type JobProgress } from '../src/update/job-intake.js';
import { type QuietHours, untilQuietHoursMs } from '../src/update/quiet-hours.js';
import { type Site, until } from './support/site.js';

const _forever = new AbortController().signal;

async function _codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'done',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );
}

function folder(t: Test): string {
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'entryphone-jobs-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

const TARGET = 'releases/1.2.0/x64/manifest.json';
const job = (id: string, more: object = {}) => ({
  ...{ v: 1, id, seq: 1, do: 'update', site: 'home', station: 'door', target: TARGET, issuedAt: 1_000 },
  ...more,
});
const desired = (rev: number, more: object = {}) => ({
  ...{ v: 1, id: `rev-${rev}`, seq: rev, site: 'home', station: 'door', rev, target: TARGET, issuedAt: 1_000 },
  ...more,
});

interface Running {
  readonly order: WantedUpdate;
  readonly told: (progress: JobProgress) => void;
  readonly signal: AbortSignal;
  readonly end: (state?: JobProgress['state'], reason?: string | null) => Promise<void>;
  readonly fail: (code: string) => void;
  readonly breakDown: (error: Error) => void;
}

async function intake(
  t: Test,
  { quietHours = null as QuietHours | null, dir = folder(t), clock = new ManualClock() } = {},
) {
  const reports: JobReport[] = [];
  const runs: Running[] = [];
  const ended: string[] = [];
  const open = await JobIntake.open({
    ...{ path: join(dir, 'jobs.json'), site: 'home', station: 'door', quietHours, clock, logger: silentLogger },
    tell: (report) => reports.push(report),
    ended: (kind) => ended.push(kind),
    run: (order, told, signal) => {
      const { promise, resolve, reject } = Promise.withResolvers<JobProgress>();
      const end = async (state: JobProgress['state'] = 'succeeded', reason: string | null = null): Promise<void> => {
        const before = reports.length;
        resolve({ seq: 9, state, step: 'confirm', progress: 100, reason });
        await until(() => reports.length > before);
      };
      const fail = (code: string): void => reject(new AppError(code, 'it did not come'));
      runs.push({ order, told, signal, end, fail, breakDown: reject });
      return promise;
    },
  });
  t.teardown(() => open.close());
  const say = (path: string, body: object | string): Promise<void> =>
    open.take(path, Buffer.from(typeof body === 'string' ? body : JSON.stringify(body)));
  const ask = (body: { id: string }): Promise<void> => say(`job/${body.id}`, body);
  return {
    open,
    say,
    ask,
    reports,
    runs,
    ended,
    dir,
    clock,
    states: () => reports.map(({ id, state }) => `${id} ${state}`),
  };
}

test('a job is done once, one at a time, and its end told again to whoever asks again', async (t) => {
  const { open, ask, runs, states, reports, dir, say } = await intake(t);
  await ask(job('one'));
  await ask(job('two', { isUrgent: true, baseUrl: 'https://releases.test/repository' }));
  t.equal(runs.length, 1, 'the second waits');
  t.match(runs[0]?.order, { jobId: 'one', kind: 'firmware', target: TARGET, baseUrl: null, deadlineMs: null });
  runs[0]?.told({ seq: 4, state: 'in_progress', step: 'download', progress: 40, reason: null });
  await ask(job('one'));
  await runs[0]?.end();
  await until(() => runs.length === 2);
  await ask(job('one'));
  await runs[1]?.end('failed', 'the disk is full '.repeat(20));
  t.same(states(), [
    ...[
      'one queued',
      'two queued',
      'one in_progress',
      'one in_progress',
      'one succeeded',
      'one succeeded',
      'two failed',
    ],
  ]);
  t.equal(reports.at(-1)?.reason?.length, 200);
  t.match(reports[2], { step: 'download', progress: 40, seq: 4 });
  t.same(open.refused.all(), { 'already-done': 1 });
  open.close();

  const again = await intake(t, { dir });
  for (const id of ['one', 'two']) await again.ask(job(id, { seq: 7 }));
  t.same(again.states(), ['one succeeded', 'two failed'], 'also after a restart');
  t.equal(again.runs.length, 0);
  for (let n = 0; n < 32; n++) {
    await again.ask(job(`later-${n}`, { issuedAt: 2_000 + n }));
    await again.runs[n]?.end();
  }
  await again.ask(job('one'));
  t.match(again.reports.at(-1), { id: 'one', state: 'rejected' }, 'what is forgotten is too old to be taken');
  t.equal(again.runs.length, 32);
  t.match(again.open.refused.all(), { 'already-done': 2, old: 1 });
  again.open.close();

  writeFileSync(join(dir, 'jobs.json'), '{"v":1,"floorMs":');
  const damaged = await intake(t, { dir });
  await damaged.ask(job('three'));
  t.equal(damaged.runs.length, 1, 'a damaged list stops no update');
  await say('job/three', '');
});

test('what is not for this station, not whole or not new is refused, each by its name', async (t) => {
  const { open, say, ask, runs, reports, states, ended } = await intake(t);
  const wrong: Record<string, [path: string, body: object | string][]> = {
    'not-for-us': [
      ['job/one', job('one', { station: 'attic' })],
      ['job/one', job('one', { site: 'gate' })],
    ],
    'id-mismatch': [
      ['job/two', job('one')],
      ['desired/flows', desired(1)],
    ],
    malformed: [
      ['job/one', '{'],
      ['job/one', job('one', { target: '../../etc/passwd' })],
      ['job/one', job('one', { target: 'metadata/timestamp.json' })],
      ['job/one', job('one', { baseUrl: 'http://releases.test' })],
      ['job/one', job('one', { baseUrl: 'file:///etc' })],
      ['job/one', job('one', { v: 2 })],
      ['desired/firmware', desired(0)],
    ],
    oversized: [['job/one', job('one', { padding: 'x'.repeat(5_000) })]],
    'unknown-topic': [
      ['desired/else', desired(1)],
      ['job/ONE', job('ONE')],
      ['job/one/two', job('one')],
      ['elsewhere/one', job('one')],
    ],
  };
  for (const messages of Object.values(wrong)) for (const [path, body] of messages) await say(path, body);
  t.same(open.refused.all(), Object.fromEntries(Object.entries(wrong).map(([fault, all]) => [fault, all.length])));
  t.same(states(), [], 'nobody is answered who said nothing that can be read');
  t.equal(runs.length, 0);

  await say('desired/firmware', desired(5));
  t.match(runs[0]?.order, { jobId: 'rev-5', rev: 5, deadlineMs: null });
  await say('desired/firmware', desired(4));
  t.match(reports.at(-1), {
    ...{ id: 'rev-4', state: 'rejected' },
    reason: 'rev 4 of what firmware is desired is no newer than rev 5, which this station has',
  });
  await say('desired/firmware', desired(5, { id: 'another' }));
  t.match(reports.at(-1), { id: 'another', state: 'rejected', reason: /rev 5 of/ }, 'two at once');
  await say('desired/firmware', desired(6));
  await say('desired/firmware', desired(7));
  await runs[0]?.end();
  await until(() => runs.length === 2);
  await runs[1]?.end();
  const told = reports.length;
  await say('desired/firmware', desired(7));
  t.match(reports.slice(told), [{ id: 'rev-7', state: 'succeeded' }], 'what is desired still is told of, and no fault');
  await say('desired/firmware', desired(5));
  await say('desired/firmware', desired(3));
  t.match(open.refused.all(), { stale: 3, 'already-done': 1 });
  t.match(runs[1]?.order, { jobId: 'rev-7' }, 'of what was wanted the last counts');
  t.ok(states().includes('rev-6 canceled'));
  t.same([open.knownRev('firmware'), open.knownRev('flows')], [7, 0]);
  t.match(open.lastOf('firmware'), { done: { rev: 7 }, succeeded: { rev: 7, target: TARGET } });
  for (let n = 0; n < 6; n++) await ask(job(`many-${n}`));
  t.same(states().slice(-2), ['many-4 queued', 'many-5 rejected']);
  t.match(open.refused.all(), { 'too-many': 1 });
  t.same(new Set(ended), new Set(['firmware']));

  const late = await intake(t);
  await late.ask(job('one'));
  await late.say('desired/firmware', desired(3, { deadlineAt: late.clock.wallMs() }));
  t.match(late.reports.at(-1), { id: 'rev-3', state: 'timed_out' });
  await late.say('desired/firmware', desired(4));
  await late.say('desired/flows', '');
  t.equal(late.open.waiting, 1);
  await late.say('desired/firmware', '');
  t.match(late.reports.at(-1), { id: 'rev-4', state: 'removed' }, 'nothing is desired any more');
  t.equal(late.open.knownRev('firmware'), 4);
  await late.say('desired/firmware', '');
  t.same(late.open.refused.all(), { 'too-late': 1 });

  const twice = await intake(t);
  await Promise.all([twice.ask(job('one')), twice.ask(job('one'))]);
  const copies = [6, 7, 7].map((rev) => twice.say('desired/firmware', desired(rev)));
  await Promise.all(copies);
  t.same([twice.runs.length, twice.open.waiting], [1, 1], 'copies of one moment are one job');
  t.same(twice.states().slice(-3), ['rev-6 queued', 'rev-7 queued', 'rev-6 canceled']);
});

test('who could write here once keeps nothing out for ever, and wears no disk', async (t) => {
  const dir = folder(t);
  const first = await intake(t, { dir });
  const nowMs = first.clock.wallMs();
  const said = (rev: number, issuedAt: number, more: object = {}) => desired(rev, { issuedAt, ...more });
  await first.say('desired/firmware', said(7, nowMs));
  await first.runs[0]?.end();
  await first.say('desired/firmware', said(0xffff_ffff, 8_000_000_000_000_000));
  await first.runs[1]?.end('failed', 'signed by nobody');
  t.equal(first.open.knownRev('firmware'), 0xffff_ffff);
  await first.say('desired/firmware', said(8, nowMs + 1_000));
  t.match(first.reports.at(-1), { id: 'rev-8', state: 'rejected' }, 'for a day, since the clock may be wrong');
  first.open.close();

  const day = 86_400_000;
  const clock = new ManualClock();
  clock.advance(2 * day);
  const next = await intake(t, { dir, clock });
  await next.say('desired/firmware', said(6, nowMs - 1_000));
  t.match(next.reports.at(-1), { id: 'rev-6', state: 'rejected' }, 'what is older by both is refused');
  await next.say('desired/firmware', said(8, nowMs + 2 * day));
  t.match(next.reports.at(-1), { id: 'rev-8', state: 'queued' });
  await next.say('desired/firmware', said(8, nowMs + 2 * day, { id: 'other' }));
  t.match(next.reports.at(-1), { id: 'other', state: 'rejected' });
  await next.runs[0]?.end();
  for (let n = 0; n < 40; n++) {
    await next.ask(job(`many-${n}`, { issuedAt: nowMs + n }));
    await next.runs.at(-1)?.end();
  }
  await next.say('desired/firmware', said(7, nowMs + day, { id: 'again' }));
  t.match(next.reports.at(-1), { id: 'again', state: 'rejected' }, 'the last that was desired is remembered');

  const told = next.reports.length;
  for (let n = 0; n < 200; n++) await next.say(`job/ghost-${n}`, { ...job(`ghost-${n}`), do: 'cancel', reason: 'x' });
  const heard = next.reports.length - told;
  t.ok(heard > 10 && heard <= 100, `${heard} of 200`);
  const long = await intake(t);
  const words = { do: 'cancel', reason: '\u0001'.repeat(200) };
  for (let n = 0; n < 32; n++)
    await long.say(`job/${'x'.repeat(60)}${n}`, { ...job(`${'x'.repeat(60)}${n}`), ...words });
  t.ok(statSync(join(long.dir, 'jobs.json')).size > 32_768, 'long words');
  const again = await intake(t, { dir: long.dir });
  await again.say(`job/${'x'.repeat(60)}7`, job(`${'x'.repeat(60)}7`));
  t.match(again.reports, [{ state: 'canceled' }], 'are remembered');
  t.match(next.open.refused.all(), { flood: 200 - heard });
});

test('a job waits for a broker that is away, to its deadline; what does not pass ends it', async (t) => {
  const clock = new ManualClock();
  const { open, ask, runs, states, reports, say } = await intake(t, { clock });
  await ask(job('one', { deadlineAt: clock.wallMs() + 86_400_000 }));
  for (let hour = 0; hour < 23; hour++) {
    const { length } = runs;
    runs.at(-1)?.fail(hour % 2 === 0 ? 'trust-too-slow' : 'trust-unreachable');
    await until(() => reports.length > length);
    clock.advance(3_600_000);
    await until(() => runs.length > length);
  }
  t.match(reports.at(-1), { id: 'one', state: 'queued', reason: 'it did not come' });
  t.equal(open.current?.jobId, 'one');
  clock.advance(3_600_000);
  runs.at(-1)?.fail('trust-unreachable');
  await until(() => states().includes('one timed_out'));
  await ask(job('two'));
  runs.at(-1)?.fail('trust-expired');
  await until(() => states().includes('two failed'));
  await ask(job('full'));
  runs.at(-1)?.breakDown(Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' }));
  await until(() => states().includes('full failed'));
  t.match(reports.at(-1), { id: 'full', reason: 'the disk is full' }, 'in words');
  await ask(job('three'));
  const told = reports.length;
  runs.at(-1)?.fail('trust-unreachable');
  await until(() => reports.length > told);
  await say('job/three', { ...job('three', { seq: 2 }), do: 'cancel', reason: 'not today' });
  await until(() => states().includes('three canceled'));
  t.equal(open.current, null);
});

test('a job is cancelled before its turn, in the middle, and before it came; and waits for its hour', async (t) => {
  const { say, ask, runs, states, open } = await intake(t);
  const cancel = (id: string, seq = 2): Promise<void> =>
    say(`job/${id}`, { ...job(id, { seq }), do: 'cancel', reason: 'not today' });
  await ask(job('one'));
  await ask(job('two'));
  await ask(job('three'));
  await cancel('two', 1);
  t.match(open.refused.all(), { stale: 1 }, 'a cancel that is older than its job');
  await cancel('two');
  t.notOk(runs[0]?.signal.aborted);
  await cancel('one');
  t.match(runs[0]?.signal.reason, { code: 'job-canceled', message: 'not today' });
  await say('job/three', '');
  await runs[0]?.end('canceled', 'not today');
  await cancel('four');
  await ask(job('four'));
  await cancel('four', 3);
  t.same(states().slice(3), [
    ...['two canceled', 'three removed', 'one canceled', 'four canceled', 'four canceled', 'four canceled'],
  ]);
  t.equal(runs.length, 1);

  // Of the machine's own day, whatever its zone.
  const at = (hours: number, minutes: number): number => new Date(2026, 2, 10, hours, minutes).getTime();
  const night = { from: '22:30', to: '05:00' };
  t.equal(untilQuietHoursMs(night, at(23, 0)), 0);
  t.equal(untilQuietHoursMs(night, at(4, 59)), 0);
  t.equal(untilQuietHoursMs(night, at(5, 0)), 17.5 * 3_600_000);
  t.equal(untilQuietHoursMs({ from: '01:00', to: '02:00' }, at(2, 0)), 23 * 3_600_000);
  t.equal(untilQuietHoursMs({ from: '00:00', to: '00:00' }, at(12, 0)), 0);

  class DayClock extends ManualClock {
    override wallMs(): number {
      return at(20, 30) + this.nowMs();
    }
  }
  const clock = new DayClock();
  const hours = await intake(t, { quietHours: night, clock });
  await hours.ask(job('night'));
  await hours.ask(job('late', { deadlineAt: at(21, 30) }));
  await hours.ask(job('gone', { deadlineAt: at(20, 0) }));
  t.equal(hours.runs.length, 0);
  await hours.ask(job('urgent', { isUrgent: true }));
  t.equal(hours.runs[0]?.order.jobId, 'urgent');
  await hours.runs[0]?.end();
  clock.advance(3_600_000);
  await until(() => hours.states().includes('late timed_out'));
  t.equal(hours.runs.length, 1);
  clock.advance(3_600_000);
  t.equal(hours.runs[1]?.order.jobId, 'night');
  t.ok(hours.states().includes('gone timed_out'));
});

let _site: Site;
