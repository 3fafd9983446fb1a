import { createEncoder, isOpusError, type OpusEncoderHandle } from 'libopus-wasm';
import type { RateHz } from '../../audio/frame.js';
import type { AudioEncoder, OpusEncoderSettings } from '../../codec/codec.js';
import { AppError, errorText } from '../../core/errors.js';
import { applySettings, checkPacketTime, encoderFreed, OPUS_APPLICATION_VOIP, unlessDtx } from './opus-controls.js';

/** Opus (RFC 6716) for speech, mono, by the WASM build of libopus 1.6 in `libopus-wasm`. */
export class WasmOpusEncoder implements AudioEncoder {
  static readonly engine = 'libopus-wasm';
  readonly #rateHz: RateHz;
  readonly #opus: OpusEncoderHandle;
  #frame = { frameSize: 0 };
  #isFreed = false;

  private constructor(opus: OpusEncoderHandle, rateHz: RateHz) {
    this.#opus = opus;
    this.#rateHz = rateHz;
  }

  static async create(options: { rateHz: RateHz; settings: OpusEncoderSettings }): Promise<WasmOpusEncoder> {
    const opus = await createEncoder({
      sampleRate: options.rateHz,
      channels: 1,
      application: OPUS_APPLICATION_VOIP,
    });
    const encoder = new WasmOpusEncoder(opus, options.rateHz);
    encoder.adjust(options.settings);
    return encoder;
  }

  adjust(settings: OpusEncoderSettings): void {
    if (this.#isFreed) return;
    applySettings(settings, (request, value) => this.#opus.encoderCtl(request, value));
    this.#frame = { frameSize: (this.#rateHz * settings.packetTimeMs) / 1000 };
  }

  /** @throws AppError `packet-time-wrong` if it isn't one packet time's samples, `codec-freed` after `free` */
  encode(samples: Int16Array): Uint8Array {
    if (this.#isFreed) throw encoderFreed();
    checkPacketTime(samples, this.#frame.frameSize);
    try {
      return unlessDtx(this.#opus.encode(samples, this.#frame));
    } catch (error) {
      if (isOpusError(error)) throw new AppError('encoder-failed', `libopus can't encode: ${errorText(error)}`);
      throw error;
    }
  }

  free(): void {
    this.#isFreed = true;
    this.#opus.free();
  }
}
