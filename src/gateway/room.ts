import { bindUdpPort, type UdpPort } from '../adapters/udp/udp-port.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { RateLimit } from '../core/rate-limit.js';
import type { Transport } from '../protocol/engine-api.js';
import type { Leg, LegFigures } from '../protocol/gateway-worker.js';
import type { PacketListener } from '../rtp/packet-path.js';
import { kindOfDatagram, RTP_HEADER_BYTES } from '../rtp/rtp-packet.js';
import { isStun } from '../rtp/stun.js';

/** Datagrams of one party in a second: packets of 10 ms make 100. */
const MOST_PER_SECOND = 500;

export interface RoomOptions {
  readonly address: string;
  readonly legs: readonly Leg[];
  readonly clock: Clock;
  /** A party's packets come from elsewhere than it said. */
  readonly moved: (legId: string, remote: Transport) => void;
}

/**
 * One call at a worker. RTP, RTCP and STUN are forwarded as they are, SSRC and sequence included; nothing is read but the
 * first bytes, nothing waits.
 */
export class Room {
  readonly #legs = new Map<string, RoomLeg>();

  /** @throws AppError `port-taken`, `address-absent`, `socket-failed`; no port stays open then */
  static async open(options: RoomOptions): Promise<Room> {
    const room = new Room();
    try {
      for (const leg of options.legs) room.#legs.set(leg.legId, await RoomLeg.open(leg, options));
    } catch (error) {
      await room.close();
      throw error;
    }
    for (const [legId, leg] of room.#legs) {
      leg.others = [...room.#legs].filter(([other]) => other !== legId).map(([, other]) => other);
    }
    return room;
  }

  /** @returns whether there is such a leg */
  towards(legId: string, remote: Transport): boolean {
    const leg = this.#legs.get(legId);
    leg?.towards(remote);
    return leg !== undefined;
  }

  figures(): LegFigures[] {
    return [...this.#legs.values()].map((leg) => leg.figures());
  }

  async close(): Promise<void> {
    await Promise.all([...this.#legs.values()].map((leg) => leg.close()));
  }
}

class RoomLeg implements PacketListener {
  others: readonly RoomLeg[] = [];
  readonly #legId: string;
  readonly #refused = new Counters<string>();
  readonly #flood: RateLimit;
  readonly #moved: RoomOptions['moved'];
  #port: UdpPort | null = null;
  #told: Transport | null;
  #forwarded = 0;

  private constructor({ legId, remote }: Leg, { clock, moved }: RoomOptions) {
    this.#legId = legId;
    this.#told = remote;
    this.#moved = moved;
    this.#flood = new RateLimit({ most: MOST_PER_SECOND, perMs: 1_000, clock });
  }

  static async open(leg: Leg, options: RoomOptions): Promise<RoomLeg> {
    const made = new RoomLeg(leg, options);
    const { address, clock } = options;
    made.#port = await bindUdpPort({ address, port: leg.port }, { clock, refused: made.#refused, listener: made });
    if (leg.remote !== null) made.#port.towards(leg.remote);
    return made;
  }

  towards(remote: Transport): void {
    this.#told = remote;
    this.#port?.towards(remote);
  }

  datagram(datagram: Uint8Array): void {
    this.#noticeMove();
    if (kindOfDatagram(datagram) === 'neither' && !isStun(datagram)) this.#refused.count('not-media');
    else if (this.#flood.admit() === undefined) this.#refused.count('flood');
    else {
      this.#forwarded += 1;
      for (const other of this.others) other.#port?.send(datagram);
    }
  }

  expects(datagram: Uint8Array): boolean {
    return datagram.length >= RTP_HEADER_BYTES && kindOfDatagram(datagram) === 'rtp';
  }

  figures(): LegFigures {
    const { local, remote } = this.#port ?? { local: { port: 0 }, remote: null };
    const refused = Object.entries(this.#refused.all()).map(([fault, count]) => [fault, count ?? 0]);
    return {
      legId: this.#legId,
      port: local.port,
      remote: remote === null ? null : { address: remote.address, port: remote.port },
      forwarded: this.#forwarded,
      refused: Object.fromEntries(refused),
    };
  }

  async close(): Promise<void> {
    await this.#port?.close();
  }

  #noticeMove(): void {
    const remote = this.#port?.remote ?? null;
    if (remote === null || (remote.port === this.#told?.port && remote.address === this.#told.address)) return;
    this.#told = { address: remote.address, port: remote.port };
    this.#moved(this.#legId, this.#told);
  }
}
