/** A media session in a test: real codecs, no socket, no card; what it sends goes to `send`. */
import { DiscordOpusEncoder } from '../../src/adapters/opus/discord-opus-encoder.js';
import { WasmOpusDecoder } from '../../src/adapters/opus/wasm-opus-decoder.js';
import { frameSamples } from '../../src/audio/frame.js';
import type { Clock } from '../../src/core/clock.js';
import { MediaSession } from '../../src/media/media-session.js';
import type { SessionAgreement } from '../../src/media/session-agreement.js';
import { seededRandom } from './random.js';

const RATE_HZ = 16_000;
const opus = { bitrateBps: 24_000, complexity: 5, inbandFec: true, expectedLossPct: 20, packetTimeMs: 20 } as const;

export const plainAgreement: SessionAgreement = {
  sendPayloadType: 96,
  receivePayloadType: 96,
  codec: 'opus',
  red: null,
  telephoneEvent: null,
  srtp: null,
  peerWantsFec: true,
  packetTimeMs: 20,
  muted: false,
};

export async function mediaSession(options: {
  clock: Clock;
  ssrc: number;
  send: (datagram: Uint8Array) => void;
  heard?: () => void;
  digit?: (digit: string, durationMs: number) => void;
}): Promise<MediaSession> {
  const { clock, ssrc, send, heard = () => {}, digit = () => {} } = options;
  return new MediaSession({
    sessionId: `session-${ssrc}`,
    ssrc,
    cname: `cname-${ssrc}`,
    rateHz: RATE_HZ,
    clock,
    random: seededRandom(ssrc),
    opus,
    encoder: new DiscordOpusEncoder({ rateHz: RATE_HZ, settings: opus }),
    decoder: await WasmOpusDecoder.create({ rateHz: RATE_HZ }),
    playout: { leastMs: 0, mostMs: 300 },
    listener: { send, heard, silent: () => {}, digit },
  });
}

/** 10 ms of a tone, loud enough that Opus spends bits on it. */
export function toneFrame(capturedAtMs: number) {
  const samples = new Int16Array(frameSamples(RATE_HZ)).map((_, at) => 9_000 * Math.sin((2 * Math.PI * at) / 32));
  return { samples, rateHz: RATE_HZ, capturedAtMs } as const;
}
