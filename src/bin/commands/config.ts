import { styleText } from 'node:util';
import type { Command } from 'commander';
import type { DefaultsInUse } from '../../config/defaults.js';
import { boardJsonSchema, configJsonSchema, loadConfig } from '../../config/load.js';
import { ConfigError, type ConfigFault } from '../../config/yaml-file.js';
import { note, printJson } from './output.js';

export function addConfigCommands(program: Command): void {
  const config = program.command('config').description("a station's configuration");
  config
    .command('check <files...>')
    .description('name every fault at once; exit 2 if there is any')
    .option('--json', 'one JSON object')
    .action((files: string[], options: { json?: boolean }) => {
      const checked = files.map(checkedFile);
      const faults = checked.flatMap((one) => one.faults);
      if (options.json === true)
        printJson({
          ok: faults.length === 0,
          failed: faults.map((fault) => `${fault.file}: ${fault.path || 'file'}: ${fault.text}`),
          faults,
          defaults: checked.flatMap(({ file, defaults }) => (defaults === null ? [] : [{ file, ...defaults }])),
        });
      else {
        for (const fault of faults) noteFault(fault);
        for (const { file, defaults } of checked) if (defaults !== null) noteDefaults(file, defaults);
      }
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

interface CheckedFile {
  readonly file: string;
  readonly faults: readonly ConfigFault[];
  readonly defaults: DefaultsInUse | null;
}

function checkedFile(file: string): CheckedFile {
  try {
    return { file, faults: [], defaults: loadConfig(file).defaults };
  } catch (error) {
    if (error instanceof ConfigError) return { file, faults: error.faults, defaults: null };
    throw error;
  }
}

function noteFault({ file, path, text }: ConfigFault): void {
  note(`${file}: ${styleText('red', path || 'file', { stream: process.stderr })}: ${text}`);
}

/** Left out they are no fault of the station's own file, and keep it from nothing. */
function noteDefaults(file: string, { version, isApplied, faults }: DefaultsInUse): void {
  const release = `the configuration defaults of release ${version ?? 'unknown'}`;
  note(isApplied ? `${file}: under it stand ${release}` : `${file}: ${release} are left out:`);
  for (const fault of faults) noteFault(fault);
}
