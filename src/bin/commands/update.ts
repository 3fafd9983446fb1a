import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { styleText } from 'node:util';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { AppError } from '../../core/errors.js';
import { otherSlot, SEED_VERSION } from '../../fleet/slots.js';
import { isOver } from '../../fleet/update-journal.js';
import { connectStation } from '../../lab/site.js';
import type { UpdateStatus, UpdateView } from '../../protocol/update.js';
import { note, PLAIN, printJson, runningStation } from './output.js';

interface Common {
  readonly station?: string;
  readonly json?: boolean;
}

type StationClient = Awaited<ReturnType<typeof connectStation>>;

/** It reads the manifest and checks its signature before it answers. */
const ORDER_MS = 30_000;
const LOOK_EVERY_MS = 1_000;
/** A station that starts into another release is away meanwhile; one whose release is bad several times. */
const MOST_AWAY_MS = 180_000;

const UPDATE_HELP = `
install takes a release that is signed for a stick (release sign --rescue): FOLDER is
REPOSITORY/releases/VERSION/ARCHITECTURE, with its chunks in REPOSITORY/chunks, all of it
readable for the station; on a board below /media or /mnt. The station restarts into it,
never in a call, and keeps it once it has proven itself.

Exit codes of install: 0 the release runs and stays, 1 it does not, 69 no station is
running here. Ctrl-C ends the looking on, not the job: update cancel does.`;

export function addUpdateCommands(program: Command): void {
  const update = program
    .command('update')
    .description('the releases of a station that runs from slots: what it has, and what is under way')
    .addHelpText('after', UPDATE_HELP);
  const command = (name: string, text: string) =>
    update
      .command(name)
      .description(text)
      .option('--station <id>', 'which one (the indoor one, or the only one that runs)')
      .option('--json', 'one JSON object');
  command('status', 'what each slot has, which runs, and the last job').action(status);
  command('install <folder>', 'installs a release from a folder, and shows how it goes until its end')
    .option('--no-wait', 'returns as soon as the job has begun')
    .action(install);
  command('cancel [job]', 'ends a job, unless its release is confirmed already (the one that is under way)').action(
    cancel,
  );
}

async function status({ station, json }: Common): Promise<void> {
  const found = await withStation(station, (client) => client.call('update.status', {}));
  if (json === true) printJson({ ok: true, failed: [], ...found });
  else process.stdout.write(`${tableOf(found)}\n`);
}

async function install(folder: string, options: Common & { readonly wait: boolean }): Promise<void> {
  const place = resolve(folder);
  // The same one to the end, whichever others come and go.
  const { id } = runningStation(options.station);
  const begun = await withStation(id, (client) =>
    client.call('update.install', { folder: place }, { timeoutMs: ORDER_MS }),
  );
  const end = options.wait ? await followed(id, begun) : begun;
  const failed = options.wait && end.state !== 'succeeded' ? [textOf(end)] : [];
  if (options.json === true) printJson({ ok: failed.length === 0, failed, job: end });
  else if (!options.wait) note(`${textOf(end)}; how it goes: entryphone update status`);
  if (failed.length > 0) process.exitCode = 1;
}

async function cancel(named: string | undefined, { station, json }: Common): Promise<void> {
  const { id } = runningStation(station);
  const job = await withStation(id, async (client) => {
    const { job } = await client.call('update.status', {});
    if (job === null || isOver(job.state) || (named !== undefined && job.jobId !== named)) {
      throw new AppError('no-such-job', named === undefined ? 'no job is under way' : `no job ${named} is under way`, {
        remedy: 'entryphone update status shows what is',
      });
    }
    await client.call('update.cancel', { jobId: job.jobId });
    return job;
  });
  const end = await followed(id, job);
  const failed = end.state === 'canceled' ? [] : [textOf(end)];
  if (json === true) printJson({ ok: failed.length === 0, failed, job: end });
  if (failed.length > 0) process.exitCode = 1;
}

