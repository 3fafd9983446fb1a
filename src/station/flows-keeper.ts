import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import { AdminApi, type FlowNodes, flowNodes, isOnLoopback } from '../adapters/node-red/admin-api.js';
import type { Config } from '../config/schema.js';
import { writeDurably } from '../core/durable-file.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { packageRoot } from '../core/package-root.js';
import { FLOWS_RESTART_FILE, SAFE_MODE_FILE } from '../protocol/flows-api.js';
import { askByFile } from './ask-by-file.js';

const shipped = join(packageRoot, 'flows');
const keptFlows = z.object({ v: z.literal(1), rev: z.string(), flows: flowNodes });

/**
 * The last good flows and the way to the Admin API. Files:
 *
 *   state/flows-good.json       flows that ran well; until there are any, those that ship are taken for good
 *   state/flows-replaced.json   what the last good ones replaced, for the installer
 *   run/ask/flows-safe          there: the next start is one in safe mode
 *   run/ask/flows-restart       written: restart the flows process (a systemd path unit sees it)
 */
export class FlowsKeeper {
  readonly #config: Config;
  readonly #token: string;
  readonly #logger: Logger;
  #api: AdminApi | undefined;
  #restoredRev: string | undefined;

  /** @param options.token what `flows.report` hands to the flows process */
  constructor(options: { config: Config; token: string; logger: Logger }) {
    this.#config = options.config;
    this.#token = options.token;
    this.#logger = options.logger;
  }

  /** Where the Admin API is now. Only loopback is ever asked, whatever flows say of themselves. */
  found(url: string): void {
    this.#api = isOnLoopback(url) ? new AdminApi({ url, token: this.#token }) : undefined;
  }

  async keepGood(): Promise<void> {
    const { flows, rev } = await this.#reached().getFlows();
    await writeDurably(this.#file('flows-good.json'), JSON.stringify({ v: 1, rev, flows }));
  }

  /** @throws AppError `flows-same` where they are there already; `flows-conflict`, `flows-unreachable`, `flows-refused` */
  async restoreGood(): Promise<void> {
    const api = this.#reached();
    const good = this.#good();
    const now = await api.getFlows();
    if (now.rev === this.#restoredRev) throw new AppError('flows-same', 'what does not run are the last good flows');
    await writeDurably(this.#file('flows-replaced.json'), JSON.stringify({ v: 1, ...now }));
    this.#restoredRev = await api.deployFlows({ flows: good, rev: now.rev });
  }

  /** At the wish of flows that run. @throws AppError `flows-same` where they are the last good ones, and as `restoreGood` */
  async fallBack(): Promise<void> {
    const now = await this.#reached().getFlows();
    if (JSON.stringify(now.flows) === JSON.stringify(this.#good())) {
      throw new AppError('flows-same', 'these are the last good flows');
    }
    this.#restoredRev = undefined;
    await this.restoreGood();
  }

  async expectsHeartbeat(): Promise<boolean> {
    const { flows } = await this.#reached().getFlows();
    return flows.some(({ type, d }) => type === 'entryphone-station' && d !== true);
  }

  startSafely(isSafe: boolean): void {
    const file = join(this.#config.run, SAFE_MODE_FILE);
    if (isSafe) askByFile(file, '');
    else rmSync(file, { force: true });
  }

  noteRestart(reason: string): void {
    askByFile(join(this.#config.run, FLOWS_RESTART_FILE), `${reason}\n`);
  }

  #good(): FlowNodes {
    const file = this.#file('flows-good.json');
    try {
      return keptFlows.parse(JSON.parse(readFileSync(file, 'utf8'))).flows;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#logger.error({ file }, 'the last good flows are damaged; those that ship are taken');
      }
      const initial = join(shipped, `${this.#config.flows.initial}.json`);
      return flowNodes.parse(JSON.parse(readFileSync(initial, 'utf8')));
    }
  }

  #reached(): AdminApi {
    if (this.#api === undefined) throw new AppError('flows-unreachable', 'the flows process has not come yet');
    return this.#api;
  }

  #file(name: string): string {
    return join(this.#config.state, name);
  }
}
