/** A cloud for a test: a real broker that sites are bridged to, and the certificates of its own authority. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { cloudAcl, GATEWAY_ID, siteIdentity } from '../../src/adapters/broker/mosquitto-config.js';
import { SiteBroker } from '../../src/adapters/broker/site-broker.js';
import { MqttLink } from '../../src/adapters/mqtt/mqtt-link.js';
import { ensurePki, type SitePki } from '../../src/adapters/pki/site-pki.js';
import { systemClock } from '../../src/core/clock.js';
import { silentLogger } from '../../src/core/logger.js';
import { MANAGER_ID } from '../../src/protocol/topics.js';
import type { SiteHostOptions } from '../../src/station/site-host.js';
import { freePort, type Heard, until } from './site.js';

export class Cloud {
  readonly url: string;
  readonly pki: SitePki;
  readonly broker: SiteBroker;
  readonly #dir: string;
  readonly #links: MqttLink[] = [];

  private constructor(url: string, pki: SitePki, broker: SiteBroker, dir: string) {
    this.url = url;
    this.pki = pki;
    this.broker = broker;
    this.#dir = dir;
  }

  static async start(sites: readonly string[]): Promise<Cloud> {
    const dir = mkdtempSync(join(tmpdir(), 'entryphone-cloud-'));
    const clients = [GATEWAY_ID, MANAGER_ID, ...sites.map(siteIdentity)];
    const pki = await ensurePki({ dir: join(dir, 'pki'), owner: 'cloud', clients, addresses: [] });
    const listen = { address: '127.0.0.1', port: await freePort() };
    const broker = await SiteBroker.start({
      dir: join(dir, 'broker'),
      listen,
      acl: cloudAcl(sites),
      server: pki.server,
      probe: pki.credentialsOf(GATEWAY_ID),
      clock: systemClock,
      logger: silentLogger,
    });
    return new Cloud(`mqtts://127.0.0.1:${listen.port}`, pki, broker, dir);
  }

  /** What a site's configuration says of the cloud. */
  of(site: string): NonNullable<SiteHostOptions['cloud']> {
    return { url: this.url, ...this.pki.credentialsOf(siteIdentity(site)) };
  }

  /** Connected; hears `filters` into `heard`. */
  async connected(
    identity: string,
    filters: string[],
    clientId = identity,
  ): Promise<{ link: MqttLink; heard: Heard[] }> {
    const { ca, cert, key } = this.pki.credentialsOf(identity);
    const pem = { ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) };
    const link = new MqttLink({ url: this.url, ...pem, clientId, clock: systemClock, logger: silentLogger });
    const heard: Heard[] = [];
    for (const filter of filters) {
      link.subscribe(filter, ({ topic, body, retained }) => {
        heard.push({ topic, text: Buffer.from(body).toString(), retained });
      });
    }
    this.#links.push(link);
    link.start();
    await until(() => link.state.connected);
    return { link, heard };
  }

  async stop(): Promise<void> {
    await Promise.all(this.#links.map((link) => link.close()));
    await this.broker.stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}
