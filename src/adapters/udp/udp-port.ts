import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { Clock } from '../../core/clock.js';
import type { Counters } from '../../core/counters.js';
import { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import type { PacketListener, PacketPath } from '../../rtp/packet-path.js';
import { SymmetricRemote, type UdpAddress } from './symmetric-remote.js';
import { markAsVoice } from './traffic-class.js';

/**
 * The kernel counts about 1 KiB for a small packet: this holds some 250 of them, which is 5 s of 20 ms packets, so that a
 * stall of this process loses nothing.
 */
const RECEIVE_BUFFER_BYTES = 256 * 1024;
/** Datagrams that wait in this process because the kernel takes no more. */
const MOST_WAITING = 64;
/** A path of 1,500 bytes carries no more, and nobody needs more. */
const MOST_DATAGRAM_BYTES = 2_048;

export interface UdpPortOptions {
  readonly clock: Clock;
  /** `foreign-address`, `before-start`, `datagram-too-large`, `send-queue-full`, and the system's codes when sending fails (`send-ENETUNREACH`). */
  readonly refused: Counters<string>;
  /** Asked by `SymmetricRemote` whether what comes from elsewhere is expected. */
  readonly listener: PacketListener;
  readonly logger?: Logger;
}

/** The ports of one address that sessions take in turn: one that was just freed is taken last, as strays may still come to it. */
export class UdpPortRange {
  readonly #address: string;
  readonly #from: number;
  readonly #count: number;
  #next = 0;

  constructor(options: { address: string; from: number; to: number }) {
    this.#address = options.address;
    this.#from = options.from;
    this.#count = options.to - options.from + 1;
  }

  /** @throws AppError `port-taken` when no port is left, `address-absent`, `socket-failed` */
  async bind(options: UdpPortOptions): Promise<UdpPort> {
    for (let tries = 0; tries < this.#count; tries++) {
      const port = this.#from + this.#next;
      this.#next = (this.#next + 1) % this.#count;
      const socket = await bindSocket(this.#address, port);
      if (socket !== null) return new UdpPort(socket, { address: this.#address, port }, options);
    }
    const last = this.#from + this.#count - 1;
    throw new AppError('port-taken', `Every UDP port of ${this.#address} from ${this.#from} to ${last} is taken`, {
      remedy: 'Give rtp.ports a wider or another range, or end the program that holds them',
    });
  }
}

/** One port and no other. @throws AppError `port-taken`, `address-absent`, `socket-failed` */
export async function bindUdpPort(local: UdpAddress, options: UdpPortOptions): Promise<UdpPort> {
  const socket = await bindSocket(local.address, local.port);
  if (socket !== null) return new UdpPort(socket, local, options);
  throw new AppError('port-taken', `UDP port ${local.port} of ${local.address} is taken`, {
    remedy: 'End the program that holds it',
  });
}

/** One session's UDP socket: RTP and RTCP on one port (RFC 5761), symmetric (RFC 4961). Nothing of it throws. */
export class UdpPort implements PacketPath {
  readonly local: UdpAddress;
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #refused: Counters<string>;
  readonly #listener: PacketListener;
  readonly #remote = new SymmetricRemote();
  readonly #sent = (error: Error | null): void => {
    if (error !== null) this.#refused.count(`send-${(error as NodeJS.ErrnoException).code ?? 'failed'}`);
  };

  constructor(socket: Socket, local: UdpAddress, options: UdpPortOptions) {
    this.#socket = socket;
    this.local = local;
    this.#clock = options.clock;
    this.#refused = options.refused;
    this.#listener = options.listener;
    socket.on('message', (datagram, from) => this.#message(datagram, from));
    socket.on('error', this.#sent);
    const unmarked = markAsVoice(local);
    if (unmarked !== null) options.logger?.debug({ ...local, why: unmarked }, 'what is sent has no traffic class');
  }

  /** Where packets go; null until `towards`. */
  get remote(): UdpAddress | null {
    return this.#remote.current;
  }

  /** Names where the far end says that it is. Another address than before lets the remote be found anew. */
  towards(remote: UdpAddress): void {
    this.#remote.name(remote, this.#clock.nowMs());
  }

  /** Takes the datagram over. Before `towards` it goes nowhere. */
  send(datagram: Uint8Array): void {
    const remote = this.#remote.current;
    if (remote === null) return;
    try {
      if (this.#socket.getSendQueueCount() >= MOST_WAITING) this.#refused.count('send-queue-full');
      else this.#socket.send(datagram, remote.port, remote.address, this.#sent);
    } catch (error) {
      this.#sent(error as Error);
    }
  }

  /** Frees the port, once what was sent has left. */
  close(): Promise<void> {
    return new Promise((resolve) => this.#socket.close(() => resolve()));
  }

  #message(datagram: Buffer, from: RemoteInfo): void {
    const nowMs = this.#clock.nowMs();
    if (this.#remote.current === null) {
      this.#refused.count('before-start');
    } else if (datagram.length > MOST_DATAGRAM_BYTES) {
      this.#refused.count('datagram-too-large');
    } else if (this.#remote.admits(from.address, from.port, nowMs, () => this.#listener.expects(datagram))) {
      this.#listener.datagram(datagram, nowMs);
    } else {
      this.#refused.count('foreign-address');
    }
  }
}

/** @returns null where the port is taken */
function bindSocket(address: string, port: number): Promise<Socket | null> {
  const family = isIPv6(address) ? 6 : 4;
  const socket = createSocket({
    type: family === 6 ? 'udp6' : 'udp4',
    recvBufferSize: RECEIVE_BUFFER_BYTES,
    // Addresses are never names here: without a lookup a datagram leaves at once, not a turn of the loop later.
    lookup: (host, _options, done) => done(null, host, family),
  });
  return new Promise((resolve, reject) => {
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.close();
      if (error.code === 'EADDRINUSE') resolve(null);
      else reject(bindFault(address, port, error));
    });
    socket.bind({ address, port, exclusive: true }, () => {
      socket.removeAllListeners('error');
      resolve(socket);
    });
  });
}

function bindFault(address: string, port: number, error: NodeJS.ErrnoException): AppError {
  if (error.code === 'EADDRNOTAVAIL') {
    return new AppError('address-absent', `This machine has no address ${address}`, {
      remedy: "Set rtp.address to one of the station's own addresses",
      cause: error,
    });
  }
  return new AppError('socket-failed', `Can't open UDP port ${port} of ${address} (${error.code ?? error.message})`, {
    remedy: error.code === 'EACCES' ? 'Give rtp.ports a range above 1023' : 'See rtp.address and rtp.ports',
    cause: error,
  });
}
