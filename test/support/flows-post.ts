/** A real station on a board without pins, and the real flows process under the real supervisor. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Test } from 'tap';
import { connectRpc } from '../../src/adapters/sockets/rpc.js';
import { Service } from '../../src/adapters/supervisor/foreground.js';
import { loadConfig } from '../../src/config/load.js';
import { systemClock } from '../../src/core/clock.js';
import { silentLogger } from '../../src/core/logger.js';
import { stationNotifications, stationRequests } from '../../src/protocol/station-api.js';
import { type Station, startStation } from '../../src/station/station.js';
import { freePort, until } from './site.js';
import { BoardDouble, EngineDouble } from './station-doubles.js';

const program = resolve(import.meta.dirname, '../../src/bin/flows.js');
const BOARD = `
gpio:
  chip: none
  buttons: { bell: { line: 1, pressed: high }, open: { line: 2, pressed: high } }
  relay: { line: 3, wiring: fail-secure, safe: low }
`;

export class FlowsPost {
  readonly dir = mkdtempSync(join(tmpdir(), 'ep-flows-'));
  readonly board = new BoardDouble();
  engine: EngineDouble | undefined;
  station: Station | undefined;
  flows: Service | undefined;
  /** Of the editor and its Admin API. */
  url = '';

  static async start(t: Test): Promise<FlowsPost> {
    const post = new FlowsPost();
    t.teardown(() => post.stop());
    const [broker, editor] = [await freePort(), await freePort()];
    post.url = `http://127.0.0.1:${editor}`;
    writeFileSync(join(post.dir, 'board.yaml'), BOARD);
    const pki = join(post.dir, 'state', 'pki');
    writeFileSync(
      join(post.dir, 'station.yaml'),
      `
station: { id: door, name: "Front door", site: home, role: site-host }
board: board.yaml
audio: { capture: none, playback: none }
rtp: { address: 127.0.0.1 }
buttons: { bell: { do: open-door }, open: { do: hang-up } }
door: { pulseMs: 100 }
flows: { port: ${editor}, goodAfterMs: 1000 }
mqtt: { url: "mqtts://127.0.0.1:${broker}", ca: ${pki}/ca.pem, cert: ${pki}/clients/door.pem, key: ${pki}/clients/door.pem }
siteHost: { listen: { address: 127.0.0.1, port: ${broker} }, stations: { door: { name: Front door }, kitchen: { name: Kitchen } } }
state: state
run: run
`,
    );
    const loaded = loadConfig(join(post.dir, 'station.yaml'));
    post.engine = await EngineDouble.start(loaded.config.run);
    const flows = new Service({
      spec: {
        name: 'flows',
        command: [process.execPath, program, '--config', join(post.dir, 'station.yaml')],
        startTimeoutMs: 30_000,
        stopTimeoutMs: 1_000,
      },
      clock: systemClock,
      logger: silentLogger,
      output: () => {},
    });
    post.flows = flows;
    post.station = await startStation({
      ...loaded,
      clock: systemClock,
      logger: silentLogger,
      notify: { watchdog: () => {}, restart: (_service, reason) => void flows.restart(reason) },
      openPins: post.board.open,
    });
    await flows.start();
    await until(async () => (await post.status()).state === 'running');
    await until(() => post.#watches('bell'));
    return post;
  }

  async status() {
    return this.#asking(async (client) => {
      const { flows } = await client.call('station.status', {});
      if (flows === null) throw new Error('flows are off');
      return flows;
    });
  }

  get password(): string {
    return readFileSync(join(this.dir, 'state/flows/editor-password'), 'utf8').trim();
  }

  /** The editor's user as one who has signed in. */
  async signIn(password = this.password) {
    const response = await fetch(`${this.url}/auth/token`, {
      method: 'POST',
      body: new URLSearchParams({
        client_id: 'node-red-editor',
        grant_type: 'password',
        scope: '*',
        username: 'installer',
        password,
      }),
    });
    const { access_token: token } = (await response.json().catch(() => ({}))) as { access_token?: string };
    return { url: this.url, token: token ?? '', status: response.status };
  }

  async stop(): Promise<void> {
    await this.flows?.stop();
    await this.station?.close();
    await this.engine?.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async calls() {
    return this.#asking(async (client) => (await client.call('station.status', {})).calls);
  }

  /** Whether flows have been heard that want this button: a press that nobody watches opens the door, as configured. */
  async #watches(button: string): Promise<boolean> {
    const { presses } = await this.status();
    this.board.press(button);
    await until(async () => {
      const now = (await this.status()).presses;
      return (now.unwatched ?? 0) + (now.acknowledged ?? 0) > (presses.unwatched ?? 0) + (presses.acknowledged ?? 0);
    });
    return ((await this.status()).presses.acknowledged ?? 0) > (presses.acknowledged ?? 0);
  }

  async #asking<T>(ask: (client: Awaited<ReturnType<FlowsPost['connect']>>) => Promise<T>): Promise<T> {
    const client = await this.connect();
    try {
      return await ask(client);
    } finally {
      client.close();
    }
  }

  connect() {
    return connectRpc({
      path: join(this.dir, 'run/station.sock'),
      requests: stationRequests,
      notifications: stationNotifications,
      timeoutMs: 5_000,
      onNotification: () => {},
      onClose: () => {},
    });
  }
}
