import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { type RpcServer, serveRpc } from '../adapters/sockets/rpc.js';
import { FleetStore } from '../adapters/sqlite/fleet-store.js';
import type { SigningKey } from '../adapters/tuf/signing-key.js';
import type { ManagerConfig } from '../config/manager-config.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { CommandOrder } from '../protocol/command.js';
import {
  type JobView,
  MANAGER_SOCKET,
  managerNotifications,
  managerRequests,
  type OrderOutcome,
  type StationView,
} from '../protocol/manager-api.js';
import { MANAGER_ID } from '../protocol/topics.js';
import { commandKey } from './command-key.js';
import { Commander } from './commander.js';
import { hearFleet } from './fleet-listener.js';
import { Jobs } from './jobs.js';
import { PieceServer } from './piece-server.js';
import { TimestampKeeper } from './timestamp-keeper.js';

const MOST_JOBS_TOLD = 200;
const MOST_AUDIT_TOLD = 50;

/**
 * The fleet manager: what it knows of stations, what it tells them to do, and who had it do so.
 *
 * ```
 *   entryphone fleet ══socket══ FleetManager ── FleetStore (stations, jobs, audit)
 *                                  │  Jobs ──▶ down/desired Commander ──▶ down/cmd     hearFleet ◀── up/…
 *                                  └── MqttLink ══ the broker of a site, or of the cloud ══ stations
 * ```
 */
export class FleetManager {
  readonly refused = new Counters<string>();
  readonly store: FleetStore;
  readonly jobs: Jobs;
  readonly commander: Commander;
  readonly #config: ManagerConfig;
  readonly #key: SigningKey;
  readonly #link: MqttLink;
  readonly #logger: Logger;
  readonly #timestamps: TimestampKeeper | undefined;
  readonly #pieces: PieceServer | undefined;
  #api: RpcServer<typeof managerNotifications> | undefined;

  /** @throws AppError `credentials-missing`, `key-invalid`, `store-unusable`, `socket-taken`, `socket-failed` */
  static async start(options: { config: ManagerConfig; clock: Clock; logger: Logger }): Promise<FleetManager> {
    const { config } = options;
    const key = await commandKey(join(config.state, 'command-key.pem'));
    const manager = new FleetManager({ ...options, key });
    try {
      await manager.#serve();
      return manager;
    } catch (error) {
      await manager.close();
      throw error;
    }
  }

