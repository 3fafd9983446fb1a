import { styleText } from 'node:util';
import type { Command } from 'commander';
import { boardJsonSchema, ConfigError, type ConfigFault, configJsonSchema, loadConfig } from '../../config/load.js';
import { note, printJson } from './output.js';

export function addConfigCommands(program: Command): void {
  const config = program.command('config').description("a station's configuration");
  config
    .command('check <files...>')
    .description('name every fault at once; exit 2 if there is any')
    .option('--json', 'one JSON object')
    .action((files: string[], options: { json?: boolean }) => {
      const faults = files.flatMap(faultsOf);
      if (options.json === true)
        printJson({
          ok: faults.length === 0,
          failed: faults.map((fault) => `${fault.file}: ${fault.path || 'file'}: ${fault.text}`),
          faults,
        });
      else
        for (const fault of faults)
          note(`${fault.file}: ${styleText('red', fault.path || 'file', { stream: process.stderr })}: ${fault.text}`);
      if (faults.length === 0 && options.json !== true)
        note(`${files.length === 1 ? files[0] : `${files.length} files`}: no faults`);
      process.exitCode = faults.length === 0 ? 0 : 2;
    });
  config
    .command('schema')
    .description('the JSON Schema, for editors')
    .option('--board', 'of a board profile')
    .action((options: { board?: boolean }) => {
      process.stdout.write(
        `${JSON.stringify(options.board === true ? boardJsonSchema() : configJsonSchema(), null, 2)}\n`,
      );
    });
}

function faultsOf(file: string): readonly ConfigFault[] {
  try {
    loadConfig(file);
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.faults;
    throw error;
  }
}
