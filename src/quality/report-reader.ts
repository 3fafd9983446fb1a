import type { ReportBlock } from '../rtp/rtcp.js';
import type { LossRleBlock } from '../rtp/rtcp-xr.js';
import { sequenceDistance } from '../rtp/sequence.js';
import type { LossReport } from './loss-report.js';

/** What else is known when a report comes. */
export interface ReportContext {
  readonly nowMs: number;
  /** Packets that we sent so far: nobody can have lost more. */
  readonly sentPackets: number;
  readonly roundTripMs: number | null;
  readonly returnExcessMs: number;
  readonly clockRateHz: number;
}

const MOST_JITTER_MS = 5_000;

/**
 * Makes of the reports on our stream what the ladder climbs by. Loss runs (RFC 3611, 4.1) say it packet by packet; without
 * them the report block's fraction (RFC 3550, 6.4.1) has to do. A report is what somebody claims: no packet counts twice, and
 * none that was never sent.
 */
export class ReportReader {
  #sentThen = 0;
  #highestThen: number | null = null;
  #nextSequence: number | null = null;
  #lastWasLost = false;

  read(block: ReportBlock | null, rle: LossRleBlock | null, context: ReportContext): LossReport {
    const { nowMs, sentPackets, roundTripMs, returnExcessMs, clockRateHz } = context;
    const mostPackets = Math.max(0, sentPackets - this.#sentThen);
    const fates = rle === null ? (this.#byFraction(block, mostPackets) ?? NOTHING) : this.#byRuns(rle, mostPackets);
    this.#sentThen += fates.packets;
    const jitterMs = ((block?.jitter ?? 0) * 1_000) / clockRateHz;
    return { atMs: nowMs, ...fates, roundTripMs, returnExcessMs, jitterMs: Math.min(MOST_JITTER_MS, jitterMs) };
  }

  #byRuns({ beginSequence, received }: LossRleBlock, mostPackets: number): Fates {
    const known = this.#nextSequence === null ? 0 : sequenceDistance(beginSequence, this.#nextSequence);
    const fresh = received.slice(Math.max(0, known)).slice(0, mostPackets);
    this.#nextSequence = (beginSequence + Math.max(received.length, known)) & 0xffff;
    let lost = 0;
    let runs = 0;
    for (const wasReceived of fresh) {
      if (!wasReceived) lost += 1;
      if (!wasReceived && !this.#lastWasLost) runs += 1;
      this.#lastWasLost = !wasReceived;
    }
    return { packets: fresh.length, lost, runs };
  }

  /** @returns null where the runs tell it, or will */
  #byFraction(block: ReportBlock | null, mostPackets: number): Fates | null {
    if (block === null || this.#nextSequence !== null) return null;
    const since = this.#highestThen === null ? mostPackets : (block.highestSequence - this.#highestThen) | 0;
    this.#highestThen = block.highestSequence;
    const packets = Math.min(mostPackets, Math.max(0, since));
    const lost = Math.min(packets, Math.round((packets * Math.min(255, block.fractionLost)) / 256));
    return { packets, lost, runs: null };
  }
}

interface Fates {
  readonly packets: number;
  readonly lost: number;
  readonly runs: number | null;
}

const NOTHING: Fates = { packets: 0, lost: 0, runs: null };
