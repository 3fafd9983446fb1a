/** 16-bit sequence and 32-bit timestamp arithmetic (RFC 3550, 5.1 and A.1): distances are signed and wrap. */

/** How far `to` is ahead of `from`: -32,768 … 32,767; negative when it is behind. */
export function sequenceDistance(from: number, to: number): number {
  return ((to - from) << 16) >> 16;
}

/** How far `to` is ahead of `from` in RTP clock ticks: -2^31 … 2^31 - 1. */
export function timestampDistance(from: number, to: number): number {
  return (to - from) | 0;
}
