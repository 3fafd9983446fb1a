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
  send(port: number, sound: { ms: number; level: number; lost?: readonly number[] }): Promise<number> {
    return this.say(port, new Int16Array((sound.ms / 20) * L16_PACKET_SAMPLES).fill(sound.level), sound.lost);
  }

  /** The same of any sound; what is no whole packet is left out. */
  async say(port: number, samples: Int16Array, lost: readonly number[] = []): Promise<number> {
    const stream = this.#streams.get(port) ?? {
      writer: new L16Writer({ ssrc: port, sequence: 1, timestamp: 1 }),
      atMs: 0,
    };
    this.#streams.set(port, stream);
    const half = L16_PACKET_SAMPLES / 2;
    let sent = 0;
    for (let packet = 0; (packet + 1) * L16_PACKET_SAMPLES <= samples.length; packet++) {
      const at = packet * L16_PACKET_SAMPLES;
      stream.atMs += 20;
      stream.writer.push(samples.subarray(at, at + half), stream.atMs - 10);
      const datagram = stream.writer.push(samples.subarray(at + half, at + 2 * half), stream.atMs);
      if (datagram === null || lost.includes(packet)) continue;
      await new Promise((resolve) => this.#socket.send(datagram, port, '127.0.0.1', resolve));
      sent += 1;
    }
    return sent;
  }
}
