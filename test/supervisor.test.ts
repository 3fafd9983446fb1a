import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { Service } from '../src/adapters/supervisor/foreground.js';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';

const probe = resolve(import.meta.dirname, 'support/service-probe.js');

function serviceOf(t: Test, mode: string, limits: { startTimeoutMs?: number; watchdogMs?: number } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-supervisor-'));
  const record = join(dir, 'record');
  const service = new Service({
    spec: {
      name: mode,
      command: [process.execPath, probe, mode, record],
      makeSafe: [process.execPath, probe, 'safe', record],
      startTimeoutMs: limits.startTimeoutMs ?? 10_000,
      stopTimeoutMs: 500,
      ...(limits.watchdogMs === undefined ? {} : { watchdogMs: limits.watchdogMs }),
    },
    clock: systemClock,
    logger: silentLogger,
    output: () => {},
  });
  t.teardown(async () => {
    await service.stop();
    rmSync(dir, { recursive: true });
  });
  const runs = () =>
    readFileSync(record, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' ')[0]);
  return { service, runs };
}

test('a process is made safe before it starts, after it is killed and after it is stopped', async (t) => {
  const { service, runs } = serviceOf(t, 'works');
  await service.start();
  t.same(runs(), ['safe', 'works']);
  const again = new Promise<void>((done) => service.once('ready', done));
  process.kill(service.pid ?? 0, 'SIGKILL');
  await again;
  t.same(runs(), ['safe', 'works', 'safe', 'works'], 'safe before the next start');
  t.equal(service.restarts, 1);
  await service.stop();
  t.equal(service.pid, undefined);
  t.same(runs(), ['safe', 'works', 'safe', 'works', 'safe']);
});

test('a process that hangs is killed by the watchdog and restarted', async (t) => {
  const { service, runs } = serviceOf(t, 'hangs', { watchdogMs: 300 });
  await service.start();
  const reason = await new Promise<string>((done) => service.once('exited', done));
  t.equal(reason, 'SIGKILL');
  await new Promise<void>((done) => service.once('ready', done));
  t.ok(runs().length >= 4);
});

test('a process that stops turning (SIGSTOP) counts as hung', async (t) => {
  const { service } = serviceOf(t, 'works', { watchdogMs: 400 });
  await service.start();
  process.kill(service.pid ?? 0, 'SIGSTOP');
  t.equal(await new Promise<string>((done) => service.once('exited', done)), 'SIGKILL');
});

test('a supervisor that was away itself does not take its processes for hung', async (t) => {
  const { service } = serviceOf(t, 'works', { watchdogMs: 400 });
  await service.start();
  const pid = service.pid;
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_000);
  await new Promise((resolve) => setTimeout(resolve, 500));
  t.equal(service.pid, pid);
  t.equal(service.restarts, 0);
});

test('a start that never gets ready fails, and nothing is left', async (t) => {
  const { service } = serviceOf(t, 'never-ready', { startTimeoutMs: 400 });
  await t.rejects(service.start(), { code: 'service-failed', message: /not ready within 400 ms/ });
  t.equal(service.pid, undefined);
});

test('a start that is stopped fails at once, and nothing is left', async (t) => {
  const { service, runs } = serviceOf(t, 'works');
  const early = t.rejects(service.start(), { code: 'service-stopped' });
  await service.stop();
  await early;
  t.same(runs(), ['safe'], 'it never ran');
  const { service: other } = serviceOf(t, 'never-ready', { startTimeoutMs: 60_000 });
  const late = t.rejects(other.start(), { code: 'service-stopped' });
  while (other.pid === undefined) await new Promise(setImmediate);
  await other.stop();
  await late;
});

test('exit code 2, a wrong configuration, is not retried', async (t) => {
  const { service, runs } = serviceOf(t, 'misconfigured');
  await t.rejects(service.start(), { code: 'service-failed', message: /exit code 2/ });
  t.equal(runs().filter((run) => run === 'misconfigured').length, 1);
});

test('a program that does not exist fails the start with a clear error', async (t) => {
  const service = new Service({
    spec: { name: 'ghost', command: ['/no/such/program'], startTimeoutMs: 300, stopTimeoutMs: 100 },
    clock: systemClock,
    logger: silentLogger,
    output: () => {},
  });
  await t.rejects(service.start(), { code: 'service-failed' });
});

test('a process deaf to SIGTERM is ended all the same', async (t) => {
  const { service } = serviceOf(t, 'stubborn');
  await service.start();
  const pid = service.pid ?? 0;
  await service.stop();
  t.throws(() => process.kill(pid, 0), { code: 'ESRCH' });
});
