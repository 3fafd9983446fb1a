/** Bursts and gaps of a stream (RFC 3611, 4.7.2), as its VoIP metrics block tells them. */
export interface BurstGapFigures {
  readonly packets: number;
  readonly lost: number;
  /** Runs of packets lost one after another, and the longest. */
  readonly lossRuns: number;
  readonly longestRun: number;
  /** Mean length of such a run; 0 where nothing was lost. */
  readonly meanRunPackets: number;
  readonly bursts: number;
  /** Share of packets lost within bursts, and outside of them: 0 … 100 %. */
  readonly burstDensityPct: number;
  readonly gapDensityPct: number;
  /** Mean lengths; 0 where there is none. */
  readonly burstDurationMs: number;
  readonly gapDurationMs: number;
}

/** A burst ends where so many packets in a row came (RFC 3611, 4.7.2: recommended). */
export const GMIN = 16;

/**
 * Tells bursts from gaps as RFC 3611, 4.7.2 defines them: a burst begins and ends with a lost packet, and has fewer than
 * `GMIN` received in a row within it; a loss with `GMIN` received on either side stands alone in a gap. What is open at the end
 * counts as if the stream ended there.
 */
export class BurstGapMeter {
  #packets = 0;
  #lost = 0;
  #runs = 0;
  #run = 0;
  #longestRun = 0;
  /** Packets received since the last loss. */
  #since = GMIN;
  /** Of the burst that may be going on: its packets up to its last loss, and its losses. */
  #openPackets = 0;
  #openLost = 0;
  #bursts = 0;
  #burstPackets = 0;
  #burstLost = 0;

  packet(wasReceived: boolean): void {
    this.#packets += 1;
    if (wasReceived) {
      this.#run = 0;
      this.#since += 1;
      if (this.#since === GMIN) this.#close();
      return;
    }
    this.#lost += 1;
    if (this.#run === 0) this.#runs += 1;
    this.#run += 1;
    this.#longestRun = Math.max(this.#longestRun, this.#run);
    this.#openPackets += this.#openLost === 0 ? 1 : this.#since + 1;
    this.#openLost += 1;
    this.#since = 0;
  }

  /** @param packetTimeMs turns packets into times */
  figures(packetTimeMs: number): BurstGapFigures {
    const isOpen = this.#openLost > 1;
    const bursts = this.#bursts + (isOpen ? 1 : 0);
    const burstPackets = this.#burstPackets + (isOpen ? this.#openPackets : 0);
    const burstLost = this.#burstLost + (isOpen ? this.#openLost : 0);
    const gapPackets = this.#packets - burstPackets;
    // Between two bursts is a gap, and before the first and after the last where any packet is.
    const gaps = gapPackets > 0 ? Math.max(1, bursts) : 0;
    const share = (lost: number, of: number) => (of > 0 ? (100 * lost) / of : 0);
    return {
      packets: this.#packets,
      lost: this.#lost,
      lossRuns: this.#runs,
      longestRun: this.#longestRun,
      meanRunPackets: this.#runs > 0 ? this.#lost / this.#runs : 0,
      bursts,
      burstDensityPct: share(burstLost, burstPackets),
      gapDensityPct: share(this.#lost - burstLost, gapPackets),
      burstDurationMs: bursts > 0 ? (burstPackets / bursts) * packetTimeMs : 0,
      gapDurationMs: gaps > 0 ? (gapPackets / gaps) * packetTimeMs : 0,
    };
  }

  #close(): void {
    if (this.#openLost > 1) {
      this.#bursts += 1;
      this.#burstPackets += this.#openPackets;
      this.#burstLost += this.#openLost;
    }
    this.#openPackets = 0;
    this.#openLost = 0;
  }
}
