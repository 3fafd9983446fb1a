import { setTimeout as sleep } from 'node:timers/promises';
import { styleText } from 'node:util';
import type { Command } from 'commander';
import { AppError, errorText } from '../../core/errors.js';
import { connectStation } from '../../lab/site.js';
import type { StationStatus } from '../../protocol/station-api.js';
import { printJson, runningStations } from './output.js';
import { statusTable } from './status-table.js';

interface StatusOptions {
  readonly station?: string;
  readonly watch?: boolean;
  readonly json?: boolean;
}

const WATCH_EVERY_MS = 1_000;
/** ECMA-48: to the top left; erase the rest of the line; erase the rest of the screen. */
const [HOME, ERASE_LINE, ERASE_BELOW] = ['\x1b[H', '\x1b[K', '\x1b[J'];

export function addStatusCommand(program: Command): void {
  program
    .command('status')
    .description('what the running stations are doing')
    .option('--station <id>', 'only this one')
    .option('--watch', 'anew each second, until Ctrl-C')
    .option('--json', 'one JSON object')
    .action(async ({ station, watch, json }: StatusOptions) => {
      if (watch === true && json === true) {
        throw new AppError('usage', '--watch has no --json', {
          remedy: 'Ask --json as often as you like, or read the Prometheus figures of station-metrics.sock',
        });
      }
      if (watch === true) await showUntilEnded(station);
      else if (json === true) printJson({ ok: true, failed: [], stations: await askAll(station) });
      else process.stdout.write(await tables(station));
    });
}

/** @throws AppError `not-running`, at the start; later it is shown, until they are back */
async function showUntilEnded(only: string | undefined): Promise<void> {
  const ending = new AbortController();
  const { signal } = ending;
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => ending.abort());
  // Who reads has gone, as `head` does.
  process.stdout.once('error', () => ending.abort());
  let text = await tables(only);
  if (process.stdout.isTTY) process.stdout.write(HOME + ERASE_BELOW);
  while (!signal.aborted) {
    process.stdout.write(process.stdout.isTTY ? redrawn(text) : text);
    await sleep(WATCH_EVERY_MS, undefined, { signal }).catch(() => {});
    if (signal.aborted) return;
    text = await tables(only).catch((error: unknown) => {
      return `${styleText('red', errorText(error), { stream: process.stdout })}\n`;
    });
  }
}

function redrawn(text: string): string {
  return `${HOME}${text.replaceAll('\n', `${ERASE_LINE}\n`)}${ERASE_BELOW}`;
}

async function tables(only: string | undefined): Promise<string> {
  return (await askAll(only)).map((station) => `${statusTable(station)}\n`).join('');
}

function askAll(only: string | undefined): Promise<StationStatus[]> {
  return Promise.all(runningStations(only).map(({ id, runDir }) => ask(id, runDir)));
}

async function ask(id: string, runDir: string): Promise<StationStatus> {
  const client = await connectStation(runDir).catch((cause: unknown) => {
    throw new AppError('not-running', `${id} does not answer`, {
      remedy: 'Is it just starting? Else: make run',
      cause,
    });
  });
  try {
    return await client.call('station.status', {});
  } finally {
    client.close();
  }
}