  private constructor(options: { config: ManagerConfig; key: SigningKey; clock: Clock; logger: Logger }) {
    const { config, key, clock, logger } = options;
    const { url, ca, cert, key: keyFile } = config.mqtt;
    const { refused } = this;
    const site = config.site ?? '+';
    const common = { clock, logger };
    this.#config = config;
    this.#key = key;
    this.#logger = logger;
    this.#link = new MqttLink({
      ...{ url, ca: readPem(ca), cert: readPem(cert), key: readPem(keyFile) },
      clientId: MANAGER_ID,
      ...common,
    });
    this.store = new FleetStore({ path: join(config.state, 'fleet.sqlite'), ...common });
    this.jobs = new Jobs({
      link: this.#link,
      store: this.store,
      folder: config.repository?.folder,
      refused,
      onChange: (job) => this.#api?.notify('job.changed', job),
      ...common,
    });
    this.commander = new Commander({
      link: this.#link,
      key,
      refused,
      onLog: (lines) => this.#api?.notify('log.lines', lines),
      clock,
    });
    hearFleet({
      link: this.#link,
      site,
      store: this.store,
      refused,
      onOnline: (...station) => this.jobs.online(...station),
      onJob: (...report) => this.jobs.take(...report),
      onAnswer: (...answer) => this.commander.take(...answer),
    });
    this.#link.onState(({ connected }) => connected && this.jobs.connected());
    const { folder, keys, passphraseFile } = config.repository ?? {};
    this.#pieces =
      folder === undefined ? undefined : new PieceServer({ link: this.#link, site, dir: folder, ...common });
    this.#timestamps =
      folder === undefined || keys === undefined || passphraseFile === undefined
        ? undefined
        : new TimestampKeeper({ folder, keys, passphraseFile, ...common });
  }

  /** What stations are to have in `fleet.commandKeys`. */
  get publicKey(): string {
    return this.#key.publicHex;
  }

  async close(): Promise<void> {
    this.#timestamps?.close();
    this.#pieces?.close();
    this.jobs.close();
    this.commander.close();
    await this.#api?.close();
    await this.#link.close();
    this.store.close();
  }

  async #serve(): Promise<void> {
    const { store, jobs, refused } = this;
    const jobsAsked = (jobIds: readonly string[] | undefined): JobView[] =>
      jobIds === undefined ? store.jobs(MOST_JOBS_TOLD) : jobIds.flatMap((jobId) => store.job(jobId) ?? []);
    this.#api = await serveRpc({
      path: join(this.#config.run, MANAGER_SOCKET),
      requests: managerRequests,
      notifications: managerNotifications,
      logger: this.#logger,
      refused,
      handlers: {
        'manager.status': () => this.#status(),
        'fleet.stations': () => ({ stations: store.stations() }),
        'fleet.station': ({ station: address }) => {
          const station = this.#stationAt(address);
          const name = `${station.station}@${station.site}`;
          return {
            station,
            jobs: store.jobsOf(station.site, station.station, MOST_JOBS_TOLD).map((job) => jobs.withProgress(job)),
            audit: store.audits(MOST_AUDIT_TOLD, name),
          };
        },
        'fleet.update': async ({ stations, ...wanted }) => ({
          jobs: await jobs.update({ ...wanted, stations: stations.map((address) => this.#stationAt(address)) }),
        }),
        'fleet.cancel': ({ jobId, by }) => jobs.cancel(jobId, by),
        'fleet.jobs': ({ jobIds }) => ({
          jobs: jobsAsked(jobIds).map((job) => jobs.withProgress(job)),
        }),
        'fleet.run': ({ station, order, by }) => this.#run(this.#stationAt(station), order, by),
        'fleet.audit': ({ most }) => ({ audit: store.audits(most) }),
      },
    });
    this.#link.start();
    void this.#timestamps?.start();
  }

  #status() {
    const { connected, fault } = this.#link.state;
    return {
      broker: { connected, fault: fault === null ? null : errorText(fault) },
      commandKey: this.#key.publicHex,
      repository: this.#config.repository?.folder ?? null,
      stations: this.store.stations().length,
      jobs: this.store.openJobs().length,
      served: this.#pieces?.figures() ?? null,
      refused: { ...this.refused.all(), ...this.#pieces?.refused.all() } as Record<string, number>,
    };
  }

  /** Gives an order, and notes that before it is given as well as what came of it. */
  async #run({ site, station }: StationView, order: CommandOrder, by: string): Promise<OrderOutcome> {
    const what = order.verb === 'restart' ? `restart ${order.service}` : order.verb;
    const about = { by, what, target: `${station}@${site}` };
    this.store.audit({ ...about, outcome: 'ordered', detail: JSON.stringify(order) });
    try {
      const outcome = await this.commander.run(site, station, order, by);
      this.store.audit({ ...about, outcome: outcome.code, detail: outcome.text });
      return outcome;
    } catch (error) {
      const code = error instanceof AppError ? error.code : 'failed';
      this.store.audit({ ...about, outcome: code, detail: errorText(error) });
      throw code === 'unheard' ? offline(about.target) : error;
    }
  }

  /** @throws AppError `station-unknown` */
  #stationAt(address: string): StationView {
    const [id = '', site] = address.split('@');
    const found =
      site === undefined
        ? this.store.stations().filter(({ station }) => station === id)
        : [this.store.station(site, id)].filter((one) => one !== undefined);
    const [one] = found;
    if (one !== undefined && found.length === 1) return one;
    throw new AppError(
      'station-unknown',
      one === undefined ? `no station ${address} was ever heard of` : `${id} is in several sites`,
      {
        remedy:
          one === undefined
            ? 'See: entryphone fleet stations'
            : `Say which: ${found.map(({ site: at }) => `${id}@${at}`).join(' or ')}`,
      },
    );
  }
}

function offline(target: string): AppError {
  return new AppError('no-answer', `${target} is not connected`, { remedy: 'See: entryphone fleet stations' });
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new AppError('credentials-missing', `${path} can't be read (${(error as NodeJS.ErrnoException).code})`, {
      remedy: "It is made by the site's or the cloud's authority; see mqtt in the manager's configuration",
    });
  }
}
