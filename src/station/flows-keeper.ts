import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod';
import {
  AdminApi,
  encryptedCredentials,
  type FlowsAtRev,
  flowNodes,
  isOnLoopback,
} from '../adapters/node-red/admin-api.js';
import type { Config } from '../config/schema.js';
import { writeDurably } from '../core/durable-file.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { packageRoot } from '../core/package-root.js';
import { FLOWS_RESTART_FILE, SAFE_MODE_FILE } from '../protocol/flows-api.js';
import { askByFile } from './ask-by-file.js';
import { FlowsTrial } from './flows-trial.js';

const shipped = join(packageRoot, 'flows');
const keptFlows = z.object({
  v: z.literal(1),
  rev: z.string(),
  flows: flowNodes,
  /** Of flows that were kept by an older release there are none. */
  credentials: encryptedCredentials.optional(),
});

/**
 * The last good flows and the way to the Admin API. Files:
 *
 *   state/flows-good.json       flows that ran well; until there are any, those that ship are taken for good
 *   state/flows-replaced.json   what the last good ones replaced, or a release, for the installer
 *   state/flows-before.json     there while a release of flows is on trial: what it replaced (`FlowsTrial`)
 *   run/ask/flows-safe          there: the next start is one in safe mode
 *   run/ask/flows-restart       written: restart the flows process (a systemd path unit sees it)
 */
export class FlowsKeeper {
  readonly #config: Config;
  readonly #token: string;
  readonly #logger: Logger;
  readonly trial: FlowsTrial;
  #api: AdminApi | undefined;
  #restoredRev: string | undefined;

  /** @param options.token what `flows.report` hands to the flows process */
  constructor(options: { config: Config; token: string; logger: Logger }) {
    this.#config = options.config;
    this.#token = options.token;
    this.#logger = options.logger;
    this.trial = new FlowsTrial(options.config.state, options.logger);
  }

  /** Where the Admin API is now. Only loopback is ever asked, whatever flows say of themselves. */
  found(url: string): void {
    this.#api = isOnLoopback(url) ? new AdminApi({ url, token: this.#token }) : undefined;
  }

  /** @throws AppError `flows-unreachable` */
  get api(): AdminApi {
    if (this.#api === undefined) throw new AppError('flows-unreachable', 'the flows process has not come yet');
    return this.#api;
  }

  /** @throws AppError `flows-on-trial`, `flows-unreachable` */
  async keepGood(): Promise<void> {
    if (this.trial.replaced !== null) throw new AppError('flows-on-trial', 'a release of flows is on trial');
    await writeDurably(this.#file('flows-good.json'), JSON.stringify({ v: 1, ...(await this.api.getAll()) }));
  }

  /**
   * Puts the last good flows in the place of what does not run; in the place of a release on trial, or one that could not be left,
   * what that replaced.
   * @throws AppError `flows-same` where they are there already; `flows-conflict`, `flows-unreachable`, `flows-refused`
   */
  async restoreGood(): Promise<void> {
    const { api } = this;
    if (await this.trial.putBack(api)) return;
    const good = this.#good();
    const now = await api.getAll();
    if (now.rev === this.#restoredRev) throw new AppError('flows-same', 'what does not run are the last good flows');
    await this.keepReplaced(now);
    this.#restoredRev = await api.deployFlows({ ...good, rev: now.rev });
    if (good.credentials !== undefined) await api.keepCredentials(good.credentials);
  }

  /** For the installer. */
  async keepReplaced(replaced: FlowsAtRev): Promise<void> {
    await writeDurably(this.#file('flows-replaced.json'), JSON.stringify({ v: 1, ...replaced }));
  }

  /** At the wish of flows that run. @throws AppError `flows-same` where they are the last good ones, and as `restoreGood` */
  async fallBack(): Promise<void> {
    if (await this.trial.putBack(this.api)) return;
    const now = await this.api.getFlows();
    if (JSON.stringify(now.flows) === JSON.stringify(this.#good().flows)) {
      throw new AppError('flows-same', 'these are the last good flows');
    }
    this.#restoredRev = undefined;
    await this.restoreGood();
  }

  async expectsHeartbeat(): Promise<boolean> {
    const { flows } = await this.api.getFlows();
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

  #good(): Omit<FlowsAtRev, 'rev'> {
    const file = this.#file('flows-good.json');
    try {
      const { flows, credentials } = keptFlows.parse(JSON.parse(readFileSync(file, 'utf8')));
      return { flows, credentials };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#logger.error({ file }, 'the last good flows are damaged; those that ship are taken');
      }
      const initial = join(shipped, `${this.#config.flows.initial}.json`);
      return { flows: flowNodes.parse(JSON.parse(readFileSync(initial, 'utf8'))) };
    }
  }

  #file(name: string): string {
    return join(this.#config.state, name);
  }
}
