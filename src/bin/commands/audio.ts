import Table from 'cli-table3';
import type { Command } from 'commander';
import { listCards } from '../../adapters/alsa/list-cards.js';
import { CLOSE_ROWS, note, PLAIN, printJson } from './output.js';

export function addAudioCommand(program: Command): void {
  program
    .command('audio')
    .description('sound devices')
    .command('list')
    .description('the ALSA devices of this machine, as a configuration names them')
    .option('--json', 'one JSON object')
    .action((options: { json?: boolean }) => {
      const cards = listCards();
      if (options.json === true) {
        printJson({ ok: true, failed: [], devices: cards });
        return;
      }
      if (cards.length === 0) {
        note('ALSA knows no device here. Is a sound card there, and are you in the group audio?');
        return;
      }
      const table = new Table({
        head: ['device', 'microphone', 'speaker', 'what it is'],
        style: PLAIN,
        chars: CLOSE_ROWS,
      });
      for (const card of cards)
        table.push([card.device, card.capture ? 'yes' : '', card.playback ? 'yes' : '', card.description]);
      process.stdout.write(`${table.toString()}\n`);
    });
}
