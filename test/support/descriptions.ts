import type { AudioDescription } from '../../src/call/sdp.js';

/** What an end of a call says of itself, with its media on `port`. */
export const describedAt = (port: number): AudioDescription => ({
  sessionId: 4_711,
  version: 1,
  hosts: [{ address: '192.0.2.7', port }],
  direction: 'sendrecv',
  formats: [
    { codec: 'opus', payloadType: 96, useInbandFec: true, maxAverageBitrateBps: 24_000, maxPlaybackRateHz: 16_000 },
  ],
  packetTimeMs: 20,
  maxPacketTimeMs: 60,
  ssrc: 305_419_896,
  cname: 'abcDEF123',
  others: [],
  audioAt: 0,
});
