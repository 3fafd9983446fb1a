/** What playout did since it was made. */
export interface PlayoutFigures {
  /** From a packet's arrival until its first sample leaves, ms; a running mean of those played lately. */
  readonly delayMs: number;
  /** How much later than the quickest packet it should be needed, ms. */
  readonly targetDelayMs: number;
  /** Packets that wait. */
  readonly level: number;
  readonly late: number;
  readonly duplicate: number;
  readonly reordered: number;
  /** Packets that came in time and were left out, so that the delay went down at once. */
  readonly skipped: number;
  readonly resynchronised: number;
  /** Time for which there was nothing to decode, ms; pauses of the far end are none, as soon as its next packet shows them. */
  readonly concealedMs: number;
  /** The same in packet times. */
  readonly concealed: number;
  /** Decoded and played, ms, what was made good from FEC included. */
  readonly playedMs: number;
  /** Put in and left out by stretching, ms. */
  readonly expandedMs: number;
  readonly acceleratedMs: number;
  /** Packet times that were made good from FEC. */
  readonly fecDecoded: number;
  /** Runs of packets that did not come, and packets in them. */
  readonly lostRuns: number;
  readonly lostPackets: number;
}
