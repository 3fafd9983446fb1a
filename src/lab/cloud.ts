import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { z } from 'zod';
import { cloudAcl, GATEWAY_ID, siteIdentity } from '../adapters/broker/mosquitto-config.js';
import { SiteBroker } from '../adapters/broker/site-broker.js';
import { ensurePki, type SitePki } from '../adapters/pki/site-pki.js';
import { Service } from '../adapters/supervisor/foreground.js';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { packageRoot } from '../core/package-root.js';
import { gatewayRoutes } from '../protocol/gateway-api.js';
import { MANAGER_ID } from '../protocol/topics.js';
import { inRealTime, MEDIA_PRIORITY } from './precedence.js';
import { type CloudPlan, SITE_OF, STATION_NAMES, STATIONS } from './site-config.js';

const gatewayProgram = join(packageRoot, 'dist/src/bin/gateway.js');
const ADDRESS = '127.0.0.1';
const RTP_PORTS = 40;

export interface CloudOptions {
  readonly dir: string;
  readonly ports: { readonly broker: number; readonly doorBroker: number; readonly http: number };
  readonly firstRtpPort: number;
  readonly logger: Logger;
  readonly onLog?: ((service: string, line: string) => void) | undefined;
}

/** What joins the lab's two sites: a broker that theirs are bridged to, and the gateway as a process of its own. */
export class LabCloud {
  readonly plan: CloudPlan;
  readonly gateway: Service;
  readonly #broker: SiteBroker;
  readonly #httpPort: number;

  private constructor(parts: { plan: CloudPlan; gateway: Service; broker: SiteBroker; httpPort: number }) {
    this.plan = parts.plan;
    this.gateway = parts.gateway;
    this.#broker = parts.broker;
    this.#httpPort = parts.httpPort;
  }

  /** @throws AppError with what could not be started; nothing is left running then */
  static async start(options: CloudOptions): Promise<LabCloud> {
    const { dir, ports, logger, onLog } = options;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const clients = [GATEWAY_ID, MANAGER_ID, ...STATIONS.map((id) => siteIdentity(SITE_OF[id]))];
    const pki = await ensurePki({ dir: join(dir, 'pki'), owner: 'cloud', clients, addresses: [] });
    const broker = await SiteBroker.start({
      dir: join(dir, 'broker'),
      listen: { address: ADDRESS, port: ports.broker },
      acl: cloudAcl(STATIONS.map((id) => SITE_OF[id])),
      server: pki.server,
      probe: pki.credentialsOf(GATEWAY_ID),
      clock: systemClock,
      logger,
    });
    const url = `mqtts://${ADDRESS}:${ports.broker}`;
    const config = join(dir, 'gateway.yaml');
    writeFileSync(config, JSON.stringify(gatewayConfig(options, url, pki)), { mode: 0o600 });
    const gateway = new Service({
      clock: systemClock,
      logger,
      output: (chunk) => {
        for (const line of chunk.toString('utf8').split('\n')) if (line !== '') onLog?.('gateway', line);
      },
      spec: {
        name: 'gateway',
        // Its workers, which speech goes through, inherit it.
        command: inRealTime(MEDIA_PRIORITY, [process.execPath, gatewayProgram, '--config', config]),
        startTimeoutMs: 10_000,
        watchdogMs: 2_000,
        stopTimeoutMs: 1_500,
      },
    });
    try {
      if (broker.state.fault !== null) throw broker.state.fault;
      await gateway.start();
    } catch (error) {
      await broker.stop();
      throw error;
    }
    const pems = {
      door: pki.credentialsOf(siteIdentity(SITE_OF.door)),
      indoor: pki.credentialsOf(siteIdentity(SITE_OF.indoor)),
    };
    const plan = { url, doorBrokerPort: ports.doorBroker, pems };
    return new LabCloud({ plan, gateway, broker, httpPort: ports.http });
  }

  /** Waits until the gateway can reach the stations of both sites. @throws AppError `station-incomplete` */
  async whole(): Promise<void> {
    const deadlineMs = systemClock.nowMs() + 15_000;
    for (;;) {
      const stations = await this.#ask('/stations', gatewayRoutes.stations.result);
      if (stations.every(({ online }) => online)) return;
      if (systemClock.nowMs() > deadlineMs) {
        const missing = stations.filter(({ online }) => !online).map(({ station }) => station);
        throw new AppError('station-incomplete', `the gateway does not reach ${missing.join(', ')}`);
      }
      await new Promise<void>((done) => systemClock.after(50, done));
    }
  }

  /** Datagrams of each party that its room workers have forwarded, of the rooms that are open. */
  async forwarded(): Promise<number[]> {
    const rooms = await this.#ask('/rooms', gatewayRoutes.rooms.result);
    const figures = await Promise.all(
      rooms.map(({ roomId }) => this.#ask(`/rooms/${roomId}`, gatewayRoutes.room.result)),
    );
    return figures.flatMap(({ legs }) => legs.map((leg) => leg.forwarded));
  }

  async stop(): Promise<void> {
    await this.gateway.stop();
    await this.#broker.stop();
  }

  async #ask<T>(path: string, result: z.ZodType<T>): Promise<T> {
    const response = await fetch(`http://${ADDRESS}:${this.#httpPort}${path}`);
    return result.parse(await response.json());
  }
}

function gatewayConfig({ ports, firstRtpPort }: CloudOptions, url: string, pki: SitePki): object {
  const { ca, cert, key } = pki.credentialsOf(GATEWAY_ID);
  const site = (id: (typeof STATIONS)[number]) => ({ stations: { [id]: { name: STATION_NAMES[id] } } });
  return {
    http: { port: ports.http },
    rtp: { address: ADDRESS, ports: { from: firstRtpPort, to: firstRtpPort + RTP_PORTS - 1 } },
    mqtt: { url, ca, cert, key },
    sites: Object.fromEntries(STATIONS.map((id) => [SITE_OF[id], site(id)])),
  };
}
