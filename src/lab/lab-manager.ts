import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { connectRpc, type RpcClient } from '../adapters/sockets/rpc.js';
import { Service } from '../adapters/supervisor/foreground.js';
import { nodeProgram } from '../adapters/supervisor/node-program.js';
import { systemClock } from '../core/clock.js';
import { makeFolder } from '../core/folder.js';
import { silentLogger } from '../core/logger.js';
import { packageRoot } from '../core/package-root.js';
import { type JobView, MANAGER_SOCKET, managerNotifications, managerRequests } from '../protocol/manager-api.js';
import { MANAGER_ID } from '../protocol/topics.js';

const START_MS = 20_000;
const STOP_MS = 1_500;
const ASK_MS = 10_000;

/** A fleet manager of the lab: the real process, asked by its socket as `entryphone fleet` does. */
export class LabManager {
  readonly #service: Service;
  readonly #client: RpcClient<typeof managerRequests>;
  readonly #listeners: Set<(job: JobView) => void>;

  private constructor(
    service: Service,
    client: RpcClient<typeof managerRequests>,
    listeners: Set<(job: JobView) => void>,
  ) {
    this.#service = service;
    this.#client = client;
    this.#listeners = listeners;
  }

  /** @param pki folder of the site's certificates */
  static async start(options: {
    dir: string;
    run: string;
    url: string;
    pki: string;
    site: string;
    repository: string;
    onLog: (line: string) => void;
  }): Promise<LabManager> {
    const { dir, run, url, pki, site, repository, onLog } = options;
    for (const folder of [dir, run]) makeFolder(folder);
    const own = join(pki, 'clients', `${MANAGER_ID}.pem`);
    const file = join(dir, 'manager.yaml');
    const mqtt = { url, ca: join(pki, 'ca.pem'), cert: own, key: own };
    const config = { mqtt, site, repository: { folder: repository }, state: join(dir, 'state'), run };
    writeFileSync(file, stringify(config), { mode: 0o600 });
    const service = new Service({
      clock: systemClock,
      logger: silentLogger,
      output: (chunk) => onLog(chunk.toString('utf8')),
      spec: {
        name: 'manager',
        command: [...nodeProgram(join(packageRoot, 'dist/src/bin/manager.js')), '--config', file],
        startTimeoutMs: START_MS,
        stopTimeoutMs: STOP_MS,
      },
    });
    await service.start();
    try {
      const listeners = new Set<(job: JobView) => void>();
      const client = await connectRpc({
        path: join(run, MANAGER_SOCKET),
        requests: managerRequests,
        notifications: managerNotifications,
        timeoutMs: ASK_MS,
        onClose: () => {},
        onNotification: (name, params) => {
          if (name !== 'job.changed') return;
          for (const listener of listeners) listener(params as JobView);
        },
      });
      return new LabManager(service, client, listeners);
    } catch (error) {
      await service.stop();
      throw error;
    }
  }

  get ask(): RpcClient<typeof managerRequests> {
    return this.#client;
  }

  /** Told of each change of a job. @returns what ends that */
  onJob(listener: (job: JobView) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  async stop(): Promise<void> {
    this.#client.close();
    await this.#service.stop();
  }
}
