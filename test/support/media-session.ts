/** A media session in a test: real codecs, no socket, no card; what it sends goes to `send`. */
import { DiscordOpusEncoder } from '../../src/adapters/opus/discord-opus-encoder.js';
import { WasmOpusDecoder } from '../../src/adapters/opus/wasm-opus-decoder.js';
import { frameSamples } from '../../src/audio/frame.js';
import type { OpusEncoderSettings } from '../../src/codec/codec.js';
import type { Clock } from '../../src/core/clock.js';
import { MediaSession, type MediaSessionListener } from '../../src/media/media-session.js';
import type { SessionAgreement } from '../../src/media/session-agreement.js';
import { seededRandom } from './random.js';

export const RATE_HZ = 16_000;
export const opus = {
  bitrateBps: 24_000,
  complexity: 5,
  inbandFec: true,
  expectedLossPct: 20,
  packetTimeMs: 20,
} as const satisfies OpusEncoderSettings;

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

export async function mediaSession(
  options: Partial<MediaSessionListener> & {
    clock: Clock;
    ssrc: number;
    send: MediaSessionListener['send'];
    settings?: OpusEncoderSettings;
    leastMs?: number;
  },
): Promise<MediaSession> {
  const { clock, ssrc, settings = opus, leastMs = 0, ...listener } = options;
  return new MediaSession({
    sessionId: `session-${ssrc}`,
    ssrc,
    cname: `cname-${ssrc}`,
    rateHz: RATE_HZ,
    clock,
    random: seededRandom(ssrc),
    opus: settings,
    encoder: new DiscordOpusEncoder({ rateHz: RATE_HZ, settings }),
    decoder: await WasmOpusDecoder.create({ rateHz: RATE_HZ }),
    playout: { leastMs, mostMs: 300 },
    listener: { heard: () => {}, silent: () => {}, ...listener },
  });
}

/** 10 ms of a tone, loud enough that Opus spends bits on it. */
export function toneFrame(capturedAtMs: number) {
  const samples = new Int16Array(frameSamples(RATE_HZ)).map((_, at) => 9_000 * Math.sin((2 * Math.PI * at) / 32));
  return { samples, rateHz: RATE_HZ, capturedAtMs } as const;
}
