import { existsSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { Argument, type Command, Option } from 'commander';
import { connectRpc, type RpcClient } from '../../adapters/sockets/rpc.js';
import { AppError } from '../../core/errors.js';
import { RELEASE_KINDS, type ReleaseKind } from '../../fleet/manifest.js';
import { type CommandOrder, MOST_LOG_MINUTES, RESTARTED, type Restarted } from '../../protocol/command.js';
import {
  type JobView,
  MANAGER_SOCKET,
  managerNotifications,
  managerRequests,
  type OrderOutcome,
} from '../../protocol/manager-api.js';
import { prepareManager } from './fleet-prepare.js';
import { jobsTable, jobText, stationsTable, stationTables } from './fleet-tables.js';
import { note, printJson, siteRunDir } from './output.js';

type Manager = RpcClient<typeof managerRequests>;

interface Common {
  readonly json?: boolean;
  readonly socket?: string;
}
interface UpdateOptions extends Common {
  readonly release: string;
  readonly kind: ReleaseKind;
  readonly deadline?: string;
  readonly urgent?: boolean;
  readonly retry?: boolean;
  readonly baseUrl?: string;
  readonly watch?: boolean;
}
interface LogOptions extends Common {
  readonly minutes: string;
  readonly level: 'info' | 'warn';
}

const ASK_MS = 10_000;
/** A self-test waits for others; the manager gives up before. */
const RUN_MS = 75_000;
const UNITS_MS: Readonly<Record<string, number>> = { m: 60_000, h: 3_600_000, d: 86_400_000 };

const FLEET_HELP = `
A station is named as in the list: door, or door@gate where several sites have one.
Who gives an order is noted with it (fleet station, fleet audit).

Exit codes of update --watch: 0 every station runs the release, 1 one does not.`;

export function addFleetCommands(program: Command): void {
  const fleet = program
    .command('fleet')
    .description('the stations that a fleet manager looks after (docs/updates.md)')
    .addHelpText('after', FLEET_HELP);
  const command = (name: string, description: string): Command =>
    fleet
      .command(name)
      .description(description)
      .option('--json', 'one JSON object')
      .option('--socket <path>', "the manager's, where it is not in its usual place");
  fleet
    .command('prepare <dir>')
    .description('writes manager.yaml, for node dist/src/bin/manager.js; keeps one that is there')
    .requiredOption('--url <url>', "mqtts://host:port of a site's broker, or of the cloud's")
    .requiredOption('--credentials <folder>', "certificates: a site host's state/pki, or the cloud's pki")
    .option('--site <id>', 'the one whose broker it is; else all that the broker has')
    .option('--repository <folder>', 'of releases (entryphone release publish)')
    .action(prepareManager);
  command('stations', 'all that were ever heard of, and what they run').action(stations);
  command('station <id>', 'what one says of itself, its jobs, and who ordered what').action(station);
  command('update <id...>', 'has stations fetch, install and prove a release')
    .requiredOption('--release <version>', 'which, of those in the repository that are signed')
    .addOption(new Option('--kind <kind>', 'of the release').choices(RELEASE_KINDS).default('firmware'))
    .option('--deadline <time>', 'over by then, or timed out: 30m, 12h, 3d')
    .option('--urgent', 'at any hour; never in a call')
    .option('--retry', 'also where this release has failed before')
    .option('--base-url <url>', 'https: where the repository is served besides')
    .option('--watch', 'shows how it goes, until all are done')
    .action(update);
  command('jobs [id...]', 'the last jobs, or these').action(jobs);
  command('watch <job...>', 'how jobs go, until all are done').action(watch);
  command('cancel <job>', 'calls a job off; a station that has confirmed its release keeps it').action(cancel);
  fleet
    .command('run')
    .description('has a station do something now: self-test, restart')
    .addArgument(new Argument('<what>').choices(['self-test', ...RESTARTED.map((service) => `restart-${service}`)]))
    .argument('<id>', 'which station')
    .option('--json', 'one JSON object')
    .option('--socket <path>', "the manager's, where it is not in its usual place")
    .action(run);
  command('logs <id>', 'what a station logs, for some minutes')
    .option('--minutes <number>', `at most ${MOST_LOG_MINUTES}`, String(MOST_LOG_MINUTES))
    .addOption(new Option('--level <level>', 'and above').choices(['info', 'warn']).default('info'))
    .action(logs);
  command('audit', 'who ordered what, and what came of it')
    .option('--most <number>', 'the newest so many', '50')
    .action(audit);
  command('key', 'the public key that stations are to have in fleet.commandKeys').action(key);
}

async function stations(options: Common): Promise<void> {
  await withManager(options, async (manager) => {
    const found = await manager.call('fleet.stations', {});
    if (options.json === true) printJson({ ok: true, failed: [], ...found });
    else process.stdout.write(`${stationsTable(found.stations, Date.now())}\n`);
    // What the table says is then of before, or nothing at all.
    const { broker } = await manager.call('manager.status', {});
    if (!broker.connected) note(`the manager is not connected to its broker. ${broker.fault ?? 'It is trying'}`);
  });
}

async function station(id: string, options: Common): Promise<void> {
  await withManager(options, async (manager) => {
    const found = await manager.call('fleet.station', { station: id });
    if (options.json === true) printJson({ ok: true, failed: [], ...found });
    else process.stdout.write(`${stationTables(found, Date.now())}\n`);
  });
}

async function update(ids: string[], options: UpdateOptions): Promise<void> {
  const { release: version, kind, deadline, urgent, retry, baseUrl } = options;
  const deadlineMs = deadline === undefined ? null : timeOf(deadline);
  await followed(options, async (manager) => {
    const order = { stations: ids, kind, version, deadlineMs, isUrgent: urgent === true, mayRetry: retry === true };
    return (await manager.call('fleet.update', { ...order, baseUrl: baseUrl ?? null, by: whoAsks() })).jobs;
  });
}

async function watch(jobIds: string[], options: Common): Promise<void> {
  await followed({ ...options, watch: true }, async (manager) => {
    const found = (await manager.call('fleet.jobs', { jobIds })).jobs;
    const missing = jobIds.find((jobId) => !found.some((job) => job.jobId === jobId));
    if (missing !== undefined) {
      throw new AppError('job-unknown', `there is no job ${missing}`, { remedy: 'See: entryphone fleet jobs' });
    }
    return found;
  });
}

/** Shows jobs as they are; with `watch` until all are over, each change a line on stderr. */
async function followed(
  options: Common & { readonly watch?: boolean },
  ask: (manager: Manager) => Promise<JobView[]>,
): Promise<void> {
  const told = new Map<string, JobView>();
  let changed = (): void => {};
  let lost: AppError | null = null;
  const manager = await connect(options, {
    onJob: (job) => {
      told.set(job.jobId, job);
      changed();
    },
    onClose: () => {
      lost = new AppError('not-running', 'the fleet manager has ended', {
        remedy: 'entryphone fleet watch, when it is back',
      });
      changed();
    },
  });
  try {
    const asked = await ask(manager);
    const current = (): JobView[] => asked.map((job) => newer(job, told.get(job.jobId)));
    if (options.watch === true) {
      const shown = new Map<string, string>();
      for (;;) {
        for (const job of current()) {
          const text = jobText(job);
          if (shown.get(job.jobId) !== text) note(text);
          shown.set(job.jobId, text);
        }
        if (lost !== null) throw lost;
        if (current().every(({ isOver }) => isOver)) break;
        await new Promise<void>((resolve) => {
          changed = resolve;
        });
      }
    }
    const last = current();
    const failed = last.filter(({ isOver, now }) => isOver && now.state !== 'succeeded');
    const isOk = failed.length === 0;
    const failures = failed.map(({ station: id, site, now }) => `${id}@${site}: ${now.state}: ${now.reason ?? ''}`);
    if (options.json === true) printJson({ ok: isOk, failed: failures, jobs: last });
    else process.stdout.write(`${jobsTable(last)}\n`);
    if (!isOk) process.exitCode = 1;
  } finally {
    manager.close();
  }
}

function newer(a: JobView, b: JobView | undefined): JobView {
  return b === undefined || b.now.seq < a.now.seq ? a : b;
}

async function jobs(jobIds: string[], options: Common): Promise<void> {
  await withManager(options, async (manager) => {
    const found = await manager.call('fleet.jobs', jobIds.length === 0 ? {} : { jobIds });
    if (options.json === true) printJson({ ok: true, failed: [], ...found });
    else process.stdout.write(`${jobsTable(found.jobs)}\n`);
  });
}

async function cancel(jobId: string, options: Common): Promise<void> {
  await withManager(options, async (manager) => {
    const job = await manager.call('fleet.cancel', { jobId, by: whoAsks() });
    if (options.json === true) printJson({ ok: true, failed: [], job });
    else note(`${jobId} is called off at ${job.station}@${job.site}; what came of it: entryphone fleet watch ${jobId}`);
  });
}

async function run(what: string, id: string, options: Common): Promise<void> {
  const order: CommandOrder =
    what === 'self-test'
      ? { verb: 'self-test' }
      : { verb: 'restart', service: what.slice('restart-'.length) as Restarted };
  await withManager(options, async (manager) => {
    const outcome = await manager.call('fleet.run', { station: id, order, by: whoAsks() }, { timeoutMs: RUN_MS });
    const { result } = outcome;
    const isOk = outcome.ok && result?.ok !== false;
    const failed = isOk
      ? []
      : Array.isArray(result?.failed)
        ? result.failed.map(String)
        : [`${outcome.code}: ${outcome.text}`];
    if (options.json === true) printJson({ ...outcome, ok: isOk, failed });
    else tellOutcome(outcome, failed);
    if (!isOk) process.exitCode = 1;
  });
}

function tellOutcome({ text, remedy }: OrderOutcome, failed: readonly string[]): void {
  process.stdout.write(`${text}${failed.length === 0 ? '' : `\n${failed.map((one) => `  ${one}`).join('\n')}`}\n`);
  if (remedy !== null) note(remedy);
}

/** Lines on stdout as they come, until the time is over or Ctrl-C; with --json one object at the end. */
async function logs(id: string, options: LogOptions): Promise<void> {
  const minutes = Number(options.minutes);
  if (!(Number.isInteger(minutes) && minutes >= 1 && minutes <= MOST_LOG_MINUTES)) {
    throw new AppError('usage', `--minutes ${options.minutes} is no number from 1 to ${MOST_LOG_MINUTES}`);
  }
  const kept: string[] = [];
  let dropped = 0;
  let commandId = '';
  let end = (_why: string): void => {};
  const early: (() => void)[] = [];
  const ended = new Promise<string>((resolve) => {
    end = resolve;
  });
  const manager = await connect(options, {
    onLog: (told) => {
      const take = (): void => {
        if (told.commandId !== commandId) return;
        dropped += told.dropped;
        for (const line of told.lines) {
          if (options.json === true) kept.push(line);
          else process.stdout.write(`${line}\n`);
        }
        if (told.dropped > 0 && options.json !== true) note(`(${told.dropped} lines more)`);
        if (told.ended !== null) end(told.ended);
      };
      // The first lines may come before the answer that says which they are.
      if (commandId === '') early.push(take);
      else take();
    },
    onClose: () => end('manager-ended'),
  });
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => end('interrupted'));
  process.stdout.once('error', () => end('interrupted'));
  try {
    const order = { verb: 'logs', minutes, level: options.level } as const;
    const outcome = await manager.call('fleet.run', { station: id, order, by: whoAsks() }, { timeoutMs: RUN_MS });
    if (!outcome.ok)
      throw new AppError(outcome.code, outcome.text, outcome.remedy === null ? {} : { remedy: outcome.remedy });
    note(outcome.text);
    commandId = outcome.commandId;
    for (const take of early) take();
    const why = await ended;
    if (why === 'interrupted') {
      const stop = { ...order, minutes: 0 };
      await manager
        .call('fleet.run', { station: id, order: stop, by: whoAsks() }, { timeoutMs: RUN_MS })
        .catch(() => {});
    }
    if (options.json === true) printJson({ ok: true, failed: [], lines: kept, dropped, ended: why });
    else note(`the log has ended: ${why}`);
  } finally {
    manager.close();
  }
}

