import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { type Impairment, ImpairmentRelay, type RelayCount } from './impairment-relay.js';
import { networkToolsEnv, requireOwnNetwork } from './own-network.js';
import { RTP_PORTS_EACH, type StationId } from './site-config.js';

const LOOPBACK = '127.0.0.1';
const SEED = 20_261_123;

/** What a lossy call is to meet, both ways alike. */
export type Line = Pick<Impairment, 'lossPct' | 'meanBurstPackets' | 'jitterMs'>;

/**
 * Puts a poor network between the two stations' RTP ports: the kernel hands each datagram to a relay, which loses and delays it
 * by a seeded model, and hands what is left on, from whom and to whom it was. The stations see nothing of it. Only in a network
 * namespace of this process's own.
 *
 *     door 41000 ──▶ 41020 ─ nft: to port A ─▶ [relay] ─ from port B ─ nft: from 41000 ─▶ indoor 41020, and the other way alike
 */
export class ImpairedNetwork {
  /** Of a site's first call. @param firstPort of the door's range; the indoor station's follows */
  static firstPorts(firstPort: number): Record<StationId, number> {
    return { door: firstPort, indoor: firstPort + RTP_PORTS_EACH };
  }

  readonly #relay: ImpairmentRelay;

  private constructor(relay: ImpairmentRelay) {
    this.#relay = relay;
  }

  /** @param ports of the call, at both ends. @throws AppError `not-alone`, `nft-failed`, `impairment-invalid` */
  static async start(line: Line, ports: Readonly<Record<StationId, number>>): Promise<ImpairedNetwork> {
    requireOwnNetwork('no network is impaired');
    const { door, indoor } = ports;
    const relay = await ImpairmentRelay.open({
      a: { address: LOOPBACK, port: door },
      b: { address: LOOPBACK, port: indoor },
      aToB: line,
      bToA: line,
      seed: SEED,
      clock: systemClock,
    });
    try {
      await nft(
        [
          'table ip entryphone_lab {',
          ' chain out {',
          '  type route hook output priority mangle;',
          `  udp sport ${door} udp dport ${indoor} udp dport set ${relay.towardsA.port}`,
          `  udp sport ${indoor} udp dport ${door} udp dport set ${relay.towardsB.port}`,
          `  udp sport ${relay.towardsA.port} udp sport set ${indoor}`,
          `  udp sport ${relay.towardsB.port} udp sport set ${door}`,
          ' }',
          '}',
        ].join('\n'),
      );
    } catch (error) {
      await relay.close();
      throw error;
    }
    return new ImpairedNetwork(relay);
  }

  /** What became of the datagrams of both directions. */
  count(name: RelayCount): number {
    return this.#relay.counts.aToB.get(name) + this.#relay.counts.bToA.get(name);
  }

  async stop(): Promise<void> {
    await nft('delete table ip entryphone_lab').finally(() => this.#relay.close());
  }
}

async function nft(rules: string): Promise<void> {
  const child = spawn('nft', ['-f', '-'], { env: networkToolsEnv(), stdio: ['pipe', 'ignore', 'pipe'] });
  const said: string[] = [];
  child.stderr.on('data', (chunk: Buffer) => said.push(chunk.toString('utf8')));
  child.stdin.on('error', () => {}).end(rules);
  const failed = (why: string) =>
    new AppError('nft-failed', `nft: ${why}`, { remedy: 'It comes with nftables, and needs a kernel with nf_tables' });
  const [code] = await once(child, 'close').catch((error: unknown) => {
    throw failed(errorText(error));
  });
  if (code !== 0) throw failed(said.join('').trim());
}
