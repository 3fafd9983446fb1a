/** A station in a test: its files, its doubles, and what its local API tells. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Test } from 'tap';
import { connectRpc } from '../../src/adapters/sockets/rpc.js';
import { loadConfig } from '../../src/config/load.js';
import { systemClock } from '../../src/core/clock.js';
import { silentLogger } from '../../src/core/logger.js';
import { type CallView, stationNotifications, stationRequests } from '../../src/protocol/station-api.js';
import { type Station, startStation } from '../../src/station/station.js';
import { until } from './site.js';
import { BoardDouble, EngineDouble } from './station-doubles.js';

const BOARD = `
gpio:
  chip: none
  buttons: { bell: { line: 1, pressed: high }, open: { line: 2, pressed: high } }
  relay: { line: 3, wiring: fail-secure, safe: low }
`;

/** Files of a station's configuration below `dir`; `more` are lines of YAML. */
export function configFile(
  dir: string,
  id: string,
  url: string,
  pki: { ca: string; cert: string; key: string },
  more: string,
) {
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'board.yaml'), BOARD);
  writeFileSync(
    join(dir, 'station.yaml'),
    `
station: { id: ${id}, name: "The ${id}", site: home${more.includes('siteHost') ? ', role: site-host' : ''} }
board: board.yaml
audio: { capture: none, playback: none }
rtp: { address: 127.0.0.1 }
door: { pulseMs: 100 }
mqtt: { url: "${url}", ca: "${pki.ca}", cert: "${pki.cert}", key: "${pki.key}" }
state: state
run: run
${more}
`,
  );
  return loadConfig(join(dir, 'station.yaml'));
}

/** One station with its doubles, its local API's client and what that was told. */
export class Post {
  readonly dir: string;
  readonly board = new BoardDouble();
  readonly told: { name: string; params: Record<string, unknown> }[] = [];
  readonly watchdogs: number[] = [];
  readonly #config: ReturnType<typeof configFile>;
  engine: EngineDouble;
  #station: Station | undefined;
  #client: Awaited<ReturnType<Post['connect']>> | undefined;

  constructor(dir: string, config: ReturnType<typeof configFile>, engine: EngineDouble) {
    this.dir = dir;
    this.#config = config;
    this.engine = engine;
  }

  static async start(t: Test, config: ReturnType<typeof configFile>, dir: string): Promise<Post> {
    const post = new Post(dir, config, await EngineDouble.start(config.config.run));
    t.teardown(() => post.stop());
    await post.startStation();
    return post;
  }

  async startStation(): Promise<void> {
    this.#station = await startStation({
      ...this.#config,
      clock: systemClock,
      logger: silentLogger,
      notify: { watchdog: () => this.watchdogs.push(systemClock.nowMs()), restart: () => {} },
      openPins: this.board.open,
    });
    this.#client = await this.connect();
  }

  connect() {
    return connectRpc({
      path: join(this.#config.config.run, 'station.sock'),
      requests: stationRequests,
      notifications: stationNotifications,
      timeoutMs: 5_000,
      onNotification: (name, params) => this.told.push({ name, params }),
      onClose: () => {},
    });
  }

  get api() {
    if (this.#client === undefined) throw new Error('the station is not started');
    return this.#client;
  }

  /** The last state of the call of late; and why it ended. */
  get call(): Pick<CallView, 'state' | 'reason' | 'callId'> | undefined {
    const last = this.told.findLast((one) => one.name === 'call.changed');
    return last?.params as CallView | undefined;
  }

  is(state: string, reason?: string): Promise<void> {
    return until(() => this.call?.state === state && (reason === undefined || this.call.reason === reason));
  }

  async online(): Promise<void> {
    while (!(await this.api.call('station.status', {})).broker.connected) await new Promise(setImmediate);
  }

  async closeStation(): Promise<void> {
    this.#client?.close();
    await this.#station?.close();
  }

  async stop(): Promise<void> {
    await this.closeStation();
    await this.engine.stop();
  }
}
