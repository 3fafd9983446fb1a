/** What a station does with the jobs of its fleet manager, over a real broker and HTTPS: files, reports, jobs that stand still. */
import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
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
import { type JobReport, reportedSchema } from '../src/protocol/update-job.js';
import { FleetUpdates } from '../src/station/fleet-updates.js';
import { StationReports } from '../src/station/station-reports.js';
import type { StationUpdates } from '../src/station/station-updates.js';
import { Artefacts, type PieceTransport } from '../src/update/artefacts.js';
import { Pace } from '../src/update/pace.js';
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

const job = (id: string, more: object = {}) => ({
  ...{ v: 1, id, seq: 1, do: 'update', site: 'home', station: 'door', issuedAt: 1_000 },
  ...{ target: 'releases/1.2.0/x64/manifest.json', ...more },
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
