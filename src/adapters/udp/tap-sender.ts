import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Counters } from '../../core/counters.js';
import { AppError } from '../../core/errors.js';
import type { UdpAddress } from './symmetric-remote.js';

/** Fewer than the datagrams that their writer keeps apart: none is written to while the kernel has yet to take it. */
const MOST_WAITING = 2;

/**
 * Datagrams to one port of this machine, each lost where it can't leave at once. Counted, a datagram each: `nobody-there` (the
 * kernel said that no socket is bound there), `queue-full`, `send-…` with the system's code. What its reader is too slow for, the
 * kernel drops at the reader's end: the sequence tells of it there.
 */
export class TapSender {
  readonly #socket: Socket;
  readonly #dropped: Counters<string>;
  readonly #sent = (error: Error | null): void => {
    if (error !== null) this.#failed(error);
  };

  /** @throws AppError `socket-failed` */
  static open(remote: UdpAddress, dropped: Counters<string>): Promise<TapSender> {
    const family = isIPv6(remote.address) ? 6 : 4;
    const socket = createSocket({
      type: family === 6 ? 'udp6' : 'udp4',
      lookup: (host, _options, done) => done(null, host, family),
    });
    return new Promise((resolve, reject) => {
      const fail = (error: NodeJS.ErrnoException): void => {
        socket.close();
        const why = error.code ?? error.message;
        reject(new AppError('socket-failed', `Can't send to ${remote.address}, UDP port ${remote.port} (${why})`));
      };
      socket.once('error', fail);
      // Connected, so that the kernel says when nobody is there.
      socket.connect(remote.port, remote.address, () => {
        socket.off('error', fail);
        resolve(new TapSender(socket, dropped));
      });
    });
  }

  private constructor(socket: Socket, dropped: Counters<string>) {
    this.#socket = socket;
    this.#dropped = dropped;
    socket.on('error', (error) => this.#failed(error));
  }

  /** The memory of the datagram may be used again after three more. */
  send(datagram: Uint8Array): void {
    try {
      if (this.#socket.getSendQueueCount() >= MOST_WAITING) this.#dropped.count('queue-full');
      else this.#socket.send(datagram, this.#sent);
    } catch (error) {
      this.#failed(error as Error);
    }
  }

  close(): void {
    this.#socket.close();
  }

  #failed(error: Error): void {
    const code = (error as NodeJS.ErrnoException).code ?? 'failed';
    this.#dropped.count(code === 'ECONNREFUSED' ? 'nobody-there' : `send-${code}`);
  }
}
