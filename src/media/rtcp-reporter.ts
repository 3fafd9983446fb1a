import type { Clock, Timer } from '../core/clock.js';
import { middleOfNtp } from '../rtp/ntp-time.js';
import type { RemoteSource } from '../rtp/remote-source.js';
import type { ReportBlock, RtcpPacket } from '../rtp/rtcp.js';
import { rtcpIntervalMs } from '../rtp/rtcp-interval.js';
import { writeRtcp } from '../rtp/rtcp-write.js';
import type { SendStatistics } from '../rtp/send-statistics.js';

export interface RtcpReporterOptions {
  readonly ssrc: number;
  readonly cname: string;
  readonly clock: Clock;
  readonly random: () => number;
  readonly source: RemoteSource;
  readonly sending: SendStatistics;
  send(datagram: Uint8Array): void;
}

/** Sends this party's reports when they are due, and takes in the other's (RFC 3550, 6). */
export class RtcpReporter {
  readonly #options: RtcpReporterOptions;
  #timer: Timer | null = null;
  /** Packets sent when the last two reports were made: who sent since is a sender (6.4). */
  #sentThen: [number, number] = [0, 0];

  constructor(options: RtcpReporterOptions) {
    this.#options = options;
  }

  start(): void {
    if (this.#timer === null) this.#schedule(true);
  }

  /** Says goodbye if it ever said anything (6.3.7). */
  close(): void {
    if (this.#timer === null) return;
    this.#timer.cancel();
    this.#timer = null;
    this.#send([{ type: 'goodbye', ssrcs: [this.#options.ssrc], reason: '' }]);
  }

  received(packets: readonly RtcpPacket[], arrivalMs: number): void {
    for (const packet of packets) {
      if (packet.type !== 'sender-report' && packet.type !== 'receiver-report') continue;
      const { statistics } = this.#options.source;
      if (packet.type === 'sender-report' && statistics?.ssrc === packet.ssrc) {
        statistics.senderReport(middleOfNtp(packet.ntp), arrivalMs);
      }
      const ours = packet.reports.find((block) => block.ssrc === this.#options.ssrc);
      if (ours !== undefined) this.#options.sending.reported(ours, arrivalMs);
    }
  }

  #schedule(isFirst: boolean): void {
    const { clock, random } = this.#options;
    this.#timer = clock.after(rtcpIntervalMs(isFirst, random()), () => {
      this.#send([]);
      this.#schedule(false);
    });
  }

  #send(more: readonly RtcpPacket[]): void {
    const { ssrc, cname, clock, source, sending } = this.#options;
    const nowMs = clock.nowMs();
    const reports: ReportBlock[] = source.statistics === null ? [] : [source.statistics.report(nowMs)];
    const isSender = sending.packets > this.#sentThen[0];
    this.#sentThen = [this.#sentThen[1], sending.packets];
    const report: RtcpPacket = isSender
      ? sending.senderReport(ssrc, reports, nowMs)
      : { type: 'receiver-report', ssrc, reports };
    const name: RtcpPacket = { type: 'source-description', chunks: [{ ssrc, cname }] };
    this.#options.send(writeRtcp([report, name, ...more]));
  }
}
