import { rate } from './e-model.js';
import type { LossEstimate } from './loss-report.js';
import { G711, opusCoding } from './speech-coding.js';

/** How speech is sent against loss. */
export interface Protection {
  readonly bitrateBps: number;
  /** In-band FEC (RFC 6716, 4.1) and the loss that it is armed for, in %; 0 is none. */
  readonly fecForPct: number;
  /** Which earlier packets each packet carries again (RFC 2198): 2 is the one before the last. */
  readonly redDistances: readonly number[];
  readonly packetTimeMs: PacketTimeMs;
}

export type PacketTimeMs = 10 | 20 | 40 | 60;

/** What both ends can do. */
export interface ProtectionLimits {
  readonly codec: 'opus' | 'g711';
  /** What the encoder may send at most; with G.711, what it always sends. */
  readonly bitrateBps: number;
  /** Of the encoder, 0 … 10. */
  readonly complexity: number;
  /** In-band FEC may be sent, and is at such a bandwidth. */
  readonly mayFec: boolean;
  /** How many copies of earlier packets one may carry. */
  readonly mostCopies: number;
  /** Wanted on a good line, and at most. */
  readonly packetTimeMs: PacketTimeMs;
  readonly mostPacketTimeMs: PacketTimeMs;
  /** What may be sent in all, headers and copies included, in bit/s; left out or null: whatever is found good. */
  readonly mostTotalBps?: number | null;
}

/** IPv4, UDP and RTP. */
const PACKET_HEADER_BYTES = 40;
const RED_BLOCK_HEADER_BYTES = 4;
/** Packets with in-band FEC, of those it is wanted in: 300 of 400 at 24 kbit/s. */
const FEC_SHARE = 0.75;
const RATES_BPS = [32_000, 24_000, 20_000, 16_000, 12_000, 9_000] as const;
const PACKET_TIMES_MS = [20, 40, 60] as const;
/** One copy, near or far; two; three. Far ones outlast a burst, and cost delay. */
const DISTANCES: readonly (readonly number[])[] = [
  [],
  [1],
  [2],
  [3],
  [4],
  [5],
  [1, 2],
  [1, 3],
  [2, 4],
  [3, 6],
  [1, 2, 3],
  [2, 4, 6],
];
/** A copy that comes later than this is not waited for; RFC 2198 ends at 341 ms. */
const MOST_COPY_DELAY_MS = 160;

/** What a kbit/s, a millisecond of waiting for copies and one of a packet must bring in R to be worth it. */
const R_PER_KBPS = 0.4;
const R_PER_DELAY_MS = 0.04;
/** A lost packet of 60 ms is a lost syllable; the E-model has no figure for that. */
const R_PER_PACKET_MS = 0.15;

/**
 * All that the limits allow. Longer packets save headers, and lose more at once: they are only for a line that is too narrow.
 * @param isNarrow whether the line is
 */
export function protections(limits: ProtectionLimits, isNarrow: boolean): Protection[] {
  const { codec, bitrateBps, mayFec, mostCopies, packetTimeMs, mostPacketTimeMs } = limits;
  const rates = codec === 'g711' ? [bitrateBps] : [bitrateBps, ...RATES_BPS.filter((one) => one < bitrateBps)];
  const times = PACKET_TIMES_MS.filter((one) => isNarrow && one > packetTimeMs && one <= mostPacketTimeMs);
  const all: Protection[] = [];
  for (const time of [packetTimeMs, ...times]) {
    for (const rateBps of rates) {
      for (const redDistances of DISTANCES) {
        if (redDistances.length > mostCopies) continue;
        if (Math.max(0, ...redDistances) * time > MOST_COPY_DELAY_MS) continue;
        all.push({ bitrateBps: rateBps, fecForPct: 0, redDistances, packetTimeMs: time });
      }
      if (mayFec && codec === 'opus' && sendsFec(limits.complexity, rateBps)) {
        all.push({ bitrateBps: rateBps, fecForPct: FEC_FOR_PCT, redDistances: [], packetTimeMs: time });
      }
    }
  }
  return all;
}

