import type { PacketBuffer } from './packet-buffer.js';

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

/** Keeps count of it. */
export class PlayoutCounts {
  playedSamples = 0;
  expandedSamples = 0;
  acceleratedSamples = 0;
  fecDecoded = 0;
  readonly #samplesPerMs: number;
  #delayMs = 0;
  #concealedSamples = 0;
  #concealedTimes = 0;
  #lostRuns = 0;
  #lostPackets = 0;

  constructor(samplesPerMs: number) {
    this.#samplesPerMs = samplesPerMs;
  }

  /** A packet is played, so long after its arrival. */
  waited(ms: number): void {
    this.#delayMs += (ms - this.#delayMs) / (this.#delayMs === 0 ? 1 : 16);
  }

  concealed(samples: number, packetSamples: number): void {
    this.#concealedSamples += samples;
    this.#concealedTimes += samples / packetSamples;
  }

  /** A run of packets did not come. */
  lost(packets: number): void {
    this.#lostRuns += 1;
    this.#lostPackets += packets;
  }

  figures(buffer: PacketBuffer, targetDelayMs: number): PlayoutFigures {
    const { late, duplicate, reordered, skipped, resynchronised, level } = buffer;
    const ms = (samples: number) => samples / this.#samplesPerMs;
    return {
      delayMs: this.#delayMs,
      targetDelayMs,
      level,
      late,
      duplicate,
      reordered,
      skipped,
      resynchronised,
      concealedMs: ms(this.#concealedSamples),
      concealed: Math.round(this.#concealedTimes),
      playedMs: ms(this.playedSamples),
      expandedMs: ms(this.expandedSamples),
      acceleratedMs: ms(this.acceleratedSamples),
      fecDecoded: this.fecDecoded,
      lostRuns: this.#lostRuns,
      lostPackets: this.#lostPackets,
    };
  }
}
