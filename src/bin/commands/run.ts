import { existsSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { styleText } from 'node:util';
import type { Command } from 'commander';
import { connectRpc } from '../../adapters/sockets/rpc.js';
import { AppError, errorText } from '../../core/errors.js';
import { makeFolder } from '../../core/folder.js';
import { packageRoot } from '../../core/package-root.js';
import { logLineForPeople, Site } from '../../lab/site.js';
import { STATIONS, type StationId } from '../../lab/site-config.js';
import { serveSiteControl } from '../../lab/site-control.js';
import { EDITOR_USER } from '../../protocol/flows-api.js';
import { processLogger } from '../process-logger.js';
import { note, siteRunDir } from './output.js';

const SITE_DIR = relative(process.cwd(), join(packageRoot, 'var/site'));
const BROKER_PORT = 18_883;
const FIRST_RTP_PORT = 40_000;
const EDITOR_PORTS = { door: 18_800, indoor: 18_801 };

interface RunOptions {
  readonly card?: boolean;
  readonly flows: boolean;
  readonly verbose?: boolean;
  readonly port: string;
  readonly dir: string;
}

export function addRunCommand(program: Command): void {
  program
    .command('run')
    .description('start a door station and an indoor station on this machine, until Ctrl-C')
    .option('--card', "give the indoor station this machine's own sound card (opens its microphone in calls)")
    .option('--no-flows', 'without Node-RED: each press does what the configuration says')
    .option('--verbose', 'show every line that the processes log')
    .option('--dir <folder>', 'where configurations, keys and logs are kept', SITE_DIR)
    .option('--port <number>', "port of the site's MQTT broker", String(BROKER_PORT))
    .action(async (options: RunOptions) => run(options));
}

async function run(options: RunOptions): Promise<void> {
  const runDir = siteRunDir();
  const dir = resolve(options.dir);
  await refuseSecond(runDir);
  makeFolder(dir);
  const ending = new AbortController();
  const asked = new Promise<void>((done) => ending.signal.addEventListener('abort', () => done()));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => ending.abort());
  const isNew = (id: StationId) => !existsSync(passwordFile(dir, id));
  const newEditors = STATIONS.filter(isNew);
  const site = await Site.start({
    dir,
    runDir,
    brokerPort: portOf(options.port),
    firstRtpPort: FIRST_RTP_PORT,
    ownCardIndoors: options.card === true,
    ...(options.flows ? { flows: { ports: EDITOR_PORTS }, hearing: true } : {}),
    logger: processLogger('supervisor', 'warn'),
    onProgress: (text) => note(`starting: ${text}`),
    onLog: (service, line) => {
      const text = options.verbose === true ? line : logLineForPeople(line);
      if (text !== undefined) note(styleText('dim', `${service}: ${text}`, { stream: process.stderr }));
    },
    signal: ending.signal,
  }).catch((error: unknown) => {
    if (!ending.signal.aborted) throw error;
    note('ended before it had started');
    process.exit(0);
  });
  const control = await serveSiteControl(site, processLogger('control', 'warn'));
  await Promise.all(STATIONS.map((id) => narrate(site, id)));
  for (const id of STATIONS) tellEditor(site, id, newEditors.includes(id));
  note(`logs, configurations and keys: ${dir}`);
  note('In another terminal:');
  note('  ./entryphone press door bell      a visitor rings; the indoor station rings');
  note('  ./entryphone press indoor bell    answer; the same button hangs up');
  note('  ./entryphone say door "Hello, the parcel is here"');
  note('  ./entryphone press indoor open    the door opens for three seconds');
  note('  ./entryphone status               what is going on, with levels');
  process.stdout.write('ready: try ./entryphone press door bell (in another terminal); Ctrl-C ends\n');
  await asked;
  note('ending: hanging up, making the door safe');
  await control.close();
  await site.stop();
  process.exit(0);
}

/** Says where the editor is, once it is there; its password at the start that has made it. */
function tellEditor(site: Site, id: StationId, isNew: boolean): void {
  const { flows } = site.services[id];
  const { plan } = site;
  if (flows === undefined || plan.flows === null) return;
  const address = `http://127.0.0.1:${plan.flows.ports[id]}/`;
  const file = passwordFile(plan.dir, id);
  const tell = () => {
    const password = isNew ? `password ${readFileSync(file, 'utf8').trim()}` : `password in ${file}`;
    note(`flows of ${id}: ${address}  user ${EDITOR_USER}, ${password}`);
  };
  if (flows.isReady) tell();
  else flows.once('ready', tell);
}

function passwordFile(dir: string, id: StationId): string {
  return join(dir, id, 'state', 'flows', 'editor-password');
}

function portOf(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port > 0 && port < 65_536) return port;
  throw new AppError('usage', `${text} is no port number`);
}

/** Two sites would fight for ports, sockets and pins. */
async function refuseSecond(runDir: string): Promise<void> {
  const path = join(runDir, 'site.sock');
  const other = await connectRpc({
    path,
    requests: {},
    notifications: {},
    onNotification: () => {},
    onClose: () => {},
    timeoutMs: 500,
  }).catch(() => undefined);
  if (other === undefined) return;
  other.close();
  throw new AppError('already-running', 'a site is running here already', {
    remedy: 'End it with Ctrl-C in its terminal, or use it',
  });
}

/** Tells what happens at a station, as it happens; connects again when the station was restarted. */
async function narrate(site: Site, id: StationId): Promise<void> {
  const tell = (name: string, params: unknown): void => {
    const text = eventText(name, params as Record<string, unknown>);
    if (text !== undefined) note(`${styleText('cyan', id.padEnd(7), { stream: process.stderr })} ${text}`);
  };
  await site.connect(id, tell);
  site.services[id].station.on('ready', () => {
    site.connect(id, tell).catch((error: unknown) => note(errorText(error)));
  });
}

function eventText(name: string, params: Record<string, unknown>): string | undefined {
  if (name === 'button.pressed') return `button ${params.button} pressed`;
  if (name === 'door.changed') return params.open === true ? `door OPEN (${params.by})` : 'door shut';
  if (name === 'call.changed')
    return `call with ${params.peerName || params.peer}: ${params.state}${typeof params.reason === 'string' ? `, ${params.reason}` : ''}`;
  if (name === 'session.heard') return 'the far end is heard';
  return undefined;
}
