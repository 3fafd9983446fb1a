import { createRequire } from 'node:module';
import type { RateHz } from '../../audio/frame.js';
import type { AudioEncoder, OpusEncoderSettings } from '../../codec/codec.js';
import { applySettings, checkPacketTime, encoderFreed, OPUS_APPLICATION_VOIP, unlessDtx } from './opus-controls.js';

/** The part of `@discordjs/opus` that is used; its own typings name a module of theirs, not the package's export. */
interface NativeEncoder {
  encode(pcm: Buffer): Buffer;
  applyEncoderCTL(request: number, value: number): void;
}
const { OpusEncoder } = createRequire(import.meta.url)('@discordjs/opus') as {
  OpusEncoder: new (rateHz: number, channels: number) => NativeEncoder;
};

/** OPUS_SET_APPLICATION (opus_defines.h). */
const OPUS_SET_APPLICATION = 4000;

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
    applySettings(settings, (request, value) => native.applyEncoderCTL(request, value));
    this.#packetSamples = (this.#rateHz * settings.packetTimeMs) / 1000;
  }

  /** @throws AppError `packet-time-wrong` if it isn't one packet time's samples, `codec-freed` after `free` */
  encode(samples: Int16Array): Uint8Array {
    if (this.#native === null) throw encoderFreed();
    // What libopus refuses, the binding would take for a length: only what libopus takes gets there.
    checkPacketTime(samples, this.#packetSamples);
    return unlessDtx(this.#native.encode(Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength)));
  }

  free(): void {
    this.#native = null;
  }
}
