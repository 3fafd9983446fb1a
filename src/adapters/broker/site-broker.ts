import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { AppError, errorText } from '../../core/errors.js';
import { makeFolder } from '../../core/folder.js';
import type { Logger } from '../../core/logger.js';
import { type Bridge, mosquittoConfig } from './mosquitto-config.js';
import { MosquittoProcess } from './mosquitto-process.js';

/** Paths of PEM files. */
export interface CredentialFiles {
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

export interface SiteBrokerOptions {
  /** Folder of its own: configuration, ACL, database. */
  readonly dir: string;
  readonly listen: { readonly address: string; readonly port: number };
  /** See `mosquittoAcl`, `cloudAcl`. */
  readonly acl: string;
  /** To the cloud's broker. */
  readonly bridge?: Bridge | undefined;
  /** The listener's certificate. */
  readonly server: CredentialFiles;
  /** Of somebody who may connect: used to see whether the listener is ready. */
  readonly probe: CredentialFiles;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly backoff?: { readonly firstMs: number; readonly mostMs: number };
}

export interface BrokerState {
  readonly running: boolean;
  /** `port-taken`, `address-absent`, `broker-missing`, `broker-store-damaged`, `broker-not-ready`, `broker-ended`. */
  readonly fault: AppError | null;
}

/** A run that lasted so long starts the backoff afresh. */
const STABLE_AFTER_MS = 10_000;

/** A broker, of a site or of the cloud: mosquitto as our child, started again whenever it ends, until `stop()`. */
export class SiteBroker {
  readonly #options: SiteBrokerOptions;
  readonly #paths: { config: string; acl: string; store: string };
  readonly #backoff: Backoff;
  readonly #listeners: ((state: BrokerState) => void)[] = [];
  #state: BrokerState = { running: false, fault: null };
  #process: MosquittoProcess | null = null;
  #retry: Timer | null = null;
  #stopped = false;

  private constructor(options: SiteBrokerOptions) {
    this.#options = options;
    const dir = resolve(options.dir);
    this.#paths = { config: join(dir, 'mosquitto.conf'), acl: join(dir, 'acl'), store: join(dir, 'store') };
    this.#backoff = new Backoff(options.backoff ?? { firstMs: 500, mostMs: 15_000 });
  }

  /**
   * Resolves after the first attempt, be it good or not: `state` says which; a fault is tried again with backoff.
   * @throws what the folder's file system says when it can't be written
   */
  static async start(options: SiteBrokerOptions): Promise<SiteBroker> {
    const broker = new SiteBroker(options);
    await broker.#writeFiles();
    await broker.#attempt();
    return broker;
  }

  /** One that is never started: another runs it. */
  static async unstarted(options: SiteBrokerOptions): Promise<SiteBroker> {
    return new SiteBroker(options);
  }

  get state(): BrokerState {
    return this.#state;
  }

  /** Of the running mosquitto. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  onState(listener: (state: BrokerState) => void): void {
    this.#listeners.push(listener);
  }

  /** Within a second. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#retry?.cancel();
    await this.#process?.stop();
    this.#become({ running: false, fault: null });
  }

  async #writeFiles(): Promise<void> {
    const { listen, server, bridge } = this.#options;
    const { config, acl, store } = this.#paths;
    makeFolder(store);
    const files = { ca: resolve(server.ca), cert: resolve(server.cert), key: resolve(server.key), acl, store };
    await writeFile(acl, this.#options.acl, { mode: 0o600 });
    await writeFile(config, mosquittoConfig(listen, files, bridge), { mode: 0o600 });
  }

  async #attempt(): Promise<void> {
    const { clock, listen, logger, probe } = this.#options;
    const startedMs = clock.nowMs();
    try {
      const [ca, cert, key] = await Promise.all([probe.ca, probe.cert, probe.key].map((p) => readFile(p)));
      if (ca === undefined || cert === undefined || key === undefined || this.#stopped) return;
      const child = new MosquittoProcess({
        configPath: this.#paths.config,
        listen,
        probe: { ca, cert, key },
        clock,
        logger,
      });
      this.#process = child;
      await child.ready().catch(async (error: unknown) => {
        await child.stop();
        throw error;
      });
      logger.info({ pid: child.pid }, `the broker listens at ${listen.address}:${listen.port}`);
      this.#become({ running: true, fault: null });
      void child.exited.then((fault) => this.#failed(fault, startedMs));
    } catch (error) {
      await this.#failed(error, startedMs);
    }
  }

  async #failed(error: unknown, startedMs: number): Promise<void> {
    this.#process = null;
    if (this.#stopped) return;
    const { clock, logger } = this.#options;
    const fault = error instanceof AppError ? error : new AppError('broker-ended', errorText(error));
    if (this.#state.fault?.code !== fault.code) logger.warn({ code: fault.code }, errorText(fault));
    if (fault.code === 'broker-store-damaged') await this.#setStoreAside();
    if (clock.nowMs() - startedMs >= STABLE_AFTER_MS) this.#backoff.reset();
    this.#become({ running: false, fault });
    this.#retry = clock.after(this.#backoff.nextDelayMs(), () => void this.#attempt());
  }

  /** Retained messages are lost with it; stations say theirs again when they reconnect. */
  async #setStoreAside(): Promise<void> {
    const { clock, logger } = this.#options;
    const aside = `${this.#paths.store}.damaged-${clock.wallMs()}`;
    try {
      await rename(this.#paths.store, aside);
      await mkdir(this.#paths.store, { mode: 0o700 });
      logger.warn({ aside }, "the broker's database was set aside");
    } catch (error) {
      logger.error({ error: errorText(error) }, "the broker's database could not be set aside");
    }
  }

  #become(state: BrokerState): void {
    this.#state = state;
    for (const listener of this.#listeners) {
      try {
        listener(state);
      } catch (error) {
        this.#options.logger.error({ error: errorText(error) }, 'a listener of the broker failed');
      }
    }
  }
}
