import { AlsaSpeaker } from '../adapters/alsa/alsa-speaker.js';
import { NativeMicrophone } from '../adapters/alsa/native-microphone.js';
import { opusDecoders, opusEncoders } from '../adapters/opus/opus-engines.js';
import type { RateHz } from '../audio/frame.js';
import type { AudioSink, AudioSource, PeriodMs } from '../audio/ports.js';
import type { AudioDecoder, AudioEncoder, OpusEncoderSettings } from '../codec/codec.js';
import type { Config, MicrophoneDriver } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import type { Logger } from '../core/logger.js';

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
  microphone(options: CardOptions & { readonly periodMs?: PeriodMs }): AudioSource;
  speaker(options: CardOptions): AudioSink;
  encoder(options: { rateHz: RateHz; settings: OpusEncoderSettings }): Promise<AudioEncoder>;
  decoder(options: { rateHz: RateHz }): Promise<AudioDecoder>;
}

/** The board's, with the Opus engines and the microphone's driver that the configuration names. @throws AppError `opus-missing` */
export async function boardParts(
  {
    opus,
    audio,
  }: {
    readonly opus: Pick<Config['opus'], 'encoder' | 'decoder'>;
    readonly audio: Pick<Config['audio'], 'driver'>;
  },
  logger: Logger,
): Promise<EngineParts> {
  const encoders = await opusEncoders(opus.encoder, logger);
  const decoders = await opusDecoders(opus.decoder, logger);
  const Microphone = await microphoneOf(audio.driver);
  logger.info({ encoder: encoders.name, decoder: decoders.name }, 'Opus is there');
  return {
    encoderName: encoders.name,
    decoderName: decoders.name,
    microphone: (options) => new Microphone(options),
    speaker: (options) => new AlsaSpeaker(options),
    encoder: (options) => encoders.create(options),
    decoder: (options) => decoders.create(options),
  };
}

/** The package is loaded only where it is taken: its module can't be unloaded, nor loaded twice. */
async function microphoneOf(driver: MicrophoneDriver) {
  if (driver === 'alsa-capture') return (await import('../adapters/alsa/alsa-microphone.js')).AlsaMicrophone;
  return NativeMicrophone;
}
