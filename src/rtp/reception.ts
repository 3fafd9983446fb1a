import type { ReportBlock } from './rtcp.js';
import { sequenceDistance, timestampDistance } from './sequence.js';

/** Jumps ahead by fewer are losses, and steps back by fewer are reordering (RFC 3550, A.1). */
const MOST_DROPOUT = 3_000;
const MOST_MISORDER = 100;
const SEQUENCE_MOD = 65_536;
const NONE = -1;

/**
 * - `valid`: count it and play it
 * - `probation`: the source is not valid yet; hold the packet until it is
 * - `restarted`: the second packet of a new sequence: the sender started anew; play it from here
 * - `jump`: far from the sequence, alone so far; drop it
 */
export type Reception = 'valid' | 'probation' | 'restarted' | 'jump';

/**
 * What one source's packets say about the path: validity (RFC 3550, A.1), loss (A.3), jitter (A.8). A source is valid once
 * two packets came in sequence. Unlike in A.1 the first of the two counts as received, since it is held and played.
 */
export class ReceptionStatistics {
  readonly ssrc: number;
  #clockRateHz: number;
  #isValid = false;
  #highest = NONE;
  #cycles = 0;
  #base = 0;
  #suspect = NONE;
  #received = 0;
  /** Of the sequences before a restart. */
  #earlierExpected = 0;
  #earlierReceived = 0;
  #reportedExpected = 0;
  #reportedReceived = 0;
  #jitterTicks = 0;
  #lastTimestamp = 0;
  #lastArrivalMs = Number.NaN;
  #senderReport: { readonly middle: number; readonly arrivalMs: number } | null = null;

  constructor(options: { ssrc: number; clockRateHz: number }) {
    this.ssrc = options.ssrc;
    this.#clockRateHz = options.clockRateHz;
  }

  /** Of the codec that comes from now on: the jitter, in time, is what it was, and no transit is compared across (RFC 7160, 4.3). */
  useClock(clockRateHz: number): void {
    this.#jitterTicks *= clockRateHz / this.#clockRateHz;
    this.#clockRateHz = clockRateHz;
    this.#lastArrivalMs = Number.NaN;
  }

  packet(sequence: number, timestamp: number, arrivalMs: number): Reception {
    const reception = this.#sequence(sequence);
    if (reception === 'restarted') this.#lastArrivalMs = Number.NaN;
    if (reception !== 'jump') this.#transit(timestamp, arrivalMs);
    return reception;
  }

  /** A sender report of this source came. @param middle of its NTP time, 32 bits */
  senderReport(middle: number, arrivalMs: number): void {
    this.#senderReport = { middle, arrivalMs };
  }

  get isValid(): boolean {
    return this.#isValid;
  }

  /** Packets that came, duplicates and late ones included. */
  get received(): number {
    return this.#earlierReceived + this.#received;
  }

  /** Packets that the sequence numbers say were sent. */
  get expected(): number {
    return this.#earlierExpected + this.#expectedHere();
  }

  /** Expected less received, at least 0 (RFC 3550, A.3). */
  get lost(): number {
    return Math.max(0, this.expected - this.received);
  }

  get jitterMs(): number {
    return (this.#jitterTicks / this.#clockRateHz) * 1000;
  }

  /** What a report says of this source; begins the next span of `fractionLost`. */
  report(nowMs: number): ReportBlock {
    const expected = this.#expectedHere();
    const expectedSince = expected - this.#reportedExpected;
    const lostSince = expectedSince - (this.#received - this.#reportedReceived);
    this.#reportedExpected = expected;
    this.#reportedReceived = this.#received;
    const report = this.#senderReport;
    return {
      ssrc: this.ssrc,
      fractionLost:
        expectedSince > 0 && lostSince > 0 ? Math.min(255, Math.floor((lostSince * 256) / expectedSince)) : 0,
      cumulativeLost: expected - this.#received,
      highestSequence: (this.#cycles + Math.max(0, this.#highest)) >>> 0,
      jitter: Math.floor(this.#jitterTicks),
      lastSenderReport: report?.middle ?? 0,
      delaySinceLastSenderReport:
        report === null ? 0 : Math.min(0xffff_ffff, Math.round(((nowMs - report.arrivalMs) * 65_536) / 1000)),
    };
  }

  #expectedHere(): number {
    return this.#isValid ? this.#cycles + this.#highest - this.#base + 1 : 0;
  }

  #sequence(sequence: number): Reception {
    if (!this.#isValid) {
      const follows = this.#highest !== NONE && sequenceDistance(this.#highest, sequence) === 1;
      if (follows) this.#begin(this.#highest, sequence, 2);
      else this.#highest = sequence;
      return follows ? 'valid' : 'probation';
    }
    const ahead = (sequence - this.#highest) & 0xffff;
    if (ahead < MOST_DROPOUT) {
      if (sequence < this.#highest) this.#cycles += SEQUENCE_MOD;
      this.#highest = sequence;
    } else if (ahead <= SEQUENCE_MOD - MOST_MISORDER) {
      if (sequence !== this.#suspect) {
        this.#suspect = (sequence + 1) & 0xffff;
        return 'jump';
      }
      this.#earlierExpected += this.#expectedHere();
      this.#earlierReceived += this.#received;
      this.#begin(sequence, sequence, 1);
      return 'restarted';
    }
    this.#received += 1;
    return 'valid';
  }

  #begin(base: number, highest: number, received: number): void {
    this.#isValid = true;
    this.#base = base;
    this.#highest = highest;
    this.#cycles = highest < base ? SEQUENCE_MOD : 0;
    this.#received = received;
    this.#suspect = NONE;
    this.#reportedExpected = 0;
    this.#reportedReceived = 0;
  }

  /** J += (|D| - J) / 16, where D is the change of the transit time (RFC 3550, 6.4.1 and A.8). */
  #transit(timestamp: number, arrivalMs: number): void {
    const change =
      ((arrivalMs - this.#lastArrivalMs) * this.#clockRateHz) / 1000 -
      timestampDistance(this.#lastTimestamp, timestamp);
    if (!Number.isNaN(change)) this.#jitterTicks += (Math.abs(change) - this.#jitterTicks) / 16;
    this.#lastTimestamp = timestamp;
    this.#lastArrivalMs = arrivalMs;
  }
}