async function audit(options: Common & { readonly most: string }): Promise<void> {
  const most = Number(options.most);
  if (!(Number.isInteger(most) && most >= 1 && most <= 1_000))
    throw new AppError('usage', `--most ${options.most} is no number from 1 to 1000`);
  await withManager(options, async (manager) => {
    const { audit: entries } = await manager.call('fleet.audit', { most });
    if (options.json === true) printJson({ ok: true, failed: [], audit: entries });
    else {
      if (entries.length === 0) note('nothing was ordered yet');
      for (const { atMs, by, what, target, outcome, detail } of entries.toReversed()) {
        process.stdout.write(`${new Date(atMs).toISOString()} ${by} ${what} ${target}: ${outcome} ${detail}\n`);
      }
    }
  });
}

async function key(options: Common): Promise<void> {
  await withManager(options, async (manager) => {
    const { commandKey } = await manager.call('manager.status', {});
    if (options.json === true) printJson({ ok: true, failed: [], commandKey });
    else process.stdout.write(`${commandKey}\n`);
  });
}

/** For the audit. Who may order is decided by the socket's file mode, not by what is said here. */
function whoAsks(): string {
  return (process.env.SUDO_USER ?? userInfo().username).slice(0, 64);
}

/** @throws AppError `usage` */
function timeOf(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,4})([mhd])$/.exec(text) ?? [];
  const ms = Number(count) * (UNITS_MS[unit] ?? 0);
  if (ms >= 60_000 && ms <= 30 * 86_400_000) return ms;
  throw new AppError('usage', `--deadline ${text} is no time`, { remedy: 'Such as 30m, 12h or 3d; at most 30d' });
}

