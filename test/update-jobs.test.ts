import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { RangeClient } from '../src/adapters/http/range-client.js';
import type { LinkMessage, LinkState, MqttLink, Publication } from '../src/adapters/mqtt/mqtt-link.js';
import type { Config } from '../src/config/schema.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { newJob, type UpdateJournal } from '../src/fleet/update-journal.js';
import { MOST_PIECE_BYTES } from '../src/protocol/artefact-piece.js';
import { type JobReport, reportedSchema, type WantedUpdate } from '../src/protocol/update-job.js';
import { FleetUpdates } from '../src/station/fleet-updates.js';
import { StationReports } from '../src/station/station-reports.js';
import type { StationUpdates } from '../src/station/station-updates.js';
import { Artefacts, type PieceTransport } from '../src/update/artefacts.js';
import { JobIntake, type JobProgress } from '../src/update/job-intake.js';
import { Pace } from '../src/update/pace.js';
import { type QuietHours, untilQuietHoursMs } from '../src/update/quiet-hours.js';
import type { UpdateOrder } from '../src/update/updater.js';
import { Site, until } from './support/site.js';

const forever = new AbortController().signal;

async function codeOf(promise: Promise<unknown>): Promise<string> {
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

let site: Site;
test('a site starts', async () => {
  site = await Site.start();
});

test('ranges of HTTPS come first where a URL answers, and MQTT stands in', async (t) => {
  const file = createHash('sha512').update('file').digest();
  const whole = Buffer.concat(Array.from({ length: 5_000 }, (_, n) => Buffer.from(file).fill(n % 251, 0, 8)));
  const { cert, ca } = site.host.credentialsOf('door');
  const own = readFileSync(join(site.dir, 'pki/server.pem'));
  const asked: string[] = [];
  let answer: 'ranges' | 'whole' | 'redirect' | 'short' | 'long' | 'other-range' | 'broken' = 'ranges';
  const respond = (request: IncomingMessage, response: ServerResponse): void => {
    asked.push(request.headers.range ?? '');
    const [, from = 0, to = 0] = (/bytes=(\d+)-(\d+)/.exec(request.headers.range ?? '') ?? []).map(Number);
    const etag = '"version-1"';
    if (request.url !== '/repository/file') response.writeHead(404).end();
    else if (answer === 'whole') response.writeHead(200, { 'content-length': whole.length, etag }).end(whole);
    else if (answer === 'redirect') response.writeHead(302, { location: 'https://elsewhere.test/' }).end();
    else if (answer === 'broken') response.writeHead(503).end();
    else if (from >= whole.length) response.writeHead(416, { 'content-range': `bytes */${whole.length}` }).end();
    else {
      const last = Math.min(to, whole.length - 1);
      const first = answer === 'other-range' ? from + 1 : from;
      response.writeHead(206, { etag, 'content-range': `bytes ${first}-${last}/${whole.length}` });
      const body = whole.subarray(from, last + 1);
      if (answer === 'short') {
        response.write(body.subarray(0, 9));
        setImmediate(() => response.destroy());
      } else response.end(answer === 'long' ? Buffer.concat([body, body]) : body);
    }
  };
  const server = createServer({ cert: own, key: own }, respond).listen(0, '127.0.0.1');
  await until(() => server.listening);
  const baseUrl = `https://localhost:${(server.address() as AddressInfo).port}/repository`;
  const client = new RangeClient({ baseUrl, ca: readFileSync(ca), clock: systemClock });
  const stranger = new RangeClient({ baseUrl, clock: systemClock });
  t.teardown(() => {
    for (const one of [client, stranger]) one.close();
    server.close();
  });
  const signal = forever;
  const inMqtt: number[] = [];
  const mqtt: PieceTransport = {
    name: 'mqtt',
    piece: async ({ offset, lengthBytes }) => {
      inMqtt.push(offset);
      return { data: whole.subarray(offset, offset + lengthBytes), fileBytes: whole.length, tag: null };
    },
  };
  const refused = new Counters<string>();
  const pace = new Pace({ rateBps: Infinity, isHeld: () => false, clock: systemClock });
  const fetchBy = (...transports: PieceTransport[]) =>
    new Artefacts({ transports, job: 'j', pace, partials: null, clock: systemClock, refused });
  const options = { mostBytes: whole.length, signal };
  t.ok(whole.equals(await fetchBy(client, mqtt).fetch('file', options)));
  t.equal(inMqtt.length, 0);
  t.equal(asked.length, Math.ceil(whole.length / MOST_PIECE_BYTES));
  t.match(await client.piece({ path: 'file', offset: whole.length, lengthBytes: 5 }, signal), {
    fileBytes: whole.length,
  });
  t.equal(await client.piece({ path: 'other', offset: 0, lengthBytes: 5 }, signal), undefined);
  for (const fault of ['whole', 'redirect', 'broken', 'short', 'long', 'other-range'] as const) {
    answer = fault;
    inMqtt.length = 0;
    t.ok(whole.equals(await fetchBy(client, mqtt).fetch('file', options)), fault);
    t.ok(inMqtt.includes(0), `${fault}: MQTT stood in`);
  }
  answer = 'ranges';
  t.equal(
    await codeOf(stranger.piece({ path: 'file', offset: 0, lengthBytes: 5 }, signal)),
    'artefact-unreachable',
    'a server that shows no certificate of an authority that is known',
  );
  t.throws(() => new RangeClient({ baseUrl: 'http://localhost/', clock: systemClock }), {
    code: 'artefact-url-invalid',
  });
  t.ok(cert);
  const stop = new AbortController();
  const late = codeOf(client.piece({ path: 'file', offset: 0, lengthBytes: 5 }, stop.signal));
  stop.abort(new AppError('canceled', 'no more'));
  t.equal(await late, 'canceled');
});

test('the site stops', async () => {
  await site.stop();
});

test('a time limit of a month is waited for, though no timer of Node.js lasts so long', async (t) => {
  let isOver = false;
  const month = systemClock.after(30 * 86_400_000, () => {
    isOver = true;
  });
  t.teardown(() => month.cancel());
  await new Promise<void>((resolve) => systemClock.after(20, resolve));
  t.notOk(isOver);
});

test('what a station says of each kind of release: one body, when it changes, and when the broker is there again', async (t) => {
  const said: { topic: string; body: Record<string, unknown> }[] = [];
  const heard: ((state: LinkState) => void)[] = [];
  const state = { connected: false, protocol: null, fault: null };
  const reports = new StationReports({
    config: { station: { id: 'door', site: 'home' } } as Config,
    link: {
      state,
      onState: (listener) => heard.push(listener),
      publish: async ({ topic, body, retained }) => {
        t.ok(retained);
        said.push({ topic, body: JSON.parse(String(body)) });
      },
    },
    ...{ clock: new ManualClock(), logger: silentLogger },
  });
  reports.runs('flows', { state: 'starting' });
  t.same(said, [], 'not yet');
  state.connected = true;
  for (const listener of heard) listener(state);
  const release = { rev: 3, knownRev: 3, version: '1.2.0', hash: 'f'.repeat(64), appliedAt: 5, error: null };
  reports.release('flows', release);
  reports.release('flows', release);
  reports.runs('flows', { state: 'running' });
  t.match(
    said.map(({ topic }) => topic),
    Array(3).fill('entryphone/v1/home/d/door/up/reported/flows'),
  );
  const bodies = said.map(({ body }) => reportedSchema.parse(body));
  t.match(bodies, [
    { version: null, knownRev: 0, runs: { state: 'starting' } },
    { version: '1.2.0', rev: 3, runs: { state: 'starting' } },
    { version: '1.2.0', runs: { state: 'running' } },
  ]);
  for (const listener of heard) listener(state);
  t.match(said.at(-1)?.body, { version: '1.2.0', seq: 3 });
});

test('a job that stands still can be cancelled all the same; one whose place a stick took keeps no other waiting', async (t) => {
  const reports: JobReport[] = [];
  const state = { connected: true, protocol: null, fault: null };
  const fleet = await FleetUpdates.open({
    config: { station: { id: 'door', site: 'home' }, state: folder(t), update: { maxRateBps: 1e6 } } as Config,
    link: {
      ...{ state, onState: () => {} },
      publish: async ({ topic, body }: Publication) => {
        if (topic.includes('/up/job/')) reports.push(JSON.parse(String(body)));
      },
    } as unknown as MqttLink,
    ...{ reports: { release: () => {} }, isInCall: () => false, clock: new ManualClock(), logger: silentLogger },
  });
  t.teardown(() => fleet.close());
  const ordered: UpdateJournal[] = [];
  const cancelled: string[] = [];
  let isRunning = true;
  const begun = (jobId: string): UpdateJournal => ({
    ...newJob({ jobId, kind: 'firmware', version: '1.2.0', hash: 'f'.repeat(64) }),
    state: 'in_progress',
  });
  await fleet.serve({
    trust: { signedManifest: async () => ({ bytes: Buffer.from('{}') }) },
    journal: null,
    running: async () => null,
    order: async ({ jobId }: UpdateOrder) => {
      ordered.push(begun(jobId));
      fleet.changed(begun(jobId));
    },
    cancel: async (jobId: string) => {
      if (isRunning) cancelled.push(jobId);
      return isRunning;
    },
  } as unknown as StationUpdates);
  const say = (id: string, more: object = {}) => {
    const body = Buffer.from(JSON.stringify(job(id, more)));
    t.ok(fleet.take(`job/${id}`, { body } as Partial<LinkMessage> as LinkMessage));
  };
  say('one');
  await until(() => ordered.length === 1);
  isRunning = false;
  say('one', { seq: 2, do: 'cancel', reason: 'not today' });
  await new Promise<void>((resolve) => setImmediate(resolve));
  t.same(cancelled, []);
  isRunning = true;
  fleet.changed(begun('one'));
  t.same(cancelled, ['one']);
  fleet.changed({ ...begun('one'), state: 'canceled', reason: 'not today' });
  await until(() => reports.at(-1)?.state === 'canceled');

  say('two');
  await until(() => ordered.length === 2);
  say('three');
  fleet.changed(begun('rescue-1'));
  await until(() => ordered.length === 3);
  t.match(
    reports.find(({ id, state: of }) => id === 'two' && of === 'failed'),
    { reason: /another took its place: rescue-1/ },
  );
});
