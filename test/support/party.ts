import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Test } from 'tap';
import type { Transport } from '../../src/protocol/engine-api.js';
import { writeRtp } from '../../src/rtp/rtp-packet.js';

export const LOOPBACK = '127.0.0.1';

/** A range for one test. */
export function somePorts(): { from: number; to: number } {
  const from = 30_000 + Math.floor(Math.random() * 9_000);
  return { from, to: from + 200 };
}

/** A station's UDP socket, which notes the sequence numbers that it hears. */
export class Party {
  readonly heard: number[] = [];
  #port = 0;
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('message', (datagram) => this.heard.push(datagram.readUInt16BE(2)));
  }

  static async at(t: Test): Promise<Party> {
    const socket = createSocket('udp4').bind(0, LOOPBACK);
    await once(socket, 'listening');
    t.teardown(() => socket.close());
    return new Party(socket);
  }

  get address(): Transport {
    return { address: LOOPBACK, port: this.#socket.address().port };
  }

  towards(port: number): this {
    this.#port = port;
    return this;
  }

  say(sequence: number, text?: Buffer): void {
    const rtp = { payloadType: 96, marker: false, timestamp: 960 * sequence, ssrc: 7, csrcs: [], extension: null };
    this.#socket.send(
      text ?? writeRtp({ ...rtp, sequence, payload: Buffer.alloc(60, sequence) }),
      this.#port,
      LOOPBACK,
    );
  }
}
