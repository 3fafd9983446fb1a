import type { Clock, Timer } from '../../core/clock.js';
import type { Counters } from '../../core/counters.js';
import { framePackets, MOST_FRAMED_PACKETS, unframePackets } from '../../rtp/framing.js';
import type { PacketListener, PacketPath } from '../../rtp/packet-path.js';
import type { MqttLink } from './mqtt-link.js';

/** How long a packet waits for others to share its message: half the way to the broker and back, within this. */
const LEAST_HOLD_MS = 10;
const MOST_HOLD_MS = 40;
/** While the connection takes nothing, what is older goes. */
const MOST_WAIT_MS = 400;

export interface MqttPacketPathOptions {
  /** Carries the paths of all sessions. */
  readonly link: Pick<MqttLink, 'sendNow' | 'roundTripMs'>;
  /** What is sent goes there. */
  readonly topic: string;
  readonly clock: Clock;
  /** `stalled` packets that waited too long to be sent, and `framing-…` faults of what came. */
  readonly refused: Counters<string>;
  readonly listener: PacketListener;
}

/**
 * One session's packets inside MQTT, where UDP is blocked: the same RTP and RTCP datagrams, framed (RFC 4571), several to a
 * message of QoS 0.
 *
 * ```
 *   send() ──▶ [ at most 400 ms, oldest first out ] ──hold 10 … 40 ms──▶ one message ──▶ up/media/{session}
 *   listener ◀── each packet ◀── message() ◀─────────────────────────────────────────── down/media/{session}
 * ```
 */
export class MqttPacketPath implements PacketPath {
  readonly #options: MqttPacketPathOptions;
  readonly #waiting: { readonly datagram: Uint8Array; readonly atMs: number }[] = [];
  #timer: Timer | null = null;
  #isClosed = false;

  constructor(options: MqttPacketPathOptions) {
    this.#options = options;
  }

  /** The far end's, as it came. */
  message(body: Uint8Array, arrivalMs: number): void {
    const { packets, fault } = unframePackets(body);
    for (const packet of packets) this.#options.listener.datagram(packet, arrivalMs);
    if (fault !== null) this.#options.refused.count(fault);
  }

  send(datagram: Uint8Array): void {
    if (this.#isClosed) return;
    this.#waiting.push({ datagram, atMs: this.#options.clock.nowMs() });
    this.#timer ??= this.#options.clock.after(this.#holdMs(), () => {
      this.#timer = null;
      this.#flush();
    });
    this.#dropOld();
  }

  close(): Promise<void> {
    this.#flush();
    this.#isClosed = true;
    this.#timer?.cancel();
    return Promise.resolve();
  }

  #holdMs(): number {
    const { roundTripMs } = this.#options.link;
    return Math.min(MOST_HOLD_MS, Math.max(LEAST_HOLD_MS, (roundTripMs ?? 0) / 2));
  }

  /** What can't be sent now stays for the next packet's turn. */
  #flush(): void {
    this.#dropOld();
    if (this.#waiting.length === 0) return;
    const message = framePackets(this.#waiting.map(({ datagram }) => datagram));
    if (this.#options.link.sendNow(this.#options.topic, message)) this.#waiting.length = 0;
  }

  #dropOld(): void {
    const oldestMs = this.#options.clock.nowMs() - MOST_WAIT_MS;
    const firstGood = this.#waiting.findIndex(({ atMs }) => atMs >= oldestMs);
    const tooMany = this.#waiting.length - MOST_FRAMED_PACKETS;
    const dropped = Math.max(firstGood < 0 ? this.#waiting.length : firstGood, tooMany);
    if (dropped <= 0) return;
    this.#waiting.splice(0, dropped);
    this.#options.refused.count('stalled', dropped);
  }
}
