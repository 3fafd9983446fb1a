import type { RateHz } from '../audio/frame.js';
import type { AudioDecoder, AudioEncoder, OpusEncoderSettings } from '../codec/codec.js';
import { G711_RATE_HZ, g711DurationMs } from '../codec/g711.js';
import { G711Decoder, G711Encoder } from '../codec/g711-codec.js';
import { opusCarriesFec, opusDurationMs } from '../codec/opus-packet.js';
import type { PlayoutCodec } from '../playout/playout.js';
import type { AudioCodec } from '../protocol/engine-api.js';

/** The RTP clock of Opus, whatever the audio's rate (RFC 7587, 4.1). */
const OPUS_CLOCK_HZ = 48_000;

export function clockRateHzOf(codec: AudioCodec): number {
  return codec === 'opus' ? OPUS_CLOCK_HZ : G711_RATE_HZ;
}

/** How long a payload lasts, ms; null for what is none. */
export function durationMsOf(codec: AudioCodec): (payload: Uint8Array) => number | null {
  return codec === 'opus' ? opusDurationMs : g711DurationMs;
}

/**
 * The codecs of one session. Those of Opus are made beforehand, as that may take a while, and last as long as the session, so
 * that it can change over to G.711 and back at once.
 */
export class SessionCodecs {
  readonly #rateHz: RateHz;
  readonly #opus: { readonly encoder: AudioEncoder; readonly decoder: AudioDecoder };
  #sending: { readonly codec: AudioCodec; readonly encoder: AudioEncoder } | null = null;

  constructor(options: { readonly rateHz: RateHz; readonly encoder: AudioEncoder; readonly decoder: AudioDecoder }) {
    this.#rateHz = options.rateHz;
    this.#opus = options;
  }

  /** G.711 has but one setting, the packet time, which is the length of what it is given. */
  encoder(codec: AudioCodec, settings: OpusEncoderSettings): AudioEncoder {
    if (codec === 'opus') this.#opus.encoder.adjust(settings);
    if (this.#sending?.codec !== codec) {
      const encoder = codec === 'opus' ? this.#opus.encoder : new G711Encoder({ law: codec, rateHz: this.#rateHz });
      this.#sending = { codec, encoder };
    }
    return this.#sending.encoder;
  }

  /** A decoder that has heard nothing yet, but for that of Opus. */
  incoming(codec: AudioCodec): PlayoutCodec {
    const clockRateHz = clockRateHzOf(codec);
    if (codec === 'opus') return { clockRateHz, decoder: this.#opus.decoder, carriesFec: opusCarriesFec };
    return { clockRateHz, decoder: new G711Decoder({ law: codec, rateHz: this.#rateHz }) };
  }

  free(): void {
    this.#opus.encoder.free();
    this.#opus.decoder.free();
  }
}