/**
 * What in-band FEC is armed for, whatever is lost. libopus takes the more bits from speech the more it is armed for, and heals no
 * more with them: by PESQ at 24 kbit/s, with nothing, 3, 5 and 10 % lost, 4.18, 4.05, 3.88 and 3.14 armed for 1 %, 4.10, 3.95,
 * 3.86 and 3.10 armed for 5 %; 4.37, 3.55, 3.00 and 2.06 without FEC.
 */
const FEC_FOR_PCT = 1;
/** What libopus asks of a wideband bit rate before it sends in-band FEC (1.3.1, opus_encoder.c: decide_fec, compute_equiv_rate). */
const FEC_THRESHOLD_BPS = 17_000;

/** Whether libopus, armed for `FEC_FOR_PCT`, sends in-band FEC: where it finds the bit rate too low it sends none, silently. */
export function sendsFec(complexity: number, bitrateBps: number): boolean {
  const equivalentBps = bitrateBps * ((90 + complexity) / 100) * (1 - FEC_FOR_PCT / (6 * FEC_FOR_PCT + 10));
  return equivalentBps > (FEC_THRESHOLD_BPS * (125 - FEC_FOR_PCT)) / 100;
}

/** On the wire, headers and copies included. */
export function totalBps({ bitrateBps, redDistances, packetTimeMs }: Protection): number {
  const copies = redDistances.length;
  const redBytes = copies > 0 ? RED_BLOCK_HEADER_BYTES * copies + 1 : 0;
  return bitrateBps * (1 + copies) + ((PACKET_HEADER_BYTES + redBytes) * 8_000) / packetTimeMs;
}

/** How long a copy comes after what it is a copy of. */
export function copyDelayMs({ redDistances, packetTimeMs }: Protection): number {
  return Math.max(0, ...redDistances) * packetTimeMs;
}

/**
 * The share of packets that is lost for good, copies and all, where losses are Gilbert's: from one packet to the next the line
 * goes bad with probability a, and good again with b = 1 / mean run.
 */
export function residualLoss({ loss, meanRun }: LossEstimate, protection: Protection): number {
  if (loss <= 0) return 0;
  if (loss >= 1) return 1;
  const leave = 1 / meanRun;
  const enter = Math.min(1, (loss * leave) / (1 - loss));
  const memory = Math.max(0, 1 - enter - leave);
  const stillLost = (distance: number) => loss + (1 - loss) * memory ** distance;
  if (protection.fecForPct > 0) return loss * (1 - FEC_SHARE * (1 - stillLost(1)));
  let residual = loss;
  let before = 0;
  for (const distance of protection.redDistances) {
    residual *= stillLost(distance - before);
    before = distance;
  }
  return residual;
}

/** What protection is judged by, beside loss. */
export interface Line {
  readonly codec: ProtectionLimits['codec'];
  /** Mouth to ear, without what packets and copies add. */
  readonly delayMs: number;
}

/** What is to be heard: R of a conversation (ITU-T G.107.1; G.107 for G.711). */
export function heardAs(protection: Protection, estimate: LossEstimate, { codec, delayMs }: Line): number {
  const coding = codec === 'g711' ? G711 : opusCoding(protection.bitrateBps, protection.fecForPct);
  return rate({
    coding,
    lossPct: 100 * residualLoss(estimate, protection),
    meanRunPackets: estimate.meanRun,
    delayMs: delayMs + copyDelayMs(protection) + protection.packetTimeMs,
  }).rConversational;
}

/** The same, less what bits and waiting cost. */
export function worth(protection: Protection, estimate: LossEstimate, line: Line): number {
  const bits = (R_PER_KBPS * totalBps(protection)) / 1_000;
  const waiting = R_PER_DELAY_MS * copyDelayMs(protection) + R_PER_PACKET_MS * protection.packetTimeMs;
  return heardAs(protection, estimate, line) - bits - waiting;
}
