import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import type { Test } from 'tap';
import type { MqttLink } from '../../src/adapters/mqtt/mqtt-link.js';
import { connectRpc } from '../../src/adapters/sockets/rpc.js';
import type { ManagerConfig } from '../../src/config/manager-config.js';
import { systemClock } from '../../src/core/clock.js';
import { LogTap } from '../../src/core/log-tap.js';
import { silentLogger } from '../../src/core/logger.js';
import { FIRMWARE, manifest, TrustBench } from '../../src/lab/trust-bench.js';
import { FleetManager } from '../../src/manager/manager.js';
import {
  type JobView,
  managerNotifications,
  managerRequests,
  type StationView,
} from '../../src/protocol/manager-api.js';
import type { SelfTestResult } from '../../src/protocol/selftest.js';
import { topic } from '../../src/protocol/topics.js';
import { type Desired, desiredSchema, type UpdateJob, updateJobSchema } from '../../src/protocol/update-job.js';
import { RemoteCommands } from '../../src/station/remote-commands.js';
import { Site, until } from './site.js';

const program = resolve(import.meta.dirname, '../../src/bin/entryphone.js');
const PASSED: SelfTestResult = {
  ...{ ok: true, verdict: 'pass', failed: [], checks: [], by: 'fleet', at: 1, durationMs: 2 },
};

/** One that goes when the test is over. */
export function folder(t: Test, below = tmpdir()): string {
  const dir = mkdtempSync(join(below, 'ep-manager-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

function configOf(dir: string, site: Site, repository?: string): ManagerConfig {
  const { ca, cert, key } = site.host.credentialsOf('fleet-manager');
  return {
    mqtt: { url: `mqtts://127.0.0.1:${site.port}`, ca, cert, key },
    ...(repository === undefined ? {} : { repository: { folder: repository } }),
    state: join(dir, 'state'),
    run: join(dir, 'run'),
  };
}

/** What a station is told to do about its releases: a cancel, or what it is to have from now on. */
export type Told = UpdateJob | (Desired & { readonly do: 'desired' });

/** A station as a fleet manager sees it: it says that it is there, takes orders, and does with jobs what a test says. */
export class StationDouble {
  readonly tap = new LogTap();
  readonly jobs: Told[] = [];
  /** Ids of jobs that the broker was told to forget. */
  readonly forgotten: string[] = [];
  /** Kinds of which nothing is desired any more. */
  readonly withdrawn: string[] = [];
  readonly restarted: string[] = [];
  onJob: (job: Told) => void = () => {};
  readonly commands: RemoteCommands;

  readonly id: string;
  readonly link: MqttLink;

  private constructor(id: string, link: MqttLink, keys: readonly string[]) {
    this.id = id;
    this.link = link;
    this.commands = new RemoteCommands({
      ...{ site: 'home', station: id, keys, link, clock: systemClock, logger: silentLogger, logTap: this.tap },
      selfTest: async () => PASSED,
      restart: (service) => void this.restarted.push(service),
      others: { follow: () => {} },
      note: () => {},
    });
    link.subscribe(topic('home', id, 'down', '#'), ({ topic: name, body, retained }) => {
      const [kind, rest = ''] = name.split('/down/')[1]?.split('/') ?? [];
      if (kind === 'cmd') this.commands.take(rest, { body, retained });
      if (kind !== 'job' && kind !== 'desired') return;
      if (body.byteLength === 0) {
        (kind === 'job' ? this.forgotten : this.withdrawn).push(rest);
        return;
      }
      const told = JSON.parse(Buffer.from(body).toString());
      this.#job(kind === 'job' ? updateJobSchema.parse(told) : { ...desiredSchema.parse(told), do: 'desired' });
    });
  }

  static async start(site: Site, id: string, keys: readonly string[]): Promise<StationDouble> {
    const { link } = site.link(id);
    const station = new StationDouble(id, link, keys);
    link.start();
    await until(() => link.state.connected);
    await station.online(true);
    return station;
  }

  online(online: boolean): Promise<void> {
    const body = { v: 1, id: `boot-of-${this.id}`, online, release: '1.1.0', architecture: 'arm64', at: 1 };
    return this.say('presence', body, true);
  }

  say(path: string, body: object | string, retained = false): Promise<void> {
    const text = typeof body === 'string' ? body : JSON.stringify(body);
    return this.link.publish({
      ...{ topic: topic('home', this.id, 'up', path), body: text, retained, qos: 1, priority: 'state' },
    });
  }

  tell(job: { id: string }, seq: number, state: string, more: object = {}): Promise<void> {
    const report = { v: 1, id: job.id, seq, state, step: null, progress: 0, reason: null, at: 5, ...more };
    return this.say(`job/${job.id}`, report);
  }

  #job(job: Told): void {
    this.jobs.push(job);
    this.onJob(job);
  }
}

/** `entryphone fleet …` against this manager. */
export async function fleet(
  dir: string,
  ...args: string[]
): Promise<{ code: number | null; out: string; err: string }> {
  const [name = '', ...rest] = args;
  // One that is named already is the one.
  const socket = name === 'prepare' || rest.includes('--socket') ? [] : ['--socket', join(dir, 'run/manager.sock')];
  const child = spawn(process.execPath, [program, 'fleet', name, ...rest, ...socket], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => {
    said.out += chunk;
  });
  child.stderr.on('data', (chunk: Buffer) => {
    said.err += chunk;
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...said };
}

/** Of this manager's socket. */
export async function client(t: Test, dir: string) {
  const made = await connectRpc({
    path: join(dir, 'run/manager.sock'),
    requests: managerRequests,
    notifications: managerNotifications,
    timeoutMs: 20_000,
    onClose: () => {},
    onNotification: () => {},
  });
  t.teardown(() => made.close());
  return made;
}

/** A repository with a firmware 1.2.0 for arm64 that is signed. */
export async function repositoryIn(dir: string): Promise<string> {
  await TrustBench.make(dir);
  const place = join(dir, 'repository', FIRMWARE);
  mkdirSync(dirname(place), { recursive: true });
  writeFileSync(place, manifest('firmware'));
  return join(dir, 'repository');
}

/** A site with a manager that has a repository. */
export async function bench(t: Test) {
  const dir = folder(t);
  const repository = await repositoryIn(join(dir, 'trust'));
  const site = await Site.start();
  const config = configOf(dir, site, repository);
  const start = () => FleetManager.start({ config, clock: systemClock, logger: silentLogger });
  const running = { manager: await start() };
  t.teardown(async () => {
    await running.manager.close();
    await site.stop();
  });
  const view = (id: string): StationView | undefined => running.manager.store.station('home', id);
  const job = (id: string): JobView | undefined => running.manager.store.job(id);
  return { dir, site, start, running, view, job };
}
