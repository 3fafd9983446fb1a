/** A site for a test: a real broker with its switchboard, and links under any identity of it. */
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type LinkMessage, MqttLink, type MqttLinkOptions } from '../../src/adapters/mqtt/mqtt-link.js';
import type { DirectoryEntry } from '../../src/call/directory.js';
import { systemClock } from '../../src/core/clock.js';
import { silentLogger } from '../../src/core/logger.js';
import { SiteHost, type SiteHostOptions } from '../../src/station/site-host.js';

export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/** One that nobody has now; those after it are as good as free. */
export async function freeUdpPort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1');
  await once(socket, 'listening');
  const { port } = socket.address();
  socket.close();
  await once(socket, 'close');
  return port;
}

/** Resolves when `holds` does; a test that waits in vain ends by its own timeout. */
export async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 5));
}

export interface Heard {
  readonly topic: string;
  readonly text: string;
  readonly retained: boolean;
}

export const DIRECTORY: Record<string, DirectoryEntry> = {
  door: { name: 'Front door', numbers: ['1'] },
  panel: { name: 'Wohnung Süd', numbers: ['201'] },
  attic: { name: 'Attic', numbers: [], mayCall: ['door'] },
  away: { name: 'Away', numbers: ['9'] },
};

export class Site {
  readonly dir: string;
  readonly port: number;
  readonly host: SiteHost;
  readonly #links: MqttLink[] = [];

  private constructor(dir: string, port: number, host: SiteHost) {
    this.dir = dir;
    this.port = port;
    this.host = host;
  }

  /** @param more another site than `home`, with other stations, or with a way to the cloud */
  static async start(more: Partial<Pick<SiteHostOptions, 'site' | 'stations' | 'cloud' | 'echo'>> = {}): Promise<Site> {
    const dir = mkdtempSync(join(tmpdir(), 'entryphone-site-'));
    const port = await freePort();
    const listen = { address: '127.0.0.1', port };
    const common = { clock: systemClock, logger: silentLogger };
    return new Site(
      dir,
      port,
      await SiteHost.start({ dir, site: 'home', listen, stations: DIRECTORY, ...common, ...more }),
    );
  }

  /** A link that hears `filters` into `heard`; not yet started. */
  link(
    identity: string,
    filters: string[] = [],
    more: Partial<MqttLinkOptions> & { port?: number; scheme?: string } = {},
  ): { link: MqttLink; heard: Heard[] } {
    const { ca, cert, key } = this.host.credentialsOf(identity);
    const { port = this.port, scheme = 'mqtts', ...options } = more;
    const link = new MqttLink({
      url: `${scheme}://127.0.0.1:${port}`,
      ca: readFileSync(ca),
      cert: readFileSync(cert),
      key: readFileSync(key),
      clientId: identity,
      clock: systemClock,
      logger: silentLogger,
      backoff: { firstMs: 20, mostMs: 200 },
      ...options,
    });
    const heard: Heard[] = [];
    for (const filter of filters) {
      link.subscribe(filter, (message: LinkMessage) => {
        heard.push({ topic: message.topic, text: Buffer.from(message.body).toString(), retained: message.retained });
      });
    }
    this.#links.push(link);
    return { link, heard };
  }

  /** As `link`, connected. */
  async connected(...of: Parameters<Site['link']>): Promise<{ link: MqttLink; heard: Heard[] }> {
    const made = this.link(...of);
    made.link.start();
    await until(() => made.link.state.connected);
    return made;
  }

  async stop(): Promise<void> {
    await Promise.all(this.#links.map((link) => link.close()));
    await this.host.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
