import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { type Test, test } from 'tap';
import { serveRpc } from '../src/adapters/sockets/rpc.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { stationNotifications, stationRequests } from '../src/protocol/station-api.js';
import type { UpdateStatus, UpdateView } from '../src/protocol/update.js';

const program = resolve(import.meta.dirname, '../src/bin/entryphone.js');
const whole = { is: 'whole', version: '1.0.0', isConfirmed: true, reason: null } as const;
const empty = { is: 'empty', version: null, isConfirmed: false, reason: null } as const;

/** The updates of a station that says what it is told to say, at a socket where the command line looks for stations. */
class SaidStation {
  readonly #home: string;
  readonly #path: string;
  #api: Awaited<ReturnType<SaidStation['serve']>> | undefined;
  readonly ordered: string[] = [];
  isOff = false;
  job: UpdateView | null = null;
  others: UpdateStatus['others'] = [];
  /** What comes after the answer that a job has begun, or is cancelled. */
  next: (() => Promise<void>) | undefined;
  #asked = 0;
  readonly #under: Promise<void>[] = [];

  constructor(t: Test) {
    this.#home = mkdtempSync(join(tmpdir(), 'entryphone-upd-'));
    const folder = join(this.#home, `entryphone-${userInfo().uid}/door`);
    mkdirSync(folder, { recursive: true });
    this.#path = join(folder, 'station.sock');
    t.teardown(async () => {
      await this.#api?.close();
      rmSync(this.#home, { recursive: true });
    });
  }

  serve() {
    const view = (): UpdateView => {
      if (this.job === null) throw new Error('no job');
      return this.job;
    };
    const { 'update.status': status, 'update.install': install, 'update.cancel': cancel } = stationRequests;
    return serveRpc({
      path: this.#path,
      requests: { 'update.status': status, 'update.install': install, 'update.cancel': cancel },
      notifications: stationNotifications,
      handlers: {
        'update.status': (): UpdateStatus => {
          this.#asked += 1;
          if (this.isOff) throw new AppError('updates-off', 'this station does not run from slots');
          return { current: 'a', slots: { a: whole, b: empty }, floor: '1.0.0', others: this.others, job: this.job };
        },
        'update.install': ({ folder }) => {
          this.ordered.push(folder);
          this.#begin();
          this.job = { ...JOB };
          return view();
        },
        'update.cancel': ({ jobId }) => {
          this.ordered.push(jobId);
          this.#begin();
          return {};
        },
      },
      logger: silentLogger,
      refused: new Counters<string>(),
    });
  }

  #begin(): void {
    if (this.next !== undefined) this.#under.push(new Promise<void>((done) => setImmediate(done)).then(this.next));
  }

  async up(): Promise<void> {
    this.#api = await this.serve();
  }

  async down(): Promise<void> {
    await this.#api?.close();
  }

  tell(change: Partial<UpdateView>): void {
    if (this.job === null) return;
    this.job = { ...this.job, ...change, seq: this.job.seq + 1 };
    this.#api?.notify('update.changed', this.job);
  }

  /** Until somebody asks how it is, from now on. */
  async isAsked(): Promise<void> {
    const before = this.#asked;
    while (this.#asked === before) await new Promise((done) => setTimeout(done, 5));
  }

  async run(...args: string[]) {
    const child = spawn(process.execPath, [program, 'update', ...args], {
      env: { ...process.env, XDG_RUNTIME_DIR: this.#home },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const ended = new Promise<number | null>((done) => child.once('close', done));
    const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
    const status = await ended;
    await Promise.all(this.#under);
    return { status, out, err };
  }
}

const JOB: UpdateView = {
  ...{ jobId: 'rescue-1', kind: 'firmware', version: '1.1.0', state: 'in_progress', step: 'download' },
  ...{ progressPct: 10, seq: 3, reason: null },
};

test('an install is followed through the restart that belongs to it, to its end', { timeout: 60_000 }, async (t) => {
  const station = new SaidStation(t);
  await station.up();
  station.next = async () => {
    await station.isAsked();
    station.tell({ step: 'install', progressPct: 50 });
    await station.down();
    await station.up();
    await station.isAsked();
    station.tell({ state: 'succeeded', step: 'confirm', progressPct: 100 });
  };
  const { status, out, err } = await station.run('install', 'some/where', '--json');
  t.equal(status, 0, err);
  t.same(station.ordered, [resolve('some/where')], 'the station has another folder to start from');
  t.match(JSON.parse(out), { ok: true, failed: [], job: { jobId: 'rescue-1', state: 'succeeded' } });
  t.match(err, /firmware 1\.1\.0 in progress, download 10 %[\s\S]*firmware 1\.1\.0 succeeded/);
});

test('what failed, and what is cancelled, is said by the exit code too', { timeout: 60_000 }, async (t) => {
  const station = new SaidStation(t);
  await station.up();
  station.next = async () => station.tell({ state: 'failed', reason: 'the broker was not reached' });
  const failed = await station.run('install', '/stick', '--json');
  t.equal(failed.status, 1);
  t.match(JSON.parse(failed.out), { ok: false, failed: ['firmware 1.1.0 failed: the broker was not reached'] });

  const none = await station.run('cancel');
  t.equal(none.status, 1);
  t.match(none.err, /no job is under way/);

  station.job = JOB;
  station.next = async () => station.tell({ state: 'canceled', reason: 'by somebody at the station' });
  const cancelled = await station.run('cancel', '--json');
  t.equal(cancelled.status, 0, cancelled.err);
  t.equal(station.ordered.at(-1), 'rescue-1');
  t.match(JSON.parse(cancelled.out), { ok: true, job: { state: 'canceled' } });
});

test('the status: slots, floor and job; a station without slots says what it lacks', { timeout: 60_000 }, async (t) => {
  const station = new SaidStation(t);
  await station.up();
  station.job = JOB;
  const { status, out } = await station.run('status');
  t.equal(status, 0);
  t.match(out, /a +│ 1\.0\.0 +│ confirmed +│ runs/);
  t.match(out, /nothing older than 1\.0\.0[\s\S]*rescue-1: firmware 1\.1\.0 in progress, download 10 %/);
  const tried = { is: 'failed', version: '1.3.0', isConfirmed: false, reason: 'the flows ended unasked' } as const;
  const seed = { ...whole, version: '0.0.0' };
  station.others = [
    { kind: 'flows', current: 'b', slots: { a: tried, b: { ...whole, version: '1.2.0' } }, floor: '1.2.0' },
    { kind: 'models', current: 'a', slots: { a: seed, b: empty }, floor: '0.0.0' },
  ];
  const { out: all } = await station.run('status');
  t.match(all, /^flows: 1\.2\.0; 1\.3\.0 failed: the flows ended unasked; nothing older than 1\.2\.0$/m);
  t.match(all, /^models: as they were before the first release$/m);
  station.isOff = true;
  const off = await station.run('status', '--json');
  t.equal(off.status, 1);
  t.match(JSON.parse(off.out), { ok: false, failed: [/does not run from slots/] });
});
