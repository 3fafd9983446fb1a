import { Command } from 'commander';
import { addAudioCommand } from './commands/audio.js';
import { addCallCommands } from './commands/call.js';
import { addConfigCommands } from './commands/config.js';
import { addGatewayCommand } from './commands/gateway.js';
import { addInstallCommand } from './commands/install.js';
import { addLabCommands } from './commands/lab.js';
import { addNodesCommand } from './commands/nodes.js';
import { fail } from './commands/output.js';
import { addRunCommand } from './commands/run.js';
import { addSiteCommands } from './commands/site.js';
import { addStatusCommand } from './commands/status.js';

const program = new Command('entryphone')
  .description(
    'The intercom runtime: two stations on this machine (run), measured (lab), asked (status), driven (call, press, say).',
  )
  .showHelpAfterError('(entryphone --help lists the commands)')
  .addHelpText(
    'after',
    '\nExit codes: 0 done, 1 failed, 2 a wrong configuration or wrong usage, 69 not running or not set up.',
  );

addRunCommand(program);
addSiteCommands(program);
addCallCommands(program);
addStatusCommand(program);
addLabCommands(program);
addConfigCommands(program);
addInstallCommand(program);
addGatewayCommand(program);
addAudioCommand(program);
addNodesCommand(program);
program.configureOutput({ outputError: (text, write) => write(text) });
program.exitOverride((error) => {
  process.exit(error.exitCode === 0 ? 0 : 2);
});

try {
  await program.parseAsync();
} catch (error) {
  fail(error);
}
