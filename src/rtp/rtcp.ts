import type { NtpTime } from './ntp-time.js';
import type { ExtendedReport } from './rtcp-xr.js';

/** RTCP packets (RFC 3550, 6; RFC 3611): reports, the canonical name, and goodbye. Other kinds are skipped when parsing. */
export type RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Goodbye | ExtendedReport;

/** RFC 3550, 6.4.1 */
export interface SenderReport {
  readonly type: 'sender-report';
  readonly ssrc: number;
  readonly ntp: NtpTime;
  readonly rtpTimestamp: number;
  /** Both wrap at 2^32. */
  readonly packetCount: number;
  readonly octetCount: number;
  readonly reports: readonly ReportBlock[];
}

/** RFC 3550, 6.4.2 */
export interface ReceiverReport {
  readonly type: 'receiver-report';
  readonly ssrc: number;
  readonly reports: readonly ReportBlock[];
}

/** RFC 3550, 6.5; of each chunk only the CNAME (6.5.1) is kept. */
export interface SourceDescription {
  readonly type: 'source-description';
  readonly chunks: readonly { readonly ssrc: number; readonly cname: string }[];
}

/** RFC 3550, 6.6 */
export interface Goodbye {
  readonly type: 'goodbye';
  readonly ssrcs: readonly number[];
  readonly reason: string;
}

export interface ReportBlock {
  /** Whose packets are reported on. */
  readonly ssrc: number;
  /** Since the last report: lost / expected × 256, 0 … 255. */
  readonly fractionLost: number;
  /** Signed 24 bits: duplicates may make it negative. */
  readonly cumulativeLost: number;
  readonly highestSequence: number;
  /** Ticks of the RTP clock. */
  readonly jitter: number;
  /** The middle 32 bits of the last sender report's NTP time, 0 without one; and the time since, in 1/65,536 s. */
  readonly lastSenderReport: number;
  readonly delaySinceLastSenderReport: number;
}

export type RtcpFault =
  | 'rtcp-too-short'
  | 'rtcp-wrong-version'
  | 'rtcp-first-no-report'
  | 'rtcp-length-past-end'
  | 'rtcp-invalid-padding'
  | 'rtcp-truncated-report'
  | 'rtcp-truncated-sdes'
  | 'rtcp-truncated-bye'
  | 'rtcp-truncated-xr'
  | 'rtcp-too-many-packets';

export type RtcpParsed =
  | { readonly ok: true; readonly packets: readonly RtcpPacket[] }
  | { readonly ok: false; readonly fault: RtcpFault };

export const RTCP_SENDER_REPORT = 200;
export const RTCP_RECEIVER_REPORT = 201;
export const RTCP_SOURCE_DESCRIPTION = 202;
export const RTCP_GOODBYE = 203;
export const SDES_CNAME = 1;
