import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { readWav } from '../../audio/wav.js';
import { AppError, errorText } from '../../core/errors.js';
import { STATIONS, type StationId } from '../../lab/site-config.js';
import { connectSiteControl } from '../../lab/site-control.js';
import { siteRunDir } from './output.js';

export function addSiteCommands(program: Command): void {
  program
    .command('press <station> <button>')
    .description('press a button of a running virtual board: door or indoor, bell or open')
    .option('--hold <ms>', 'how long the contact stays closed', '120')
    .action(async (station: string, button: string, options: { hold: string }) => {
      const holdMs = Number(options.hold);
      if (!(Number.isInteger(holdMs) && holdMs >= 10 && holdMs <= 10_000)) {
        throw new AppError('usage', `--hold ${options.hold} is no time`, {
          remedy: 'In milliseconds, from 10 to 10000',
        });
      }
      const pressed = { station: stationOf(station), button, holdMs };
      await onSite((site) => site.call('board.press', pressed));
    });
  program
    .command('say <station> [text]')
    .description("speak into a running virtual station's microphone")
    .option('--file <wav>', 'play this recording instead')
    .action(async (station: string, text: string | undefined, options: { file?: string }) => {
      if ((text ?? '') === '' ? options.file === undefined : options.file !== undefined) {
        throw new AppError('usage', 'say needs a text or --file, one of them', {
          remedy: 'Such as: entryphone say door "Hello"',
        });
      }
      const what = options.file === undefined ? { text: text ?? '' } : { file: recording(options.file) };
      const said = { station: stationOf(station), ...what };
      await onSite((site) => site.call('sound.say', said));
    });
}

/** @throws AppError `usage` for what can't be played */
function recording(file: string): string {
  try {
    readWav(readFileSync(file));
  } catch (error) {
    const why =
      error instanceof AppError ? errorText(error) : `can't be read (${(error as NodeJS.ErrnoException).code})`;
    throw new AppError('usage', `--file ${file}: ${why}`);
  }
  return resolve(file);
}

/** @throws AppError `not-running`, and what `ask` throws */
async function onSite(ask: (site: Awaited<ReturnType<typeof connectSiteControl>>) => Promise<unknown>): Promise<void> {
  const site = await connectSiteControl(siteRunDir()).catch((cause: unknown) => {
    throw new AppError('not-running', 'no site is running here', { remedy: 'Start it with: make run', cause });
  });
  try {
    await ask(site);
  } finally {
    site.close();
  }
}

function stationOf(text: string): StationId {
  const found = STATIONS.find((id) => id === text);
  if (found === undefined)
    throw new AppError('usage', `${text} is no station`, { remedy: `There is: ${STATIONS.join(', ')}` });
  return found;
}
