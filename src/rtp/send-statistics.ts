import { middleOfNtp, type NtpTime, ntpTime } from './ntp-time.js';
import type { ReportBlock, SenderReport } from './rtcp.js';

/** A report older than this tells nothing of the round trip; nor does one from the future. */
const MOST_ROUND_TRIP_MS = 60_000;
const MOST_JITTER_MS = 5_000;

/** What was sent, for sender reports (RFC 3550, 6.4.1), and what the far end says of it. */
export class SendStatistics {
  #clockRateHz: number;
  /** Wall time less monotonic time, fixed at the start: NTP times don't jump when the wall clock is set. */
  readonly #wallOffsetMs: number;
  #packets = 0;
  #octets = 0;
  #lastTimestamp = 0;
  #lastSentMs = 0;
  #roundTripMs: number | null = null;
  #remoteLost: number | null = null;
  #remoteJitterMs: number | null = null;

  constructor(options: { clockRateHz: number; nowMs: number; wallMs: number }) {
    this.#clockRateHz = options.clockRateHz;
    this.#wallOffsetMs = options.wallMs - options.nowMs;
  }

  /** Of the codec that is sent from now on; the timestamps go on from where they are (RFC 7160, 4.1). */
  useClock(clockRateHz: number): void {
    this.#clockRateHz = clockRateHz;
  }

  /** @param payloadBytes without header and padding */
  sent(timestamp: number, payloadBytes: number, nowMs: number): void {
    this.#packets += 1;
    this.#octets += payloadBytes;
    this.#lastTimestamp = timestamp;
    this.#lastSentMs = nowMs;
  }

  get packets(): number {
    return this.#packets;
  }

  /** In all, without headers and padding. */
  get payloadBytes(): number {
    return this.#octets;
  }

  /** From the last report on our stream; null until one came. */
  get roundTripMs(): number | null {
    return this.#roundTripMs;
  }

  get remoteLost(): number | null {
    return this.#remoteLost;
  }

  get remoteJitterMs(): number | null {
    return this.#remoteJitterMs;
  }

  senderReport(ssrc: number, reports: readonly ReportBlock[], nowMs: number): SenderReport {
    const sinceTicks = Math.round(((nowMs - this.#lastSentMs) * this.#clockRateHz) / 1000);
    return {
      type: 'sender-report',
      ssrc,
      ntp: this.ntp(nowMs),
      rtpTimestamp: (this.#lastTimestamp + sinceTicks) >>> 0,
      packetCount: this.#packets >>> 0,
      octetCount: this.#octets >>> 0,
      reports,
    };
  }

  /** The far end's report on our stream; the round trip is what 6.4.1 computes, where it had a sender report of ours. */
  reported(block: ReportBlock, nowMs: number): void {
    // It is what somebody claims: no more is lost than was sent.
    this.#remoteLost = Math.max(-this.#packets, Math.min(this.#packets, block.cumulativeLost));
    this.#remoteJitterMs = Math.min(MOST_JITTER_MS, (block.jitter / this.#clockRateHz) * 1000);
    if (block.lastSenderReport !== 0) this.answered(block.lastSenderReport, block.delaySinceLastSenderReport, nowMs);
  }

  /** A time of ours came back: the middle of it, and how long the far end kept it, in 1/65,536 s. */
  answered(middle: number, delaySince: number, nowMs: number): void {
    const ticks = (middleOfNtp(this.ntp(nowMs)) - middle - delaySince) | 0;
    const roundTripMs = (ticks * 1000) / 65_536;
    // The report's clock is 15 µs fine: a trip over the loopback may come out slightly negative.
    if (roundTripMs > -1 && roundTripMs < MOST_ROUND_TRIP_MS) this.#roundTripMs = Math.max(0, roundTripMs);
  }

  /** The time that reports tell. */
  ntp(nowMs: number): NtpTime {
    return ntpTime(this.#wallOffsetMs + nowMs);
  }
}
