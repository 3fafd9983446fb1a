import { existsSync, statSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join, resolve } from 'node:path';
import { styleText } from 'node:util';
import { type Command, Option } from 'commander';
import { loadBoard } from '../../config/load.js';
import { AppError } from '../../core/errors.js';
import { packageRoot } from '../../core/package-root.js';
import { carryOut, type StepResult } from '../../install/carry-out.js';
import { firstRelease } from '../../install/first-release.js';
import { type InstallOptions, planInstall, type Step, whatIsLeft } from '../../install/plan.js';
import { profileOf, readSources } from '../../install/release-files.js';
import type { Identity, Role } from '../../install/station-config.js';
import { note, printJson } from './output.js';

/** Where the units look for Entryphone. */
const HOME = '/opt/entryphone';

interface Options {
  readonly board: string;
  readonly role: Role;
  readonly id?: string;
  readonly name?: string;
  readonly site: string;
  readonly address?: string;
  readonly broker?: string;
  readonly slots?: string;
  readonly trust?: string;
  readonly unsigned?: boolean;
  readonly root: string;
  readonly apply?: boolean;
  readonly json?: boolean;
}

export function addInstallCommand(program: Command): void {
  program
    .command('install')
    .description(
      'makes this board a station: users, units, rules, configuration. Shows what it would do, unless --apply',
    )
    .requiredOption('--board <name>', 'the profile of the board: a file of device/, without .yaml')
    .addOption(
      new Option('--role <role>', 'a site has one site-host, which runs its broker')
        .choices(['station', 'site-host'])
        .makeOptionMandatory(),
    )
    .option('--id <id>', "the station's id in its site (door; indoor for a site host)")
    .option('--name <text>', 'what people read (Front door; Indoor for a site host)')
    .option('--site <id>', "the site's id", 'home')
    .option('--address <ip>', "the station's own address (that of its first network interface)")
    .option('--broker <host>', 'name or address of the site host; needed for role station')
    .option('--slots <release>', 'run from slots that updates replace, beginning with this release: its folder')
    .option('--trust <file>', "with --slots, who may sign releases (the repository's metadata/1.root.json)")
    .option('--unsigned', 'with --slots, take a release that nobody has signed: to try things out')
    .option('--root <folder>', 'install into an image that stands in this folder', '/')
    .option('--apply', 'do it')
    .option('--json', 'one JSON object')
    .action(install);
}

async function install(options: Options): Promise<void> {
  const root = resolve(options.root);
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory()) {
    throw new AppError('usage', `${root} is no folder`, { remedy: '--root names the root folder of an image' });
  }
  if ((options.trust !== undefined || options.unsigned === true) && options.slots === undefined) {
    throw new AppError('usage', '--trust and --unsigned are about a release of --slots', { remedy: 'Add --slots' });
  }
  if (root === '/' && options.apply === true) checkLive(options.slots !== undefined);
  const sources = readSources();
  const profile = profileOf(options.board, sources);
  // One that is there already may have been changed to match the wiring.
  const wired = join(root, '/etc/entryphone/board.yaml');
  const board = loadBoard(existsSync(wired) ? wired : profile);
  const hasConfig = existsSync(join(root, '/etc/entryphone/station.yaml'));
  const plan: InstallOptions = {
    boardName: options.board,
    board,
    role: options.role,
    identity: hasConfig ? undefined : identityOf(options),
    root,
    firmware: ['/boot/firmware', '/boot'].find((folder) => existsSync(join(root, folder, 'config.txt'))),
    sources,
    release:
      options.slots === undefined
        ? undefined
        : await firstRelease(options.slots, {
            board: options.board,
            architecture: root === '/' ? process.arch : undefined,
            trust: options.trust,
            mayBeUnsigned: options.unsigned === true,
          }),
  };
  const results = await carryOut(planInstall(plan), { root, apply: options.apply === true });
  const failed = results.filter((result) => result.outcome === 'failed');
  const left = whatIsLeft(plan);
  if (options.json === true) printJson(asJson(results, left, options.apply === true));
  else show(results, left, options.apply === true);
  if (failed.length > 0) process.exitCode = 1;
}

/** @throws AppError `not-root`, `wrong-place` */
function checkLive(hasSlots: boolean): void {
  if (process.getuid?.() !== 0) {
    throw new AppError('not-root', 'only root may change this machine', { remedy: 'Use sudo, or leave --apply out' });
  }
  if (packageRoot !== HOME && !hasSlots) {
    throw new AppError('wrong-place', `the units start what stands in ${HOME}, but this is ${packageRoot}`, {
      remedy: `Move it there (mv ${packageRoot} ${HOME}), run make setup there, and install from there`,
    });
  }
}

/** @throws AppError `usage` */
function identityOf(options: Options): Identity {
  const isHost = options.role === 'site-host';
  const address = options.address ?? ownAddress();
  const broker = isHost ? address : options.broker;
  if (address === undefined) {
    throw new AppError('usage', 'this machine has no address towards a network', { remedy: 'Name it: --address' });
  }
  if (broker === undefined) {
    throw new AppError('usage', 'a station needs its site host', { remedy: 'Name it: --broker 192.168.1.10' });
  }
  return {
    id: options.id ?? (isHost ? 'indoor' : 'door'),
    name: options.name ?? (isHost ? 'Indoor' : 'Front door'),
    site: options.site,
    address,
    broker,
  };
}

function ownAddress(): string | undefined {
  return Object.values(networkInterfaces())
    .flat()
    .find((one) => one?.family === 'IPv4' && !one.internal)?.address;
}

function asJson(results: readonly StepResult[], left: readonly string[], applied: boolean): object {
  const failed = results.filter((result) => result.outcome === 'failed').map((result) => result.error);
  const steps = results.map(({ step, outcome, error }) => ({
    do: step.do,
    ...(step.do === 'run' ? { command: step.command } : { path: step.path }),
    why: step.why,
    outcome,
    ...(error === undefined ? {} : { error }),
  }));
  return { ok: failed.length === 0, failed, applied, steps, left };
}

function show(results: readonly StepResult[], left: readonly string[], applied: boolean): void {
  for (const { step, outcome, error } of results) {
    const colour =
      outcome === 'failed' || outcome === 'missed'
        ? 'red'
        : outcome === 'needed' || outcome === 'done'
          ? 'green'
          : 'dim';
    const state = styleText(colour, outcome.padEnd(8), { stream: process.stdout });
    process.stdout.write(
      `${state} ${textOf(step)}\n         ${styleText('dim', step.why, { stream: process.stdout })}\n`,
    );
    if (error !== undefined) note(styleText('red', `         ${error}`, { stream: process.stderr }));
  }
  process.stdout.write(`\n${applied ? 'Left to do' : 'Nothing was changed; --apply does it. Left to do then'}:\n`);
  for (const text of left) process.stdout.write(`  - ${text}\n`);
}

function textOf(step: Step): string {
  if (step.do === 'run') return `run ${step.command.join(' ')}`;
  if (step.do === 'slots') return `release ${step.release.version} in ${step.path}`;
  return step.do === 'line' ? `line "${step.line}" in ${step.path}` : `file ${step.path}`;
}
