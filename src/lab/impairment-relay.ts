import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import { seededRandom } from '../core/seeded-random.js';

/** What a network does to the packets of one direction. What is left out does not happen. */
export interface Impairment {
  /** Share of packets lost, 0 … 100 %. */
  readonly lossPct?: number;
  /** Mean length of a run of losses, in packets (Gilbert 1960, Elliott 1963); left out, each packet is lost on its own. */
  readonly meanBurstPackets?: number;
  readonly delayMs?: number;
  /** Added to the delay, evenly spread over 0 … jitterMs; the order is kept. */
  readonly jitterMs?: number;
  /** Share of packets, 0 … 100 %, that are held `reorderMs` longer while others pass them. */
  readonly reorderPct?: number;
  readonly reorderMs?: number;
  /** Share of packets, 0 … 100 %, that arrive twice. */
  readonly duplicatePct?: number;
}

/** What became of one packet. */
export interface Fate {
  /** When it is to be passed on, on the same clock; empty where it was lost, two entries where it was doubled. */
  readonly atMs: readonly number[];
  readonly reordered: boolean;
}

/**
 * Decides on packets one by one: a pure state machine, whose losses, reorderings and duplicates depend on nothing but the
 * seed and the packet's number, so that two runs, or two receivers, meet the same network.
 */
export class ImpairmentModel {
  readonly #impairment: Impairment;
  readonly #random: () => number;
  #inBurst = false;
  #lastAtMs = Number.NEGATIVE_INFINITY;

  /** @throws AppError `impairment-invalid` */
  constructor(impairment: Impairment, seed: number) {
    checkImpairment(impairment);
    this.#impairment = impairment;
    this.#random = seededRandom(seed);
  }

