import type { Clock, Timer } from '../core/clock.js';
import { RateLimit } from '../core/rate-limit.js';
import { middleOfNtp } from '../rtp/ntp-time.js';
import type { RemoteSource } from '../rtp/remote-source.js';
import type { ReportBlock, RtcpPacket } from '../rtp/rtcp.js';
import { EARLY_AFTER_MS, rtcpIntervalMs } from '../rtp/rtcp-interval.js';
import { writeRtcp } from '../rtp/rtcp-write.js';
import type { ExtendedReport, XrBlock } from '../rtp/rtcp-xr.js';
import type { SendStatistics } from '../rtp/send-statistics.js';

export interface RtcpReporterOptions {
  readonly ssrc: number;
  readonly cname: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly source: RemoteSource;
  readonly sending: SendStatistics;
  send(datagram: Uint8Array): void;
  /** What extended reports say of the far end's stream, since the last report. */
  extended(): readonly XrBlock[];
  /** What the far end says of ours. */
  reported(block: ReportBlock | null, extended: readonly XrBlock[], arrivalMs: number): void;
  refused(fault: 'rtcp-flood'): void;
}

/** Each makes the ladder weigh all that it could send, and a second has a few at most: more only keep this end from speech. */
const MOST_PER_SECOND = 20;

/**
 * Sends this party's reports when they are due, and takes in the other's (RFC 3550, 6; RFC 3611). A loss brings the next one
 * forward, once between two regular ones (RFC 4585, 3.5), since the far end's answer to it is worth most at once.
 */
export class RtcpReporter {
  readonly #options: RtcpReporterOptions;
  readonly #limit: RateLimit;
  #timer: Timer | null = null;
  #early: Timer | null = null;
  #mayBeEarly = true;
  #sentAtMs = Number.NEGATIVE_INFINITY;
  /** Packets sent when the last two reports were made: who sent since is a sender (6.4). */
  #sentThen: [number, number] = [0, 0];
  /** The last reference time of the far end (RFC 3611, 4.4), not answered yet. */
  #reference: { readonly ssrc: number; readonly middle: number; readonly arrivalMs: number } | null = null;

  constructor(options: RtcpReporterOptions) {
    this.#options = options;
    this.#limit = new RateLimit({ most: MOST_PER_SECOND, perMs: 1_000, clock: options.clock });
  }

  start(): void {
    if (this.#timer === null) this.#schedule(true);
  }

  /** A packet of the far end is lost for good. */
  lossSeen(): void {
    if (this.#timer === null || !this.#mayBeEarly || this.#early !== null) return;
    const { clock } = this.#options;
    this.#early = clock.after(Math.max(0, this.#sentAtMs + EARLY_AFTER_MS - clock.nowMs()), () => {
      this.#early = null;
      this.#mayBeEarly = false;
      this.#send([]);
    });
  }

  /** Says goodbye if it ever said anything (6.3.7). */
  close(): void {
    if (this.#timer === null) return;
    this.#timer.cancel();
    this.#early?.cancel();
    this.#timer = null;
    this.#send([{ type: 'goodbye', ssrcs: [this.#options.ssrc], reason: '' }]);
  }

  received(packets: readonly RtcpPacket[], arrivalMs: number): void {
    const { source, sending, ssrc, reported, refused } = this.#options;
    if (this.#limit.admit() === undefined) {
      refused('rtcp-flood');
      return;
    }
    let ours: ReportBlock | null = null;
    const extended: XrBlock[] = [];
    for (const packet of packets) {
      if (packet.type === 'extended-report') extended.push(...this.#extendedOfOurs(packet, arrivalMs));
      if (packet.type !== 'sender-report' && packet.type !== 'receiver-report') continue;
      const { statistics } = source;
      if (packet.type === 'sender-report' && statistics?.ssrc === packet.ssrc) {
        statistics.senderReport(middleOfNtp(packet.ntp), arrivalMs);
      }
      ours = packet.reports.find((block) => block.ssrc === ssrc) ?? ours;
    }
    if (ours !== null) sending.reported(ours, arrivalMs);
    if (ours !== null || extended.length > 0) reported(ours, extended, arrivalMs);
  }

  #extendedOfOurs({ ssrc, blocks }: ExtendedReport, arrivalMs: number): XrBlock[] {
    const own = this.#options.ssrc;
    return blocks.filter((block) => {
      switch (block.block) {
        case 'reference-time':
          this.#reference = { ssrc, middle: middleOfNtp(block.ntp), arrivalMs };
          return false;
        case 'reference-delay': {
          const answer = block.reports.find((one) => one.ssrc === own);
          if (answer !== undefined) {
            this.#options.sending.answered(answer.lastReference, answer.delaySince, arrivalMs);
          }
          return false;
        }
        default:
          return block.ssrc === own;
      }
    });
  }

  #schedule(isFirst: boolean): void {
    const { clock, random } = this.#options;
    this.#timer = clock.after(rtcpIntervalMs(isFirst, random()), () => {
      this.#early?.cancel();
      this.#early = null;
      this.#mayBeEarly = true;
      this.#send([]);
      this.#schedule(false);
    });
  }

  #send(more: readonly RtcpPacket[]): void {
    const { ssrc, cname, clock, source, sending } = this.#options;
    const nowMs = clock.nowMs();
    this.#sentAtMs = nowMs;
    const reports: ReportBlock[] = source.statistics === null ? [] : [source.statistics.report(nowMs)];
    const isSender = sending.packets > this.#sentThen[0];
    this.#sentThen = [this.#sentThen[1], sending.packets];
    const report: RtcpPacket = isSender
      ? sending.senderReport(ssrc, reports, nowMs)
      : { type: 'receiver-report', ssrc, reports };
    const name: RtcpPacket = { type: 'source-description', chunks: [{ ssrc, cname }] };
    const blocks = [...this.#references(isSender, nowMs), ...this.#options.extended()];
    const extended: RtcpPacket[] = blocks.length > 0 ? [{ type: 'extended-report', ssrc, blocks }] : [];
    this.#options.send(writeRtcp([report, name, ...extended, ...more]));
  }

  /** Who sends no audio has no sender report that could be answered: it asks for the round trip in its own way. */
  #references(isSender: boolean, nowMs: number): XrBlock[] {
    const blocks: XrBlock[] = [];
    if (!isSender) blocks.push({ block: 'reference-time', ntp: this.#options.sending.ntp(nowMs) });
    if (this.#reference !== null) {
      const { ssrc, middle, arrivalMs } = this.#reference;
      const delaySince = Math.round(((nowMs - arrivalMs) * 65_536) / 1_000);
      blocks.push({ block: 'reference-delay', reports: [{ ssrc, lastReference: middle, delaySince }] });
      this.#reference = null;
    }
    return blocks;
  }
}
