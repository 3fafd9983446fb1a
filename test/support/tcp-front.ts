/** A TCP relay before a broker, that can be cut, stalled, and seen through. Closed at the end of the test. */
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';

export class TcpFront {
  readonly #server: Server;
  readonly #pairs = new Set<{ near: Socket; far: Socket }>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async start(farPort: number): Promise<TcpFront> {
    const server = createServer();
    const front = new TcpFront(server);
    server.on('connection', (near) => {
      const far = connect(farPort, '127.0.0.1');
      const pair = { near, far };
      front.#pairs.add(pair);
      for (const [from, to] of [
        [near, far],
        [far, near],
      ] as const) {
        from.pipe(to);
        from.on('error', () => {});
        from.on('close', () => {
          to.destroy();
          front.#pairs.delete(pair);
        });
      }
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return front;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** Ends every connection at once, as a power cut at the client would. */
  cut(): void {
    for (const { near, far } of this.#pairs) {
      near.destroy();
      far.destroy();
    }
  }

  /** Holds back what comes from the client. */
  stall(): void {
    for (const { near, far } of this.#pairs) near.unpipe(far).pause();
  }

  release(): void {
    for (const { near, far } of this.#pairs) near.pipe(far);
  }

  async close(): Promise<void> {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
