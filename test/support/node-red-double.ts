/** Node-RED as a release of flows sees it: the Admin API, and what the station knows of the process. Time passes as fast as it can. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Test } from 'tap';
import { CREDENTIALS_PATH, type EncryptedCredentials, type FlowNodes } from '../../src/adapters/node-red/admin-api.js';
import { diskOfKind, machineDisk, type SlotDisk } from '../../src/adapters/slots/slot-disk.js';
import type { Config } from '../../src/config/schema.js';
import type { Clock, Timer } from '../../src/core/clock.js';
import { silentLogger } from '../../src/core/logger.js';
import type { StationStatus } from '../../src/protocol/station-api.js';
import { FlowsKeeper } from '../../src/station/flows-keeper.js';
import { FlowsTarget } from '../../src/station/flows-target.js';
import { FlowsOrders } from './flows-orders.js';

type Status = NonNullable<StationStatus['flows']>;
export const CONFIG_NODE = { id: 'station', type: 'entryphone-station' };
const BEFORE: FlowNodes = [CONFIG_NODE, { id: 'tab', type: 'tab', label: 'Before' }];

/** Time passes where somebody waits, and nowhere else: a wait takes a moment, and then it was as long as it should be. */
class HastyClock implements Clock {
  /** Longer than it should be. */
  factor = 1;
  #nowMs = 0;

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  after(delayMs: number, action: () => void): Timer {
    const dueMs = this.#nowMs + delayMs * this.factor;
    const timer = setTimeout(() => {
      this.#nowMs = Math.max(this.#nowMs, dueMs);
      action();
    }, 1);
    return { cancel: () => clearTimeout(timer) };
  }
}

/** A disk for a process, until that is over: then no call comes back. */
function until(isOver: () => boolean, disk: SlotDisk): SlotDisk {
  return new Proxy(disk, {
    get: (of, name: keyof SlotDisk) =>
      isOver() ? () => new Promise(() => {}) : (of[name] as (...args: unknown[]) => unknown),
  });
}

export class NodeRedDouble extends FlowsOrders {
  flows: FlowNodes = BEFORE;
  credentials: EncryptedCredentials | null = { $: 'of before' };
  readonly kept: EncryptedCredentials[] = [];
  known = ['entryphone-station', 'function', 'inject'];
  /** Of each deployment, after it was taken; what it throws is no answer. */
  onDeploy: (flows: FlowNodes) => void | Promise<void> = () => {};
  isThere = true;
  told: Partial<Status> = { state: 'running', crashes: 0, hangs: 0, restores: 0 };
  keeper: FlowsKeeper | undefined;
  readonly #server: Server;
  readonly clock = new HastyClock();
  #beats = 0;
  #life = 0;

  static async start(t: Test): Promise<NodeRedDouble> {
    const double = new NodeRedDouble();
    for (const name of ['state', 'run', 'slots']) mkdirSync(join(double.dir, name));
    await new Promise<void>((done) => double.#server.listen(0, '127.0.0.1', done));
    t.teardown(() => {
      double.close();
      double.#server.closeAllConnections();
      double.#server.close();
      rmSync(double.dir, { recursive: true });
    });
    await double.startStation();
    return double;
  }

  private constructor() {
    super('ep-node-red-');
    this.#server = createServer((request, response) => {
      const isOfNow = request.headers.authorization === `Bearer token-${this.#life}`;
      if (!this.isThere || !isOfNow) request.socket.destroy();
      else
        this.#answer(request).then(
          ([status, body]) => response.writeHead(status).end(JSON.stringify(body)),
          () => request.socket.destroy(),
        );
    });
  }

  /** The station's side of it; also once more, as after a crash of its process. */
  async startStation(): Promise<void> {
    this.close();
    const { clock } = this;
    const life = ++this.#life;
    // What the one before has under way: one call more, at most.
    if (life > 1) await new Promise((done) => setTimeout(done, 30));
    const isOver = () => life !== this.#life;
    const config = { state: join(this.dir, 'state'), run: join(this.dir, 'run'), flows: { initial: 'door-station' } };
    const keeper = new FlowsKeeper({ config: config as Config, token: `token-${life}`, logger: silentLogger });
    keeper.found(`http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`);
    this.keeper = keeper;
    const double = this;
    const flows = {
      keeper,
      get status(): Status {
        double.#beats += 1;
        const { told } = double;
        return { isSafeMode: false, fault: null, rev: null, heartbeats: double.#beats, ...told } as Status;
      },
    };
    const disk = until(isOver, machineDisk(join(this.dir, 'slots')));
    const target = new FlowsTarget({
      ...{ flows, disk: diskOfKind(disk, 'flows'), goodAfterMs: 2_000, clock, logger: silentLogger },
    });
    await this.serve({ disk, flows: target, clock });
  }

  tell(change: Partial<Status>): void {
    this.told = { ...this.told, ...change };
  }

  get rev(): string {
    return createHash('sha256').update(JSON.stringify(this.flows)).digest('hex');
  }

  /** The label of the first tab. */
  get label(): unknown {
    return this.flows.find(({ type }) => type === 'tab')?.label;
  }

  /** Somebody deploys in the editor. */
  edit(label: string): void {
    this.flows = [CONFIG_NODE, { id: 'tab', type: 'tab', label }];
  }

  isKept(name: string): boolean {
    return existsSync(join(this.dir, 'state', name));
  }

  keptAs(name: string): { flows: FlowNodes } {
    return JSON.parse(readFileSync(join(this.dir, 'state', name), 'utf8'));
  }

  async #answer(request: IncomingMessage): Promise<[status: number, body: object]> {
    const { url, method } = request;
    if (url === '/nodes') return [200, [{ types: this.known }]];
    if (url === CREDENTIALS_PATH && method === 'GET') return [200, { credentials: this.credentials }];
    const body = method === 'GET' ? {} : JSON.parse(await text(request));
    if (url === CREDENTIALS_PATH) {
      this.credentials = body.credentials;
      this.kept.push(body.credentials);
      return [200, {}];
    }
    if (method === 'GET') return [200, { flows: this.flows, rev: this.rev }];
    if (body.rev !== this.rev) return [409, {}];
    this.flows = body.flows;
    this.credentials = body.credentials ?? null;
    const { rev } = this;
    await this.onDeploy(body.flows);
    return [200, { rev }];
  }
}