async function withManager(options: Common, ask: (manager: Manager) => Promise<void>): Promise<void> {
  const manager = await connect(options, {});
  try {
    await ask(manager);
  } finally {
    manager.close();
  }
}

type LogLines = (typeof managerNotifications)['log.lines']['_output'];

/** @throws AppError `not-running` */
async function connect(
  { socket }: Common,
  on: { onJob?: (job: JobView) => void; onLog?: (lines: LogLines) => void; onClose?: () => void },
): Promise<Manager> {
  const usual = [join(siteRunDir(), MANAGER_SOCKET), `/run/entryphone-manager/${MANAGER_SOCKET}`];
  const path = socket ?? usual.find((one) => existsSync(one)) ?? usual[1] ?? '';
  return connectRpc({
    path,
    requests: managerRequests,
    notifications: managerNotifications,
    timeoutMs: ASK_MS,
    onClose: on.onClose ?? (() => {}),
    onNotification: (name, params) => {
      if (name === 'job.changed') on.onJob?.(params as JobView);
      else on.onLog?.(params as LogLines);
    },
  }).catch((cause: unknown) => {
    throw new AppError('not-running', `no fleet manager answers on ${path}`, {
      remedy: 'Start it: node dist/src/bin/manager.js --config manager.yaml (docs/updates.md)',
      cause,
    });
  });
}
