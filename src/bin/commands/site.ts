import { resolve } from 'node:path';
import type { Command } from 'commander';
import { AppError } from '../../core/errors.js';
import { STATIONS, type StationId } from '../../lab/site-config.js';
import { connectSiteControl } from '../../lab/site-control.js';
import { siteRunDir } from './output.js';

export function addSiteCommands(program: Command): void {
  program
    .command('press <station> <button>')
    .description('press a button of a running virtual board: door or indoor, bell or open')
    .option('--hold <ms>', 'how long the contact stays closed', '120')
    .action(async (station: string, button: string, options: { hold: string }) => {
      const site = await connect();
      await site.call('board.press', { station: stationOf(station), button, holdMs: Number(options.hold) });
      site.close();
    });
  program
    .command('say <station> [text]')
    .description("speak into a running virtual station's microphone")
    .option('--file <wav>', 'play this recording instead')
    .action(async (station: string, text: string | undefined, options: { file?: string }) => {
      if ((text === undefined) === (options.file === undefined))
        throw new AppError('usage', 'say needs a text or --file, one of them');
      const site = await connect();
      const what = text === undefined ? { file: resolve(options.file ?? '') } : { text };
      await site.call('sound.say', { station: stationOf(station), ...what });
      site.close();
    });
}

async function connect() {
  try {
    return await connectSiteControl(siteRunDir());
  } catch (cause) {
    throw new AppError('not-running', 'no site is running here', { remedy: 'Start it with: make run', cause });
  }
}

function stationOf(text: string): StationId {
  const found = STATIONS.find((id) => id === text);
  if (found === undefined)
    throw new AppError('usage', `${text} is no station`, { remedy: `There is: ${STATIONS.join(', ')}` });
  return found;
}
