import { type EventEmitter, once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { CREDENTIALS_PATH } from '../adapters/node-red/admin-api.js';
import type { Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { makeFolder } from '../core/folder.js';
import { LogTap } from '../core/log-tap.js';
import type { Logger } from '../core/logger.js';
import { FLOWS_SOCKET, SAFE_MODE_FILE } from '../protocol/flows-api.js';
import { EditorAccess } from './editor-access.js';
import { credentialsPage } from './flow-credentials.js';
import { readyFlowFile } from './flow-file.js';
import { type DeployedFlows, serveFlowsMetrics } from './flows-metrics.js';
import { nodeRedSettings } from './settings.js';
import { StationReporter } from './station-reporter.js';

/** Speech comes before flows where they share a processor. */
const NICENESS = 10;
const STOP_MS = 5_000;

/** What Node-RED tells those who look at its state. */
interface RuntimeState {
  readonly id: string;
  readonly payload?: { readonly state?: string; readonly error?: string; readonly types?: readonly string[] };
}

export interface FlowsProcess {
  readonly url: string;
  /** Ends the flows in order; at most 5 s. */
  close(): Promise<void>;
}

/**
 * Runs Node-RED in this process, and tells the station how it is:
 *
 *   starting ─▶ running ◀──── deployed ────▶ stopped (missing types, safe mode, a damaged file) ─▶ ending
 *
 * `dir` keeps flows, password and what nodes keep. Nodes of the palette find the station by ENTRYPHONE_FLOWS_SOCKET.
 * @throws AppError `editor-access-damaged`, `port-taken`
 */
export async function startFlows(options: {
  config: Config;
  dir: string;
  /** What this process logs, for the station while that asks for it. */
  logTap?: LogTap;
  clock: Clock;
  logger: Logger;
}): Promise<FlowsProcess> {
  const { config, dir, clock, logger } = options;
  setPriority(NICENESS);
  makeFolder(dir);
  const url = `http://127.0.0.1:${config.flows.port}`;
  const path = join(config.run, FLOWS_SOCKET);
  const isSafeMode = existsSync(join(config.run, SAFE_MODE_FILE));
  process.env.ENTRYPHONE_FLOWS_SOCKET = path;
  const access = await EditorAccess.open(dir);
  const reporter = new StationReporter({
    path,
    first: { pid: process.pid, state: 'starting', isSafeMode, fault: null, rev: null, url },
    logTap: options.logTap ?? new LogTap(),
    clock,
    logger,
    onToken: (token) => {
      access.stationToken = token;
    },
  });
  const deployed: DeployedFlows = { starts: 0, tabs: 0, nodes: 0 };
  const metrics = await serveFlowsMetrics({ run: config.run, report: () => reporter.report, deployed, logger });
  try {
    const damage = await readyFlowFile(dir, config.flows.initial);
    if (damage !== null) logger.error({ dir }, `${damage}; it is set aside`);
    const { default: RED } = await import('node-red');
    const credentials = credentialsPage(dir, access, logger);
    const server = createServer((request, response) => {
      if (request.url === CREDENTIALS_PATH) credentials(request, response);
      else RED.httpAdmin(request, response);
    });
    RED.init(server, nodeRedSettings({ config, dir, access, isSafeMode, logger }));
    follow(RED.events, reporter, damage, logger);
    count(RED.events, deployed);
    server.listen(config.flows.port, '127.0.0.1');
    await once(server, 'listening').catch((error: NodeJS.ErrnoException) => {
      throw new AppError('port-taken', `the editor can't listen on ${url} (${error.code ?? error.message})`, {
        remedy: 'Choose another flows.port in the configuration',
      });
    });
    await RED.start();
    return {
      url,
      close: async () => {
        await reporter.say({ state: 'ending' });
        server.closeAllConnections();
        server.close();
        await Promise.race([
          RED.stop().catch((error: unknown) => logger.warn({ error: errorText(error) }, 'flows ended badly')),
          new Promise<void>((resolve) => clock.after(STOP_MS, resolve)),
        ]);
        await metrics.close();
        reporter.close();
      },
    };
  } catch (error) {
    await metrics.close();
    reporter.close();
    throw error;
  }
}

function count(events: EventEmitter, deployed: DeployedFlows): void {
  events.on('flows:started', ({ config }: { config: { flows?: readonly { type?: string }[] } | null }) => {
    const all = config?.flows ?? [];
    deployed.starts += 1;
    deployed.tabs = all.filter(({ type }) => type === 'tab').length;
    deployed.nodes = all.length - deployed.tabs;
  });
}

/** Node-RED's events, as the report that the station gets. */
function follow(events: EventEmitter, reporter: StationReporter, damage: string | null, logger: Logger): void {
  let isDamaged = damage !== null;
  const stopped = (code: string, text: string): void => {
    logger.error({ code }, text);
    void reporter.say({ state: 'stopped', fault: { code, text: text.slice(0, 500) } });
  };
  events.on('flows:started', ({ config }: { config: { rev?: string } | null }) => {
    const rev = config?.rev ?? null;
    if (isDamaged) {
      isDamaged = false;
      void reporter.say({ rev, state: 'stopped', fault: { code: 'damaged-file', text: damage ?? '' } });
    } else {
      void reporter.say({ rev, state: 'running', isSafeMode: false, fault: null });
    }
  });
  events.on('runtime-event', ({ id, payload }: RuntimeState) => {
    if (id !== 'runtime-state' || payload?.error === undefined) return;
    const { error, types = [] } = payload;
    if (error === 'missing-types') stopped(error, `the flows need nodes that are not here: ${types.join(', ')}`);
    else if (error === 'safe-mode') stopped(error, 'safe mode: the flows are there, and do not run');
    else stopped(error, `the flows do not run: ${error}`);
  });
}
