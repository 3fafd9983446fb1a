import { AlsaMicrophone } from '../adapters/alsa/alsa-microphone.js';
import { AlsaSpeaker } from '../adapters/alsa/alsa-speaker.js';
import { DiscordOpusEncoder } from '../adapters/opus/discord-opus-encoder.js';
import { WasmOpusDecoder } from '../adapters/opus/wasm-opus-decoder.js';
import type { RateHz } from '../audio/frame.js';
import type { AudioSink, AudioSource } from '../audio/ports.js';
import type { AudioDecoder, AudioEncoder, OpusEncoderSettings } from '../codec/codec.js';
import type { Clock } from '../core/clock.js';
import type { Logger } from '../core/logger.js';

/** A microphone; `mustRestart` when its card hangs in a way that only the end of the process undoes. */
export type Microphone = AudioSource & { readonly mustRestart?: boolean };

export interface CardOptions {
  readonly device: string;
  readonly rateHz: RateHz;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The parts that touch hardware or native code, so that others can stand in for them. */
export interface EngineParts {
  readonly encoderName: string;
  readonly decoderName: string;
  microphone(options: CardOptions): Microphone;
  speaker(options: CardOptions): AudioSink;
  encoder(options: { rateHz: RateHz; settings: OpusEncoderSettings }): AudioEncoder;
  decoder(options: { rateHz: RateHz }): Promise<AudioDecoder>;
}

export const boardParts: EngineParts = {
  encoderName: DiscordOpusEncoder.engine,
  decoderName: WasmOpusDecoder.engine,
  microphone: (options) => new AlsaMicrophone(options),
  speaker: (options) => new AlsaSpeaker(options),
  encoder: (options) => new DiscordOpusEncoder(options),
  decoder: (options) => WasmOpusDecoder.create(options),
};
