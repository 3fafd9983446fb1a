import { timestampDistance } from './sequence.js';

const BUCKET_MS = 15_000;
const SMOOTHING = 1 / 8;
/** A transit that differs by more is no delay: the far end's timestamps have jumped. */
const MOST_DIFFERENCE_MS = 2_000;

/**
 * How much longer a stream's packets are under way now than at their quickest of the last 15 to 30 s: what queues add. Clocks
 * that differ by 200 ppm make 6 ms of it.
 */
export class TransitMeter {
  #ssrc = -1;
  #clockRateHz = 0;
  #lastTimestamp = 0;
  /** From the first packet to the last, without the wrap that comes each 25 hours. */
  #ticks = 0;
  #bucketEndMs = 0;
  #leastMs = Number.POSITIVE_INFINITY;
  #leastBeforeMs = Number.POSITIVE_INFINITY;
  #smoothedMs = Number.NaN;

  packet(packet: { readonly ssrc: number; readonly timestamp: number }, arrivalMs: number, clockRateHz: number): void {
    if (packet.ssrc !== this.#ssrc || clockRateHz !== this.#clockRateHz) this.#begin(packet, arrivalMs, clockRateHz);
    let transitMs = this.#transitMs(packet.timestamp, arrivalMs);
    if (Math.abs(transitMs - this.#smoothedMs) > MOST_DIFFERENCE_MS) {
      this.#begin(packet, arrivalMs, clockRateHz);
      transitMs = this.#transitMs(packet.timestamp, arrivalMs);
    }
    if (arrivalMs >= this.#bucketEndMs) {
      this.#leastBeforeMs = this.#leastMs;
      this.#leastMs = Number.POSITIVE_INFINITY;
      this.#bucketEndMs = arrivalMs + BUCKET_MS;
    }
    this.#leastMs = Math.min(this.#leastMs, transitMs);
    if (Number.isNaN(this.#smoothedMs)) this.#smoothedMs = transitMs;
    else this.#smoothedMs += (transitMs - this.#smoothedMs) * SMOOTHING;
  }

  get excessMs(): number {
    if (Number.isNaN(this.#smoothedMs)) return 0;
    return Math.max(0, this.#smoothedMs - Math.min(this.#leastMs, this.#leastBeforeMs));
  }

  #transitMs(timestamp: number, arrivalMs: number): number {
    this.#ticks += timestampDistance(this.#lastTimestamp, timestamp);
    this.#lastTimestamp = timestamp;
    return arrivalMs - (this.#ticks * 1_000) / this.#clockRateHz;
  }

  #begin(
    { ssrc, timestamp }: { readonly ssrc: number; readonly timestamp: number },
    arrivalMs: number,
    clockRateHz: number,
  ): void {
    this.#ssrc = ssrc;
    this.#clockRateHz = clockRateHz;
    this.#lastTimestamp = timestamp;
    this.#ticks = 0;
    this.#leastMs = Number.POSITIVE_INFINITY;
    this.#leastBeforeMs = Number.POSITIVE_INFINITY;
    this.#smoothedMs = Number.NaN;
    this.#bucketEndMs = arrivalMs + BUCKET_MS;
  }
}
