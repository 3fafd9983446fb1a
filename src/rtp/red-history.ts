import { MOST_RED_BLOCK_BYTES, MOST_RED_OFFSET, type RedundantBlock } from './red.js';

/** A copy may be this many packets older than the packet that carries it; a power of two. */
const MOST_RED_DISTANCE = 16;

/**
 * The payloads that were sent last, for redundant audio (RFC 2198). Only packets that followed one another without a pause
 * and with one packet time are kept, so that a receiver can tell a copy's sequence number from its timestamp.
 */
export class RedHistory {
  readonly #payloads: (Uint8Array | null)[] = new Array<Uint8Array | null>(MOST_RED_DISTANCE).fill(null);
  #length = 0;
  #lastTimestamp = 0;
  #packetTicks = 0;

  /** @param payload is copied */
  sent(payload: Uint8Array, timestamp: number, packetTicks: number): void {
    const follows = timestamp === (this.#lastTimestamp + this.#packetTicks) >>> 0;
    if (!follows || packetTicks !== this.#packetTicks) this.forget();
    this.#payloads[this.#length % MOST_RED_DISTANCE] = Uint8Array.from(payload);
    this.#length += 1;
    this.#lastTimestamp = timestamp;
    this.#packetTicks = packetTicks;
  }

  /**
   * The copies for the packet of `timestamp`, oldest first; fewer where there are not so many, or where one is longer or
   * older than its header can say.
   * @param distances how many packets earlier each was sent, 1 … 16
   */
  copies(distances: readonly number[], timestamp: number, packetTicks: number, payloadType: number): RedundantBlock[] {
    const follows = timestamp === (this.#lastTimestamp + this.#packetTicks) >>> 0;
    if (!follows || packetTicks !== this.#packetTicks) return [];
    return [...distances]
      .sort((a, b) => b - a)
      .flatMap((distance) => {
        if (distance < 1 || distance > Math.min(this.#length, MOST_RED_DISTANCE)) return [];
        const payload = this.#payloads[(this.#length - distance) % MOST_RED_DISTANCE] ?? null;
        const timestampOffset = distance * packetTicks;
        const fits = payload !== null && payload.length <= MOST_RED_BLOCK_BYTES && timestampOffset <= MOST_RED_OFFSET;
        return fits ? [{ payloadType, timestampOffset, payload }] : [];
      });
  }

  forget(): void {
    this.#payloads.fill(null);
    this.#length = 0;
  }
}
