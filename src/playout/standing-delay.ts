const WINDOW_MS = 1_000;
/** How long a packet that may be left out is looked for before any will do. */
const PATIENCE_MS = 500;
/** Of the mean payload. Opus at a variable bit rate makes small packets of pauses. */
const SMALL = 0.6;

export interface PlayedPacket {
  readonly waitedMs: number;
  readonly payloadBytes: number;
  readonly packetTimeMs: number;
  readonly nowMs: number;
}

/**
 * Finds delay that does nothing: when even the packet that waited least within 1 s waited longer than wanted, by a packet
 * time or more, one packet time can be left out and everything after it still comes in time. A lost packet's time, or a
 * small packet, is preferred; after 500 ms any will do. So the delay falls by at most one packet time in a second.
 */
export class StandingDelay {
  readonly #wantedMs: number;
  #leastWaitedMs = Number.POSITIVE_INFINITY;
  #windowEndMs = Number.NaN;
  #skipSinceMs = Number.NaN;
  #meanPayloadBytes = 0;

  constructor(wantedMs: number) {
    this.#wantedMs = wantedMs;
  }

  get mustSkip(): boolean {
    return !Number.isNaN(this.#skipSinceMs);
  }

  /** @param payloadBytes of the next packet, 0 for a lost one */
  mayLeaveOut(payloadBytes: number, nowMs: number): boolean {
    return payloadBytes < SMALL * this.#meanPayloadBytes || nowMs - this.#skipSinceMs >= PATIENCE_MS;
  }

  played({ waitedMs, payloadBytes, packetTimeMs, nowMs }: PlayedPacket): void {
    this.#meanPayloadBytes += (payloadBytes - this.#meanPayloadBytes) / (this.#meanPayloadBytes === 0 ? 1 : 32);
    if (this.mustSkip) return;
    if (Number.isNaN(this.#windowEndMs)) this.#windowEndMs = nowMs + WINDOW_MS;
    this.#leastWaitedMs = Math.min(this.#leastWaitedMs, waitedMs);
    if (nowMs < this.#windowEndMs) return;
    const mustSkip = this.#leastWaitedMs >= this.#wantedMs + packetTimeMs;
    this.restart();
    if (mustSkip) this.#skipSinceMs = nowMs;
  }

  /** A packet time was left out, or the stream began anew: the waits so far say nothing of those to come. */
  restart(): void {
    this.#leastWaitedMs = Number.POSITIVE_INFINITY;
    this.#windowEndMs = Number.NaN;
    this.#skipSinceMs = Number.NaN;
  }
}
