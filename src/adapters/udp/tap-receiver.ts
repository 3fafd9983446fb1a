import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import type { Clock } from '../../core/clock.js';
import type { Counters } from '../../core/counters.js';
import { AppError } from '../../core/errors.js';
import { type L16Read, L16Reader, type L16Sound } from '../../rtp/l16.js';

const LOOPBACK = '127.0.0.1';
/** About 100 packets of 20 ms, by the kernel's way to count: 2 s of sound; what comes then is lost, and told by the sequence. */
const RECEIVE_BUFFER_BYTES = 128 * 1024;

const FOREIGN: L16Read = { ok: false, fault: 'foreign-address' };

export interface TapReceiverOptions {
  readonly clock: Clock;
  /** A packet's sound, and when it came, monotonic. */
  readonly sound: (sound: L16Sound, arrivalMs: number) => void;
  /** `foreign-address`, and what is wrong with datagrams (RTP's faults, and L16's). */
  readonly refused: Counters<string>;
}

/** Hears a tap at a port of this machine's loopback that the system chose. Nothing of it throws. */
export class TapReceiver {
  readonly #socket: Socket;
  readonly #options: TapReceiverOptions;
  readonly #reader = new L16Reader();

  /** @throws AppError `socket-failed` */
  static open(options: TapReceiverOptions): Promise<TapReceiver> {
    const socket = createSocket({ type: 'udp4', recvBufferSize: RECEIVE_BUFFER_BYTES });
    return new Promise((resolve, reject) => {
      socket.once('error', (error: NodeJS.ErrnoException) => {
        socket.close();
        reject(new AppError('socket-failed', `Can't open a UDP port of loopback (${error.code ?? error.message})`));
      });
      socket.bind({ address: LOOPBACK, port: 0, exclusive: true }, () => {
        socket.removeAllListeners('error');
        resolve(new TapReceiver(socket, options));
      });
    });
  }

  private constructor(socket: Socket, options: TapReceiverOptions) {
    this.#socket = socket;
    this.#options = options;
    socket.on('message', (datagram, from) => this.#message(datagram, from));
    socket.on('error', () => options.refused.count('receive-failed'));
  }

  get port(): number {
    return this.#socket.address().port;
  }

  close(): Promise<void> {
    return new Promise((resolve) => this.#socket.close(() => resolve()));
  }

  #message(datagram: Buffer, from: RemoteInfo): void {
    const { clock, sound, refused } = this.#options;
    const read = from.address === LOOPBACK ? this.#reader.read(datagram) : FOREIGN;
    if (read.ok) sound(read.sound, clock.nowMs());
    else refused.count(read.fault);
  }
}
