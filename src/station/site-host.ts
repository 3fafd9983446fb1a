import { readFile } from 'node:fs/promises';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { SiteBroker } from '../adapters/broker/site-broker.js';
import { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { type Credentials, ensureSitePki, type SitePki, SWITCHBOARD_ID } from '../adapters/pki/site-pki.js';
import type { DirectoryEntry } from '../call/directory.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { StationStatus } from '../protocol/station-api.js';
import { Switchboard } from './switchboard.js';

export interface SiteHostOptions {
  /** `config.state`: gets the folders `pki` and `broker`, and `switchboard.json`. */
  readonly dir: string;
  readonly site: string;
  readonly listen: { readonly address: string; readonly port: number };
  /** `config.siteHost.stations`. */
  readonly stations: Readonly<Record<string, DirectoryEntry>>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Makes the site's certificates under `{dir}/pki` where they are missing; what a station needs to be started with. */
export function ensureSiteCredentials(options: Omit<SiteHostOptions, 'logger'>): Promise<SitePki> {
  const { dir, site, stations, listen, clock } = options;
  const addresses = [hostname(), `${hostname()}.local`, ...ownAddresses(listen.address)];
  return ensureSitePki({ dir: join(dir, 'pki'), site, stations: Object.keys(stations), addresses, clock });
}

/** What the site host runs for everybody: the broker and the switchboard. */
export class SiteHost {
  readonly broker: SiteBroker;
  readonly switchboard: Switchboard;
  readonly #pki: SitePki;
  readonly #link: MqttLink;

  private constructor(parts: { broker: SiteBroker; switchboard: Switchboard; pki: SitePki; link: MqttLink }) {
    this.broker = parts.broker;
    this.switchboard = parts.switchboard;
    this.#pki = parts.pki;
    this.#link = parts.link;
  }

  /**
   * Resolves when the broker listens, or has been tried once: `broker.state` says which, and it is tried again.
   * @throws AppError `pki-damaged`, `config-invalid`
   */
  static async start(options: SiteHostOptions): Promise<SiteHost> {
    const { dir, site, stations, listen, clock } = options;
    const logger = options.logger.child({ part: 'site-host' });
    const pki = await ensureSiteCredentials(options);
    const own = pki.credentialsOf(SWITCHBOARD_ID);
    const broker = await SiteBroker.start({
      dir: join(dir, 'broker'),
      site,
      listen,
      stations: Object.keys(stations),
      server: pki.server,
      switchboard: { id: SWITCHBOARD_ID, ...own },
      clock,
      logger,
    });
    const url = `mqtts://${reachable(listen.address)}:${listen.port}`;
    const pem = { ca: await readFile(own.ca), cert: await readFile(own.cert), key: await readFile(own.key) };
    const link = new MqttLink({ url, ...pem, clientId: SWITCHBOARD_ID, clock, logger });
    const journalPath = join(dir, 'switchboard.json');
    const switchboard = new Switchboard({ link, site, stations, journalPath, clock, logger });
    link.start();
    return new SiteHost({ broker, switchboard, pki, link });
  }

  get caPath(): string {
    return this.#pki.caPath;
  }

  /** PEM files of a station of the directory. @throws AppError `unknown-station` */
  credentialsOf(station: string): Credentials {
    return this.#pki.credentialsOf(station);
  }

  status(): NonNullable<StationStatus['siteHost']> {
    const { running, fault } = this.broker.state;
    const { refused, ...figures } = this.switchboard.figures();
    return {
      broker: { running, fault: fault === null ? null : errorText(fault) },
      ...figures,
      refused: refused as Record<string, number>,
    };
  }

  /** Within a second and a half. */
  async close(): Promise<void> {
    await this.#link.close();
    await this.switchboard.settled();
    await this.broker.stop();
  }
}

/** Every address that a listener at `address` answers to. */
function ownAddresses(address: string): string[] {
  if (address !== '0.0.0.0' && address !== '::') return [address];
  return Object.values(networkInterfaces()).flatMap((list) =>
    (list ?? []).filter((entry) => !entry.address.startsWith('fe80')).map((entry) => entry.address),
  );
}

function reachable(address: string): string {
  if (address === '0.0.0.0') return '127.0.0.1';
  if (address === '::') return '[::1]';
  return address.includes(':') ? `[${address}]` : address;
}
