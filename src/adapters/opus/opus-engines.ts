import type { RateHz } from '../../audio/frame.js';
import type { AudioDecoder, AudioEncoder, OpusEncoderSettings } from '../../codec/codec.js';
import type { OpusDecoderChoice, OpusEncoderChoice } from '../../config/schema.js';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';

/** Makes encoders (or decoders) with one build of libopus. `name` says which, and its version where it is not the package's. */
export interface OpusEngine<Options, Codec> {
  readonly name: string;
  create(options: Options): Promise<Codec>;
}
export type OpusEncoders = OpusEngine<{ rateHz: RateHz; settings: OpusEncoderSettings }, AudioEncoder>;
export type OpusDecoders = OpusEngine<{ rateHz: RateHz }, AudioDecoder>;

type Loaders<Choice extends string, Engine> = Readonly<Record<Exclude<Choice, 'auto'>, () => Promise<Engine>>>;

/** Each is loaded only where it is taken: the WASM one has megabytes of its own. In the order in which `auto` tries them. */
const ENCODERS: Loaders<OpusEncoderChoice, OpusEncoders> = {
  native: async () => {
    const { NativeOpusEncoder, nativeOpusName } = await import('./native-opus.js');
    return { name: nativeOpusName, create: async (options) => new NativeOpusEncoder(options) };
  },
  discord: async () => {
    const { DiscordOpusEncoder } = await import('./discord-opus-encoder.js');
    return { name: DiscordOpusEncoder.engine, create: async (options) => new DiscordOpusEncoder(options) };
  },
  wasm: async () => {
    const { WasmOpusEncoder } = await import('./wasm-opus-encoder.js');
    return { name: WasmOpusEncoder.engine, create: (options) => WasmOpusEncoder.create(options) };
  },
};

const DECODERS: Loaders<OpusDecoderChoice, OpusDecoders> = {
  native: async () => {
    const { NativeOpusDecoder, nativeOpusName } = await import('./native-opus.js');
    return { name: nativeOpusName, create: async (options) => new NativeOpusDecoder(options) };
  },
  wasm: async () => {
    const { WasmOpusDecoder } = await import('./wasm-opus-decoder.js');
    return { name: WasmOpusDecoder.engine, create: (options) => WasmOpusDecoder.create(options) };
  },
};

/** @param loaders others in place of what is installed @throws AppError `opus-missing` where none can be loaded */
export function opusEncoders(choice: OpusEncoderChoice, logger: Logger, loaders = ENCODERS): Promise<OpusEncoders> {
  return firstThatLoads('encoder', choice, logger, loaders);
}

/** @param loaders others in place of what is installed @throws AppError `opus-missing` where none can be loaded */
export function opusDecoders(choice: OpusDecoderChoice, logger: Logger, loaders = DECODERS): Promise<OpusDecoders> {
  return firstThatLoads('decoder', choice, logger, loaders);
}

/** What was chosen, else the others in their order: a call with another engine is better than none. */
async function firstThatLoads<Choice extends string, Engine>(
  part: string,
  choice: Choice,
  logger: Logger,
  loaders: Loaders<Choice, Engine>,
): Promise<Engine> {
  const all = Object.entries(loaders) as [string, () => Promise<Engine>][];
  const inOrder = [...all.filter(([name]) => name === choice), ...all.filter(([name]) => name !== choice)];
  const faults: string[] = [];
  for (const [name, load] of inOrder) {
    try {
      return await load();
    } catch (error) {
      faults.push(`${name}: ${errorText(error)}`);
      logger.warn({ engine: name, error: errorText(error) }, `this Opus ${part} can't be loaded; another is taken`);
    }
  }
  throw new AppError('opus-missing', `No Opus ${part} can be loaded (${faults.join('; ')})`, {
    remedy: 'Run make setup, which brings and builds them; on a board, install libopus0',
  });
}