/**
 * Tells each change of a job on stderr, through the restarts of the station that belong to it.
 * @returns the job when it is over
 * @throws AppError `not-running` where the station stays away, `no-such-job` where it does not know of it any more
 */
async function followed(station: string, job: UpdateView): Promise<UpdateView> {
  let [last, told, awayMs] = [job, '', 0];
  const heard = (view: UpdateView): void => {
    if (view.jobId !== job.jobId || view.seq < last.seq) return;
    last = view;
    const text = textOf(view);
    if (text !== told) note(text);
    told = text;
  };
  heard(job);
  while (!isOver(last.state)) {
    try {
      const onNotification = (name: string, view: unknown) => {
        if (name === 'update.changed') heard(view as UpdateView);
      };
      await withStation(
        station,
        async (client) => {
          while (!isOver(last.state)) {
            // What was told while nobody listened, and whether it is there at all.
            const { job: now } = await client.call('update.status', {});
            if (now?.jobId !== job.jobId) throw new AppError('no-such-job', `the station has no job ${job.jobId}`);
            heard(now);
            awayMs = 0;
            if (!isOver(last.state)) await sleep(LOOK_EVERY_MS);
          }
        },
        onNotification,
      );
    } catch (error) {
      if (error instanceof AppError && ['no-such-job', 'updates-off'].includes(error.code)) throw error;
      if (awayMs >= MOST_AWAY_MS) {
        throw new AppError('not-running', 'the station does not come back', {
          remedy: 'journalctl -u entryphone-station says why; its launcher goes back to the release before by itself',
          cause: error,
        });
      }
      awayMs += LOOK_EVERY_MS;
      await sleep(LOOK_EVERY_MS);
    }
  }
  return last;
}

async function withStation<T>(
  id: string | undefined,
  ask: (client: StationClient) => Promise<T>,
  onNotification?: (name: string, params: unknown) => void,
): Promise<T> {
  const client = await connectStation(runningStation(id).runDir, onNotification);
  try {
    return await ask(client);
  } finally {
    client.close();
  }
}

function tableOf({ current, slots, floor, others, job }: UpdateStatus): string {
  const table = new Table({ style: PLAIN, head: ['slot', 'release', 'is', ''], wordWrap: true });
  for (const name of ['a', 'b'] as const) {
    const { is, version, isConfirmed, reason } = slots[name];
    const state = is === 'whole' ? (isConfirmed ? 'confirmed' : name === current ? 'on trial' : 'whole') : is;
    const runs = name === current ? styleText('green', 'runs', { stream: process.stdout }) : '';
    table.push([name, version ?? '', reason === null ? state : `${state}: ${reason}`, runs]);
  }
  const words = [
    floor === null ? '' : `nothing older than ${floor} is taken`,
    ...others.map(partText),
    job === null ? 'no job yet' : `job ${job.jobId}: ${textOf(job)}`,
  ];
  return [table.toString(), ...words.filter((text) => text !== '')].join('\n');
}

/** A kind that has slots of its own beside the firmware's. */
function partText({ kind, current, slots, floor }: UpdateStatus['others'][number]): string {
  const { version, isConfirmed } = slots[current];
  const runs =
    version === SEED_VERSION ? 'as they were before the first release' : `${version}${isConfirmed ? '' : ', on trial'}`;
  const { is, version: failed, reason } = slots[otherSlot(current)];
  const other = is === 'failed' ? `; ${failed} failed: ${reason}` : '';
  return `${kind}: ${runs}${other}${floor === null || floor === SEED_VERSION ? '' : `; nothing older than ${floor}`}`;
}

function textOf({ kind, version, state, step, progressPct, reason }: UpdateView): string {
  const at = isOver(state) || step === null ? '' : `, ${step} ${Math.round(progressPct)} %`;
  return `${kind} ${version} ${state.replace('_', ' ')}${at}${reason === null ? '' : `: ${reason}`}`;
}