  next(nowMs: number): Fate {
    const { delayMs = 0, jitterMs = 0, reorderPct = 0, reorderMs = 0, duplicatePct = 0 } = this.#impairment;
    // Always four draws a packet: switching one impairment on leaves the others' choices as they were.
    const [loss, jitter, reorder, duplicate] = [this.#random(), this.#random(), this.#random(), this.#random()];
    if (this.#lose(loss)) return { atMs: [], reordered: false };
    const inOrderMs = Math.max(nowMs + delayMs + jitter * jitterMs, this.#lastAtMs);
    const reordered = reorderMs > 0 && reorder * 100 < reorderPct;
    if (!reordered) this.#lastAtMs = inOrderMs;
    const atMs = reordered ? inOrderMs + reorderMs : inOrderMs;
    return { atMs: duplicate * 100 < duplicatePct ? [atMs, atMs] : [atMs], reordered };
  }

  #lose(draw: number): boolean {
    const { lossPct = 0, meanBurstPackets } = this.#impairment;
    const loss = lossPct / 100;
    if (meanBurstPackets === undefined || loss === 0 || loss === 1) return draw < loss;
    const leave = 1 / meanBurstPackets;
    const enter = Math.min(1, (loss * leave) / (1 - loss));
    this.#inBurst = this.#inBurst ? draw >= leave : draw < enter;
    return this.#inBurst;
  }
}

function checkImpairment(impairment: Impairment): void {
  const bad = (what: string) =>
    new AppError('impairment-invalid', `Impairment: ${what}`, { remedy: 'Shares are 0 … 100, times 0 … 60000 ms' });
  for (const [name, value] of Object.entries(impairment)) {
    if (name === 'meanBurstPackets' ? !(value >= 1) : !(value >= 0 && value <= (name.endsWith('Pct') ? 100 : 60_000))) {
      throw bad(`${name} is ${value}`);
    }
  }
}

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export interface RelayOptions {
  readonly a: Endpoint;
  readonly b: Endpoint;
  readonly aToB: Impairment;
  readonly bToA: Impairment;
  readonly seed: number;
  readonly clock: Clock;
  /** Packets in flight, both ways together; more are dropped and counted as `full`. */
  readonly mostInFlight?: number;
}

export type RelayCount = 'received' | 'lost' | 'reordered' | 'duplicated' | 'passed' | 'full' | 'stray' | 'send-failed';

/**
 * Stands between two UDP endpoints on one machine and impairs what they send each other:
 *
 *     a ⇄ towardsA [relay] towardsB ⇄ b
 *
 * `a` sends to `towardsA` and hears from there, as `b` does with `towardsB`: to a symmetric RTP peer (RFC 4961) the relay
 * is the other side. What comes from anybody else is dropped and counted as `stray`.
 */
export class ImpairmentRelay {
  readonly towardsA: Endpoint;
  readonly towardsB: Endpoint;
  readonly counts = { aToB: new Counters<RelayCount>(), bToA: new Counters<RelayCount>() };
  readonly #sockets: readonly [Socket, Socket];
  readonly #clock: Clock;
  readonly #mostInFlight: number;
  readonly #inFlight = new Set<Timer>();
  #closed = false;

  /** Opens both ports, free ones of the addresses' loopback. @throws AppError `impairment-invalid`, `port-taken` */
  static async open(options: RelayOptions): Promise<ImpairmentRelay> {
    const models = {
      aToB: new ImpairmentModel(options.aToB, options.seed),
      bToA: new ImpairmentModel(options.bToA, options.seed + 1),
    };
    const socketA = await openSocket(options.a.address);
    const socketB = await openSocket(options.b.address).catch((error: unknown) => {
      socketA.close();
      throw error;
    });
    return new ImpairmentRelay(options, models, [socketA, socketB]);
  }

  private constructor(
    options: RelayOptions,
    models: { aToB: ImpairmentModel; bToA: ImpairmentModel },
    sockets: readonly [Socket, Socket],
  ) {
    const [socketA, socketB] = sockets;
    this.#sockets = sockets;
    this.#clock = options.clock;
    this.#mostInFlight = options.mostInFlight ?? 2_000;
    this.towardsA = { address: socketA.address().address, port: socketA.address().port };
    this.towardsB = { address: socketB.address().address, port: socketB.address().port };
    this.#carry(socketA, options.a, socketB, options.b, models.aToB, this.counts.aToB);
    this.#carry(socketB, options.b, socketA, options.a, models.bToA, this.counts.bToA);
  }

  get inFlight(): number {
    return this.#inFlight.size;
  }

  /** Drops what is in flight and frees both ports. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#inFlight) timer.cancel();
    this.#inFlight.clear();
    await Promise.all(this.#sockets.map((socket) => new Promise<void>((closed) => socket.close(() => closed()))));
  }

  #carry(
    from: Socket,
    sender: Endpoint,
    to: Socket,
    receiver: Endpoint,
    model: ImpairmentModel,
    counts: Counters<RelayCount>,
  ): void {
    from.on('message', (packet, source) => {
      if (source.port !== sender.port || source.address !== sender.address) {
        counts.count('stray');
        return;
      }
      counts.count('received');
      const nowMs = this.#clock.nowMs();
      const fate = model.next(nowMs);
      if (fate.atMs.length === 0) counts.count('lost');
      if (fate.atMs.length === 2) counts.count('duplicated');
      if (fate.reordered) counts.count('reordered');
      for (const atMs of fate.atMs) {
        this.#passAfter(atMs - nowMs, counts, () =>
          to.send(packet, receiver.port, receiver.address, (error) => {
            counts.count(error === null ? 'passed' : 'send-failed');
          }),
        );
      }
    });
    // A closed port of the far end comes back as ECONNREFUSED; the relay goes on.
    from.on('error', () => counts.count('send-failed'));
  }

  #passAfter(delayMs: number, counts: Counters<RelayCount>, pass: () => void): void {
    if (delayMs <= 0) {
      pass();
      return;
    }
    if (this.#inFlight.size >= this.#mostInFlight) {
      counts.count('full');
      return;
    }
    const timer = this.#clock.after(delayMs, () => {
      this.#inFlight.delete(timer);
      pass();
    });
    this.#inFlight.add(timer);
  }
}

async function openSocket(address: string): Promise<Socket> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4');
  try {
    socket.bind(0, address);
    await once(socket, 'listening');
    return socket;
  } catch (cause) {
    socket.close();
    throw new AppError('port-taken', `No UDP port could be opened on ${address}`, {
      remedy: 'Use an address of this machine, such as 127.0.0.1',
      cause,
    });
  }
}
