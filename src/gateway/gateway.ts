import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type HttpApi, serveHttpApi } from '../adapters/http/http-api.js';
import { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import type { DirectoryEntry } from '../call/directory.js';
import type { GatewayConfig } from '../config/gateway-config.js';
import type { Clock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { packageRoot } from '../core/package-root.js';
import { gatewayRoutes } from '../protocol/gateway-api.js';
import { GATEWAY_PRESENCE } from '../protocol/topics.js';
import { CallRooms } from './call-rooms.js';
import { GatewayMetrics } from './gateway-metrics.js';
import { SiteRouter } from './site-router.js';
import { WorkerPool } from './worker-pool.js';

const workerProgram = join(packageRoot, 'dist/src/bin/gateway-worker.js');
/** A hung worker is found out, and its rooms are elsewhere, within a second and a half. */
const PING_EVERY_MS = 250;
const PONG_WITHIN_MS = 1_000;
const INIT_MS = 3_000;
/** What a fault of the API means to HTTP. */
const STATUS: Readonly<Record<string, number>> = {
  'room-unknown': 404,
  'leg-unknown': 404,
  'room-taken': 409,
  'too-many-rooms': 503,
  'no-port': 503,
  'no-worker': 503,
  'worker-gone': 503,
  'worker-late': 503,
  'port-taken': 503,
};

/**
 * The gateway's dispatcher: calls between sites by MQTT, its HTTP API on loopback, and the workers that carry the media.
 *
 * ```
 *   site's broker ══bridge══ cloud's broker ── SiteRouter ── CallRooms ── WorkerPool ══pipe══ worker ══UDP══ stations
 *                                                              HTTP API ──┘
 * ```
 */
export class Gateway {
  readonly pool: WorkerPool;
  readonly router: SiteRouter;
  readonly #links: readonly MqttLink[];
  readonly #metrics: GatewayMetrics;
  #api: HttpApi | undefined;

  /** @throws AppError `credentials-missing`, `port-taken` */
  static async start(options: { config: GatewayConfig; clock: Clock; logger: Logger }): Promise<Gateway> {
    const gateway = new Gateway(options);
    try {
      await gateway.#serve(options.config.http.port, options.logger);
      return gateway;
    } catch (error) {
      await gateway.close();
      throw error;
    }
  }

  private constructor({ config, clock, logger }: { config: GatewayConfig; clock: Clock; logger: Logger }) {
    const { mqtt, rtp, workers, sites } = config;
    const pem = { ca: readPem(mqtt.ca), cert: readPem(mqtt.cert), key: readPem(mqtt.key) };
    const presence = (online: boolean) =>
      JSON.stringify({ v: 1, id: bootId, online, release: 'gateway', at: clock.wallMs() });
    const bootId = randomUUID();
    const common = { url: mqtt.url, ...pem, clock, logger };
    const link = new MqttLink({
      ...common,
      clientId: 'gateway',
      will: { topic: GATEWAY_PRESENCE, body: presence(false) },
    });
    const mediaLink = new MqttLink({ ...common, clientId: 'gateway--media' });
    this.#links = [link, mediaLink];
    this.pool = new WorkerPool({
      count: workers.count,
      program: workerProgram,
      rtp,
      limits: {
        initMs: INIT_MS,
        pingEveryMs: PING_EVERY_MS,
        pongWithinMs: PONG_WITHIN_MS,
        memoryBytes: workers.memoryMib * 2 ** 20,
      },
      clock,
      logger,
      onRoomLost: (callId) => this.router.endCall(callId, 'media-failed'),
    });
    this.router = new SiteRouter({
      link,
      mediaLink,
      directory: directoryOf(sites),
      sites: Object.keys(sites),
      rooms: new CallRooms(this.pool),
      clock,
      logger,
    });
    link.onState(({ connected }) => {
      if (!connected) return;
      const here = { topic: GATEWAY_PRESENCE, body: presence(true), retained: true, qos: 1, priority: 'call' } as const;
      link.publish(here).catch((error) => logger.warn({ error: errorText(error) }, 'the sites were not told of us'));
    });
    this.#metrics = new GatewayMetrics({
      pool: this.pool,
      router: this.router,
      links: { call: link, media: mediaLink },
    });
    for (const one of this.#links) one.start();
  }

  get httpPort(): number {
    return this.#api?.port ?? 0;
  }

  /** Calls between sites end; the sites are told. */
  async close(): Promise<void> {
    await this.#api?.close();
    this.#metrics.close();
    this.router.close();
    await Promise.all(this.#links.map((link) => link.close()));
    this.pool.stop();
  }

  async #serve(port: number, logger: Logger): Promise<void> {
    const { pool, router } = this;
    const [link] = this.#links;
    this.#api = await serveHttpApi({
      port,
      title: 'Entryphone gateway',
      version: '1',
      routes: gatewayRoutes,
      statusOf: STATUS,
      texts: [this.#metrics.route],
      logger,
      handlers: {
        health: () => {
          const { connected = false, fault = null } = link?.state ?? {};
          return {
            ok: pool.isReady && connected,
            broker: { connected, fault: fault === null ? null : errorText(fault) },
            workers: pool.workers(),
            workerEnds: pool.ends.all() as Record<string, number>,
            refused: router.refused.all() as Record<string, number>,
          };
        },
        rooms: () => pool.rooms(),
        room: async ({ params: { roomId } }) => ({ roomId, legs: await pool.figures(roomId) }),
        openRoom: async ({ body }) => {
          const roomId = randomUUID();
          const legs = await pool.open(roomId, body.legs);
          const worker = pool.rooms().find((room) => room.roomId === roomId)?.worker ?? null;
          return { roomId, worker, legs };
        },
        closeRoom: async ({ params: { roomId } }) => {
          await pool.close(roomId);
          return { roomId };
        },
        stations: () => router.stations(),
      },
    });
  }
}

function directoryOf(sites: GatewayConfig['sites']): Record<string, DirectoryEntry> {
  return Object.fromEntries(
    Object.entries(sites).flatMap(([site, { stations }]) =>
      Object.entries(stations).map(([station, entry]) => [`${station}@${site}`, entry]),
    ),
  );
}

function readPem(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (error) {
    throw new AppError('credentials-missing', `${path} can't be read (${(error as NodeJS.ErrnoException).code})`, {
      remedy: "It is made by the cloud's authority; see mqtt in the gateway's configuration",
    });
  }
}
