import type { RateHz } from '../audio/frame.js';
import type { AudioEncoder, OpusEncoderSettings } from '../codec/codec.js';
import { G711_RATE_HZ } from '../codec/g711.js';
import { G711Encoder } from '../codec/g711-codec.js';
import type { AudioCodec } from '../protocol/engine-api.js';

/** The RTP clock of Opus, whatever the audio's rate (RFC 7587, 4.1). */
export const OPUS_CLOCK_HZ = 48_000;

export function clockRateHzOf(codec: AudioCodec): number {
  return codec === 'opus' ? OPUS_CLOCK_HZ : G711_RATE_HZ;
}

/**
 * The codecs of one session. Those of Opus are made beforehand, as that may take a while, and last as long as the session, so
 * that it can change over to G.711 and back at once.
 */
export class SessionCodecs {
  readonly #rateHz: RateHz;
  readonly #opusEncoder: AudioEncoder;

  constructor(options: { readonly rateHz: RateHz; readonly encoder: AudioEncoder }) {
    this.#rateHz = options.rateHz;
    this.#opusEncoder = options.encoder;
  }

  /** G.711 has but one setting, the packet time, which is the length of what it is given. */
  encoder(codec: AudioCodec, settings: OpusEncoderSettings): AudioEncoder {
    if (codec !== 'opus') return new G711Encoder({ law: codec, rateHz: this.#rateHz });
    this.#opusEncoder.adjust(settings);
    return this.#opusEncoder;
  }

  free(): void {
    this.#opusEncoder.free();
  }
}
