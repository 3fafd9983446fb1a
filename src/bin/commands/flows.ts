import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { AdminApi, isOnLoopback } from '../../adapters/node-red/admin-api.js';
import {
  originals,
  readFlowFile,
  type UnknownType,
  unknownTypes,
  withoutSecrets,
  withPlaceholders,
} from '../../adapters/node-red/flow-import.js';
import { AppError } from '../../core/errors.js';
import { sleep } from '../../lab/scenario.js';
import { connectStation } from '../../lab/site.js';
import { connectSiteControl } from '../../lab/site-control.js';
import { EDITOR_USER } from '../../protocol/flows-api.js';
import { note, printJson, runningStations, siteRunDir } from './output.js';

interface FlowsOptions {
  readonly station?: string;
  readonly passwordFile?: string;
  readonly deployAnyway?: boolean;
  readonly json?: boolean;
}
type StationClient = Awaited<ReturnType<typeof connectStation>>;
interface Opened {
  readonly id: string;
  readonly client: StationClient;
  readonly api: AdminApi;
}

const BOARD_PASSWORD = '/var/lib/entryphone/flows/editor-password';
const MOST_PASSWORD_BYTES = 256;
/** A station's flows may take so long to start. */
const START_MS = 20_000;
const STEP_MS = 100;

export function addFlowsCommands(program: Command): void {
  const flows = program.command('flows').description("a running station's flows, without the editor");
  const common = (command: Command): Command =>
    command
      .option('--station <id>', 'of which station (the only one that runs)')
      .option(
        '--password-file <file>',
        "the editor's password (the file that the station has made); /dev/stdin to type it",
      )
      .option('--json', 'one JSON object');
  common(flows.command('export'))
    .description('write the flows to stdout, as the editor exports them; no credentials are in them')
    .action((options: FlowsOptions) => opened(options, (station) => exportFlows(station, options)));
  common(flows.command('import <file>'))
    .description("put a file's flows in the place of all that the station has, if it knows every node of them")
    .option('--deploy-anyway', 'with a node that is off in the place of each that it does not know; the others run')
    .action((file: string, options: FlowsOptions) => {
      const wanted = readFlowFile(file);
      return opened(options, (station) => importFlows(station, wanted, options));
    });
}

async function exportFlows({ api }: Opened, options: FlowsOptions): Promise<void> {
  const { flows, rev } = await api.getFlows();
  const told = withoutSecrets(originals(flows));
  if (options.json === true) printJson({ ok: true, failed: [], rev, flows: told });
  else process.stdout.write(`${JSON.stringify(told, null, 2)}\n`);
}

async function importFlows(
  { id, client, api }: Opened,
  wanted: ReturnType<typeof readFlowFile>,
  options: FlowsOptions,
): Promise<void> {
  const { rev: before } = await api.getFlows();
  const unknown = unknownTypes(wanted, await api.knownTypes());
  for (const { type, nodes } of unknown) note(`not known at ${id}: ${type} (${nodes.join(', ')})`);
  if (unknown.length > 0 && options.deployAnyway !== true) return refuse(unknown, options);
  const rev = await api.deployFlows({ flows: withPlaceholders(wanted, unknown), rev: before });
  const state = await started(client, rev);
  const done = { station: id, nodes: wanted.length, unknown, rev, state };
  if (options.json === true) printJson({ ok: true, failed: [], ...done });
  else note(`deployed at ${id}: ${wanted.length} nodes${offText(unknown)}; ${state}`);
}

function offText(unknown: readonly UnknownType[]): string {
  const count = unknown.flatMap(({ nodes }) => nodes).length;
  return count === 0 ? '' : `, of which ${count} are off, since they are not known here`;
}

/** As `fail`, but machines are told the types one by one. */
function refuse(unknown: readonly UnknownType[], options: FlowsOptions): void {
  const text = `nothing was deployed: ${unknown.map(({ type }) => type).join(', ')} not known here`;
  const remedy = 'Install what brings these nodes, or deploy the others with --deploy-anyway';
  if (options.json !== true) throw new AppError('flows-unknown-nodes', text, { remedy });
  printJson({ ok: false, failed: [`${text}. ${remedy}`], unknown });
  process.exitCode = 1;
}

/** Waits until the station says that these flows run. @throws AppError `flows-not-running` */
async function started(client: StationClient, rev: string): Promise<string> {
  for (let waitedMs = 0; waitedMs < START_MS; waitedMs += STEP_MS) {
    const { flows } = await client.call('station.status', {});
    if (flows?.rev === rev && (flows.state === 'running' || flows.state === 'idle')) return flows.state;
    if (flows?.state === 'stopped' || flows?.state === 'restoring') {
      throw notRunning(flows.fault?.text ?? 'it does not say why');
    }
    await sleep(STEP_MS);
  }
  throw notRunning(`the station does not say within ${START_MS / 1000} s that they do`);
}

function notRunning(why: string): AppError {
  return new AppError('flows-not-running', `the flows were deployed and do not run: ${why}`, {
    remedy:
      'The station puts back the last ones that ran well; what they replaced is in flows-replaced.json of its state',
  });
}

/** @throws AppError `not-running`, `usage`, `flows-off`, `flows-unreachable`, `sign-in-failed`, and what `act` throws */
async function opened(options: FlowsOptions, act: (station: Opened) => Promise<void>): Promise<void> {
  const [first, ...others] = runningStations(options.station);
  if (first === undefined || others.length > 0) {
    throw new AppError('usage', 'several stations are running here', {
      remedy: `Say which: --station ${[first, ...others].map((one) => one?.id).join(' or ')}`,
    });
  }
  const client = await connectStation(first.runDir);
  try {
    const { flows } = await client.call('station.status', {});
    if (flows === null) throw new AppError('flows-off', `${first.id} runs without flows`);
    if (flows.url === null || !isOnLoopback(flows.url)) {
      throw new AppError('flows-unreachable', `the flows of ${first.id} are not there yet (${flows.state})`, {
        remedy: `See: entryphone status`,
      });
    }
    const password = passwordIn(options.passwordFile ?? (await passwordFileOf(first.id)));
    const token = await AdminApi.signIn({ url: flows.url, user: EDITOR_USER, password });
    await act({ id: first.id, client, api: new AdminApi({ url: flows.url, token }) });
  } finally {
    client.close();
  }
}

/** Where the station's first start has put it. */
async function passwordFileOf(id: string): Promise<string> {
  const site = await connectSiteControl(siteRunDir()).catch(() => undefined);
  if (id === 'board' || site === undefined) return BOARD_PASSWORD;
  try {
    return join((await site.call('site.describe', {})).dir, id, 'state/flows/editor-password');
  } finally {
    site.close();
  }
}

/** @throws AppError `usage` */
function passwordIn(file: string): string {
  const bytes = Buffer.alloc(MOST_PASSWORD_BYTES);
  try {
    const handle = openSync(file, 'r');
    const size = readSync(handle, bytes);
    closeSync(handle);
    return bytes.toString('utf8', 0, size).trim();
  } catch (error) {
    throw new AppError(
      'usage',
      `the editor's password can't be read from ${file} (${(error as { code?: string }).code})`,
      {
        remedy: 'Name a file that has it: --password-file FILE',
      },
    );
  }
}
