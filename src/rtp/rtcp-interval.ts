const LEAST_MS = 5_000;
/** e - 3/2: makes up for the reconsideration's drift towards shorter times (RFC 3550, 6.3.1). */
const COMPENSATION = Math.E - 1.5;

/**
 * How long until the next report (RFC 3550, 6.2 and 6.3.1), simplified for sessions of two: even at 6 kbit/s of Opus the
 * headers of 50 packets a second make 22 kbit/s; RTCP's 5 % of that carry two reports of 120 bytes in 1.75 s, so that the
 * least interval of 5 s always rules, halved before the first report. It is spread over 0.5 … 1.5 times its length, so that
 * parties don't fall into step; with nobody else in the session there is nothing to reconsider.
 * @param random 0 ≤ r < 1
 */
export function rtcpIntervalMs(isFirst: boolean, random: number): number {
  return ((isFirst ? LEAST_MS / 2 : LEAST_MS) * (0.5 + random)) / COMPENSATION;
}
