import { createRequire } from 'node:module';
import type { RateHz } from '../../audio/frame.js';
import type { AudioEncoder, OpusEncoderSettings } from '../../codec/codec.js';
import { AppError } from '../../core/errors.js';

/** The part of `@discordjs/opus` that is used; its own typings name a module of theirs, not the package's export. */
interface NativeEncoder {
  encode(pcm: Buffer): Buffer;
  applyEncoderCTL(request: number, value: number): void;
}
const { OpusEncoder } = createRequire(import.meta.url)('@discordjs/opus') as {
  OpusEncoder: new (rateHz: number, channels: number) => NativeEncoder;
};

/** Requests of opus_encoder_ctl, by libopus' names (opus_defines.h). */
const OPUS_SET_APPLICATION = 4000;
const OPUS_SET_BITRATE = 4002;
const OPUS_SET_COMPLEXITY = 4010;
const OPUS_SET_INBAND_FEC = 4012;
const OPUS_SET_PACKET_LOSS_PERC = 4014;
const OPUS_APPLICATION_VOIP = 2048;

/** Opus (RFC 6716) for speech, mono, by the native libopus 1.3 of `@discordjs/opus`. */
export class DiscordOpusEncoder implements AudioEncoder {
  static readonly engine = '@discordjs/opus';
  readonly #rateHz: RateHz;
  #packetSamples = 0;
  #native: NativeEncoder | null;

  constructor(options: { rateHz: RateHz; settings: OpusEncoderSettings }) {
    const native = new OpusEncoder(options.rateHz, 1);
    // The application can be set only before the first frame.
    native.applyEncoderCTL(OPUS_SET_APPLICATION, OPUS_APPLICATION_VOIP);
    this.#native = native;
    this.#rateHz = options.rateHz;
    this.adjust(options.settings);
  }

  adjust(settings: OpusEncoderSettings): void {
    const native = this.#native;
    if (native === null) return;
    native.applyEncoderCTL(OPUS_SET_BITRATE, settings.bitrateBps);
    native.applyEncoderCTL(OPUS_SET_COMPLEXITY, settings.complexity);
    native.applyEncoderCTL(OPUS_SET_INBAND_FEC, settings.inbandFec ? 1 : 0);
    native.applyEncoderCTL(OPUS_SET_PACKET_LOSS_PERC, settings.expectedLossPct);
    this.#packetSamples = (this.#rateHz * settings.packetTimeMs) / 1000;
  }

  /** @throws AppError `packet-time-wrong` if it isn't one packet time's samples, `codec-freed` after `free` */
  encode(samples: Int16Array): Uint8Array {
    if (this.#native === null) throw new AppError('codec-freed', 'This Opus encoder has been freed');
    // What libopus refuses, the binding would take for a length: only what libopus takes gets there.
    if (samples.length !== this.#packetSamples) {
      throw new AppError('packet-time-wrong', `A packet takes ${this.#packetSamples} samples, not ${samples.length}`);
    }
    return this.#native.encode(Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength));
  }

  free(): void {
    this.#native = null;
  }
}
