const LEAST_MS = 1_000;
/** e - 3/2: makes up for the reconsideration's drift towards shorter times (RFC 3550, 6.3.1). */
const COMPENSATION = Math.E - 1.5;
/** Between a report and one that a loss brings forward. */
export const EARLY_AFTER_MS = 200;

/**
 * How long until the next report (RFC 3550, 6.3.1), for sessions of two. The least interval of 5 s (6.2) is left aside, as
 * RFC 4585, 3.4 does for feedback that must be acted on: reports of 200 bytes, with headers, each second are 1.6 kbit/s beside
 * the 40 of 24 kbit/s of Opus. Halved before the first report; spread over 0.5 … 1.5 times its length, so that parties don't
 * fall into step; with nobody else in the session there is nothing to reconsider.
 * @param random 0 ≤ r < 1
 */
export function rtcpIntervalMs(isFirst: boolean, random: number): number {
  return ((isFirst ? LEAST_MS / 2 : LEAST_MS) * (0.5 + random)) / COMPENSATION;
}
