import { createSocket } from 'node:dgram';
import type { Test } from 'tap';
import { L16_PACKET_SAMPLES, L16Writer } from '../../src/rtp/l16.js';

/** The media process as a tap's port sees it: sound of one level, packet by packet, as fast as it can. */
export class TapDouble {
  readonly #socket = createSocket('udp4');
  readonly #streams = new Map<number, { writer: L16Writer; atMs: number }>();

  constructor(t: Test) {
    t.teardown(() => this.#socket.close());
  }

  /** @param lost packets that do not arrive, counted from 0 @returns when all are sent, with how many those are */
  async send(port: number, sound: { ms: number; level: number; lost?: readonly number[] }): Promise<number> {
    const stream = this.#streams.get(port) ?? {
      writer: new L16Writer({ ssrc: port, sequence: 1, timestamp: 1 }),
      atMs: 0,
    };
    this.#streams.set(port, stream);
    const frame = new Int16Array(L16_PACKET_SAMPLES / 2).fill(sound.level);
    let sent = 0;
    for (let packet = 0; packet < sound.ms / 20; packet++) {
      stream.atMs += 20;
      stream.writer.push(frame, stream.atMs - 10);
      const datagram = stream.writer.push(frame, stream.atMs);
      if (datagram === null || sound.lost?.includes(packet) === true) continue;
      await new Promise((resolve) => this.#socket.send(datagram, port, '127.0.0.1', resolve));
      sent += 1;
    }
    return sent;
  }
}
