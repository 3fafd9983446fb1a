import Table from 'cli-table3';
import type { Command } from 'commander';
import { LOCALES, type Locale, type PaletteNode, readPalette } from '../../flows/palette-catalogue.js';
import { CLOSE_ROWS, note, PLAIN, printJson } from './output.js';

export function addNodesCommand(program: Command): void {
  program
    .command('nodes')
    .description('the Node-RED nodes that a station brings, with their languages and examples')
    .option('--json', 'one JSON object')
    .action((options: { json?: boolean }) => {
      const { nodes, faults } = readPalette();
      if (options.json === true) printJson({ ok: faults.length === 0, failed: faults, nodes });
      else {
        process.stdout.write(`${tableOf(nodes, ownLocale())}\n`);
        for (const fault of faults) note(fault);
      }
      if (faults.length > 0) process.exitCode = 1;
    });
}

function tableOf(nodes: readonly PaletteNode[], locale: Locale): string {
  const table = new Table({
    head: ['node', 'in', 'out', 'languages', 'examples', 'what it does'],
    style: PLAIN,
    chars: CLOSE_ROWS,
  });
  for (const { type, category, inputs, outputs, locales, examples, help } of nodes) {
    const ports = category === 'config' ? ['', ''] : [String(inputs), String(outputs)];
    // What a config node is part of is everything.
    const shown = category === 'config' ? 'all' : examples.join(', ');
    table.push([type, ...ports, locales.join(', '), shown, help[locale] ?? '']);
  }
  return table.toString();
}

/** The help in the language of this terminal, where we speak it. */
function ownLocale(): Locale {
  const { LC_ALL, LC_MESSAGES, LANG } = process.env;
  return (LC_ALL || LC_MESSAGES || LANG || '').startsWith('zh') ? LOCALES[1] : LOCALES[0];
}
