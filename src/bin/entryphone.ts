import { Command } from 'commander';
import { addAudioCommand } from './commands/audio.js';
import { addCallCommands } from './commands/call.js';
import { addConfigCommands } from './commands/config.js';
import { addFleetCommands } from './commands/fleet.js';
import { addFlowsCommands } from './commands/flows.js';
import { addGatewayCommand } from './commands/gateway.js';
import { addInstallCommand } from './commands/install.js';
import { addKeysCommands } from './commands/keys.js';
import { addLabCommands } from './commands/lab.js';
import { addNodesCommand } from './commands/nodes.js';
import { fail, failedUsage } from './commands/output.js';
import { addReleaseCommands } from './commands/release.js';
import { addReleaseTrustCommands } from './commands/release-trust.js';
import { addRunCommand } from './commands/run.js';
import { addSelfTestCommand } from './commands/selftest.js';
import { addSiteCommands } from './commands/site.js';
import { addStatusCommand } from './commands/status.js';
import { addUpdateCommands } from './commands/update.js';

const program = new Command('entryphone')
  .description(
    'The intercom runtime: two stations on this machine (run), measured (lab), asked (status), driven (call, press, say).',
  )
  .showHelpAfterError('(entryphone --help lists the commands; --help behind a command, what it takes)')
  // Before the commands, which inherit it.
  .exitOverride((error) => {
    if (error.exitCode === 0) process.exit(0);
    failedUsage(error.message);
    process.exit(2);
  })
  .addHelpText(
    'after',
    `
With --json: one JSON object on stdout, whatever happens, with ok and failed (what went wrong); all other words on stderr.
Exit codes: 0 done, 1 failed, 2 a wrong configuration or wrong usage, 69 not running or not set up.`,
  );

addRunCommand(program);
addSiteCommands(program);
addCallCommands(program);
addStatusCommand(program);
addSelfTestCommand(program);
addLabCommands(program);
addConfigCommands(program);
addInstallCommand(program);
addGatewayCommand(program);
addAudioCommand(program);
addNodesCommand(program);
addFlowsCommands(program);
addUpdateCommands(program);
addFleetCommands(program);
addKeysCommands(program);
addReleaseTrustCommands(addReleaseCommands(program));
program.configureOutput({ outputError: (text, write) => write(text) });

try {
  await program.parseAsync();
} catch (error) {
  fail(error);
}
