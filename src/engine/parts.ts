import { AlsaMicrophone } from '../adapters/alsa/alsa-microphone.js';
import { AlsaSpeaker } from '../adapters/alsa/alsa-speaker.js';
import { opusDecoders, opusEncoders } from '../adapters/opus/opus-engines.js';
import type { RateHz } from '../audio/frame.js';
import type { AudioSink, AudioSource } from '../audio/ports.js';
import type { AudioDecoder, AudioEncoder, OpusEncoderSettings } from '../codec/codec.js';
import type { Config } from '../config/schema.js';
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
  encoder(options: { rateHz: RateHz; settings: OpusEncoderSettings }): Promise<AudioEncoder>;
  decoder(options: { rateHz: RateHz }): Promise<AudioDecoder>;
}

/** The board's, with the Opus engines that the configuration names. @throws AppError `opus-missing` */
export async function boardParts(
  opus: Pick<Config['opus'], 'encoder' | 'decoder'>,
  logger: Logger,
): Promise<EngineParts> {
  const encoders = await opusEncoders(opus.encoder, logger);
  const decoders = await opusDecoders(opus.decoder, logger);
  logger.info({ encoder: encoders.name, decoder: decoders.name }, 'Opus is there');
  return {
    encoderName: encoders.name,
    decoderName: decoders.name,
    microphone: (options) => new AlsaMicrophone(options),
    speaker: (options) => new AlsaSpeaker(options),
    encoder: (options) => encoders.create(options),
    decoder: (options) => decoders.create(options),
  };
}
