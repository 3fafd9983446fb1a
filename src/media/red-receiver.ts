import { parseRed } from '../rtp/red.js';
import type { RtpPacket } from '../rtp/rtp-packet.js';

export interface RedReceiverOptions {
  /** How long a payload of the codec lasts, in ticks of the RTP clock; null for what is none. */
  readonly ticksOf: (payload: Uint8Array) => number | null;
  readonly refused: (fault: string) => void;
}

export interface Unpacked {
  readonly primary: RtpPacket;
  /** Of earlier packets, oldest first. */
  readonly copies: readonly RtpPacket[];
}

/** For so many packets without a copy the last distance is kept: the sender may only have paused. */
const FORGET_AFTER = 100;

/**
 * Takes redundant audio (RFC 2198) apart: the packet itself, and copies of earlier ones, each with the sequence number and the
 * timestamp that it had. A copy says how old it is, not which packet it was: that follows where packets last alike, as those of
 * one that can be trusted do; others are counted and left out.
 */
export class RedReceiver {
  readonly #options: RedReceiverOptions;
  #farthestTicks = 0;
  #withoutCopies = 0;

  constructor(options: RedReceiverOptions) {
    this.#options = options;
  }

  /** How much later than its own packet the oldest copy came lately, in ticks; 0 where none come. */
  get copyDelayTicks(): number {
    return this.#farthestTicks;
  }

  /** A packet that is no redundant audio. */
  plain(): void {
    this.#withoutCopies += 1;
    if (this.#withoutCopies >= FORGET_AFTER) this.#farthestTicks = 0;
  }

  /** @param payloadType of the codec @returns null where the payload is none; that is counted */
  unpack(packet: RtpPacket, payloadType: number): Unpacked | null {
    const parsed = parseRed(packet.payload);
    if (!parsed.ok || parsed.red.payloadType !== payloadType) {
      this.#options.refused(parsed.ok ? 'red-other-payload-type' : parsed.fault);
      return null;
    }
    const primary: RtpPacket = { ...packet, payloadType, payload: parsed.red.payload };
    const ticks = this.#options.ticksOf(primary.payload);
    const copies: RtpPacket[] = [];
    let farthest = 0;
    for (const block of parsed.red.redundant) {
      const distance = ticks === null ? 0 : block.timestampOffset / ticks;
      if (block.payloadType !== payloadType) {
        this.#options.refused('red-other-payload-type');
      } else if (!Number.isInteger(distance) || this.#options.ticksOf(block.payload) !== ticks) {
        this.#options.refused('red-odd-offset');
      } else {
        farthest = Math.max(farthest, block.timestampOffset);
        copies.push({
          ...primary,
          marker: false,
          sequence: (packet.sequence - distance) & 0xffff,
          timestamp: (packet.timestamp - block.timestampOffset) >>> 0,
          payload: block.payload,
        });
      }
    }
    if (copies.length === 0) {
      this.plain();
    } else {
      this.#withoutCopies = 0;
      this.#farthestTicks = farthest;
    }
    return { primary, copies };
  }
}
