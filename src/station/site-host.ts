import { readFile } from 'node:fs/promises';
import { hostname, networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { type Bridge, mosquittoAcl } from '../adapters/broker/mosquitto-config.js';
import { SiteBroker } from '../adapters/broker/site-broker.js';
import { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { type Credentials, ensureSitePki, type SitePki, SWITCHBOARD_ID } from '../adapters/pki/site-pki.js';
import type { DirectoryEntry } from '../call/directory.js';
import type { MediaPath } from '../call/sdp.js';
import { ECHO_ID } from '../config/load.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { StationStatus } from '../protocol/station-api.js';
import { mediaIdentity } from '../protocol/topics.js';
import { EchoExtension, type EchoExtensionOptions } from './echo-extension.js';
import { type MediaLeg, MediaSwitch } from './media-switch.js';
import { Switchboard } from './switchboard.js';

const MQTTS_PORT = 8_883;

export interface SiteHostOptions {
  /** `config.state`: gets the folders `pki` and `broker`, and `switchboard.json`. */
  readonly dir: string;
  readonly site: string;
  readonly listen: { readonly address: string; readonly port: number };
  /** `config.siteHost.stations`. */
  readonly stations: Readonly<Record<string, DirectoryEntry>>;
  /** `config.siteHost.cloud`: the way to other sites. */
  readonly cloud?:
    | { readonly url: string; readonly ca: string; readonly cert: string; readonly key: string }
    | undefined;
  /** `config.siteHost.broker`: whether it is started here. */
  readonly broker?: 'own' | 'foreign';
  /** `config.siteHost.echo`: the echo extension's number. */
  readonly echo?: { readonly enabled: boolean; readonly number: string } | undefined;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Makes the site's certificates under `{dir}/pki` where they are missing; what a station needs to be started with. */
export function ensureSiteCredentials(options: Omit<SiteHostOptions, 'logger'>): Promise<SitePki> {
  const { dir, site, stations, listen, clock } = options;
  const addresses = [hostname(), `${hostname()}.local`, ...ownAddresses(listen.address)];
  return ensureSitePki({ dir: join(dir, 'pki'), site, stations: Object.keys(stations), addresses, clock });
}

/** What the site host runs for everybody: the broker, the switchboard, and the switch for media inside MQTT. */
export class SiteHost {
  readonly broker: SiteBroker;
  readonly switchboard: Switchboard;
  readonly mediaSwitch: MediaSwitch;
  readonly #hasEcho: boolean;
  #echo: EchoExtension | undefined;
  readonly #pki: SitePki;
  readonly #links: readonly MqttLink[];
  readonly #isForeign: boolean;

  private constructor(parts: {
    broker: SiteBroker;
    switchboard: Switchboard;
    mediaSwitch: MediaSwitch;
    pki: SitePki;
    links: readonly MqttLink[];
    hasEcho: boolean;
    isForeign: boolean;
  }) {
    this.broker = parts.broker;
    this.switchboard = parts.switchboard;
    this.mediaSwitch = parts.mediaSwitch;
    this.#pki = parts.pki;
    this.#links = parts.links;
    this.#hasEcho = parts.hasEcho;
    this.#isForeign = parts.isForeign;
  }

  /**
   * Resolves when the broker listens, or has been tried once: `broker.state` says which, and it is tried again.
   * @throws AppError `pki-damaged`, `config-invalid`
   */
  static async start(options: SiteHostOptions): Promise<SiteHost> {
    const { dir, site, stations, listen, clock, cloud, echo } = options;
    const logger = options.logger.child({ part: 'site-host' });
    const pki = await ensureSiteCredentials(options);
    const isForeign = options.broker === 'foreign';
    const broker = await SiteBroker[isForeign ? 'unstarted' : 'start']({
      dir: join(dir, 'broker'),
      listen,
      acl: mosquittoAcl(site, Object.keys(stations), SWITCHBOARD_ID),
      bridge: cloud === undefined ? undefined : bridgeTo(site, cloud),
      server: pki.server,
      probe: pki.credentialsOf(SWITCHBOARD_ID),
      clock,
      logger,
    });
    const url = `mqtts://${reachable(listen.address)}:${listen.port}`;
    const linkOf = async (id: string): Promise<MqttLink> => {
      const { ca, cert, key } = pki.credentialsOf(id);
      const pem = { ca: await readFile(ca), cert: await readFile(cert), key: await readFile(key) };
      return new MqttLink({ url, ...pem, clientId: id, clock, logger });
    };
    const links = [await linkOf(SWITCHBOARD_ID), await linkOf(mediaIdentity(SWITCHBOARD_ID))] as const;
    const journalPath = join(dir, 'switchboard.json');
    const switchboard = new Switchboard({
      link: links[0],
      site,
      stations,
      extensions:
        echo?.enabled === true ? { [ECHO_ID]: { name: ECHO_ID, numbers: [echo.number], isExtension: true } } : {},
      hasTrunk: cloud !== undefined,
      journalPath,
      clock,
      logger,
    });
    const farLegOf = (near: MediaLeg) => host.#farLegOf(near);
    const mediaSwitch = new MediaSwitch({ link: links[1], site, farLegOf, clock, logger });
    const hasEcho = echo?.enabled === true;
    const host: SiteHost = new SiteHost({ broker, switchboard, mediaSwitch, pki, links, hasEcho, isForeign });
    for (const link of links) link.start();
    return host;
  }

  /** From now on the echo extension answers, where the configuration has one, with sessions of this media process. */
  offerEcho(options: Omit<EchoExtensionOptions, 'id' | 'send'>): void {
    if (!this.#hasEcho) return;
    const echo: EchoExtension = new EchoExtension({ ...options, id: ECHO_ID, send: (message) => say(message) });
    const say = this.switchboard.answerFor(ECHO_ID, (message) => echo.take(message));
    this.#echo = echo;
  }

  /** A session of this station's media process has moved to another path; one of the echo's tells its peer. */
  moved(sessionId: string, path: MediaPath): void {
    this.#echo?.moved(sessionId, path);
  }

  /** The media process of this station is gone. */
  mediaLost(): void {
    this.#echo?.mediaLost();
  }

  get caPath(): string {
    return this.#pki.caPath;
  }

  /** PEM files of a station of the directory. @throws AppError `unknown-station` */
  credentialsOf(station: string): Credentials {
    return this.#pki.credentialsOf(station);
  }

  status(): NonNullable<StationStatus['siteHost']> {
    const { running, fault } = this.#isForeign ? this.#foreign() : this.broker.state;
    const { refused, ...figures } = this.switchboard.figures();
    return {
      broker: { running, fault: fault === null ? null : errorText(fault) },
      elsewhere: this.switchboard.reachesElsewhere,
      ...figures,
      refused: {
        ...(refused as Record<string, number>),
        ...Object.fromEntries(
          Object.entries(this.#echo?.refused.all() ?? {}).map(([fault, count]) => [`echo-${fault}`, count ?? 0]),
        ),
        ...Object.fromEntries(
          Object.entries(this.mediaSwitch.refused.all()).map(([fault, count]) => [`media-${fault}`, count ?? 0]),
        ),
      },
    };
  }

  /** The other end of an answered call; the echo's are in this station's media process, under ids of their own. */
  #farLegOf(near: MediaLeg): MediaLeg | undefined {
    const { switchboard } = this;
    const caller = this.#echo?.callerOf(near);
    if (caller !== undefined) return switchboard.peerOf(caller.sessionId, ECHO_ID) === undefined ? undefined : caller;
    const station = switchboard.peerOf(near.sessionId, near.station);
    if (station === ECHO_ID) return this.#echo?.legOf(near.sessionId);
    return station === undefined ? undefined : { ...near, station };
  }

  /** What is known of a broker that another runs. */
  #foreign(): { running: boolean; fault: Error | null } {
    const { connected = false, fault = null } = this.#links[0]?.state ?? {};
    return { running: connected, fault };
  }

  /** Within a second and a half. */
  async close(): Promise<void> {
    this.#echo?.close();
    await Promise.all(this.#links.map((link) => link.close()));
    await this.switchboard.settled();
    await this.broker.stop();
  }
}

function bridgeTo(site: string, cloud: NonNullable<SiteHostOptions['cloud']>): Bridge {
  const { hostname: host, port } = new URL(cloud.url);
  return { ...cloud, site, host, port: port === '' ? MQTTS_PORT : Number(port) };
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
