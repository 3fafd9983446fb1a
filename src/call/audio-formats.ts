import { parseParams } from 'sdp-transform';
import { type Fields, fields, list, optional, whole } from './sdp-fields.js';

/** The speech codecs of the house (RFC 7587; RFC 3551, 4.5.14). */
export type SpeechCodec = 'opus' | 'pcmu' | 'pcma';

/** What one end says of its Opus stream (RFC 7587, 6.1 and 7): what it would receive, and what it sends. */
export interface OpusFormat {
  readonly codec: 'opus';
  readonly payloadType: number;
  readonly useInbandFec: boolean;
  readonly maxAverageBitrateBps?: number;
  readonly maxPlaybackRateHz?: number;
  readonly maxCaptureRateHz?: number;
}

/** G.711 (RFC 3551, 4.5.14): 8 kHz. */
export interface G711Format {
  readonly codec: 'pcmu' | 'pcma';
  readonly payloadType: number;
}

/** Redundant audio (RFC 2198) of Opus: `blocks` of payload type `of`, the primary one included, at least 2. */
export interface RedFormat {
  readonly codec: 'red';
  readonly payloadType: number;
  readonly of: number;
  readonly blocks: number;
}

/** Telephone events (RFC 4733), on the clock of the speech that they interrupt (2.1): Opus or G.711. */
export interface TelephoneEventFormat {
  readonly codec: 'telephone-event';
  readonly payloadType: number;
  readonly clockRateHz: 48_000 | 8_000;
}

export type SpeechFormat = OpusFormat | G711Format;
export type AudioFormat = SpeechFormat | RedFormat | TelephoneEventFormat;

export const OPUS_PAYLOAD_TYPE = 96;
const RED_PAYLOAD_TYPE = 97;
const EVENT_PAYLOAD_TYPES = { 48000: 98, 8000: 101 } as const;
/** RFC 3551, table 4: of the same meaning everywhere, with and without an rtpmap. */
const STATIC_TYPES = { pcmu: 0, pcma: 8 } as const;
/** Three earlier packets may be sent once more in each. */
const RED_BLOCKS = 4;
const MOST_RED_BLOCKS = 8;
const MOST_FORMATS = 32;
/** Digits, `*`, `#`, A-D and flash (RFC 4733, 3.2). */
const EVENTS = '0-16';

/** Everything that this end has, in the order in which it wants the codecs. `opus` is what it says of Opus. */
export function ownFormats(
  codecs: readonly SpeechCodec[],
  opus: Omit<OpusFormat, 'codec' | 'payloadType'>,
): AudioFormat[] {
  const speech = codecs.map(
    (codec): SpeechFormat =>
      codec === 'opus'
        ? { codec, payloadType: OPUS_PAYLOAD_TYPE, ...opus }
        : { codec, payloadType: STATIC_TYPES[codec] },
  );
  const red: RedFormat[] = codecs.includes('opus')
    ? [{ codec: 'red', payloadType: RED_PAYLOAD_TYPE, of: OPUS_PAYLOAD_TYPE, blocks: RED_BLOCKS }]
    : [];
  const clocks = new Set(speech.map(({ codec }) => clockRateOf(codec)));
  const events = [...clocks].map(
    (clockRateHz): TelephoneEventFormat => ({
      codec: 'telephone-event',
      payloadType: EVENT_PAYLOAD_TYPES[clockRateHz],
      clockRateHz,
    }),
  );
  return [...speech, ...red, ...events];
}

/**
 * What an answer says: of the offered formats those that this end has too, in the offer's order and with its payload types
 * (RFC 3264, 6.1), with what this end says of itself. Without a speech codec there is nothing to talk with.
 */
export function answerFormats(offered: readonly AudioFormat[], own: readonly AudioFormat[]): AudioFormat[] {
  const common = offered.flatMap((theirs): AudioFormat[] => {
    const ours = own.find((one) => isAlike(one, theirs));
    if (ours === undefined) return [];
    if (theirs.codec === 'red') return [theirs];
    return [{ ...ours, payloadType: theirs.payloadType }];
  });
  const opus = common.find(isOpus);
  const clocks = new Set(common.filter(isSpeech).map(({ codec }) => clockRateOf(codec)));
  return common.filter((one) => {
    if (one.codec === 'red') return one.of === opus?.payloadType;
    return one.codec !== 'telephone-event' || clocks.has(one.clockRateHz);
  });
}

/** G.711 and what goes with its clock. */
export function g711Of(formats: readonly AudioFormat[]): AudioFormat[] {
  return formats.filter((one) => one.codec === 'pcmu' || one.codec === 'pcma' || isEventOf(one, 8_000));
}

function isEventOf(format: AudioFormat, clockRateHz: number): boolean {
  return format.codec === 'telephone-event' && format.clockRateHz === clockRateHz;
}

/** The RTP clock of a codec; Opus always has 48 kHz (RFC 7587, 4.1). */
export function clockRateOf(codec: SpeechCodec): 48_000 | 8_000 {
  return codec === 'opus' ? 48_000 : 8_000;
}

export function isSpeech(format: AudioFormat): format is SpeechFormat {
  return format.codec === 'opus' || format.codec === 'pcmu' || format.codec === 'pcma';
}

function isOpus(format: AudioFormat): format is OpusFormat {
  return format.codec === 'opus';
}

/** They mean the same, whatever their payload types are. */
export function isAlike(one: AudioFormat, other: AudioFormat): boolean {
  if (one.codec === 'telephone-event' && other.codec === 'telephone-event')
    return one.clockRateHz === other.clockRateHz;
  return one.codec === other.codec;
}

/** The lines of an audio line, as `sdp-transform` writes them: its payload types, `a=rtpmap` and `a=fmtp`. */
export function formatLines(formats: readonly AudioFormat[]): {
  readonly payloads: string;
  readonly rtp: readonly object[];
  readonly fmtp: readonly object[];
} {
  const fmtp = formats.map((format) => ({ payload: format.payloadType, config: parametersOf(format) }));
  return {
    payloads: formats.map(({ payloadType }) => payloadType).join(' '),
    rtp: formats.map(({ payloadType, ...format }) => ({ payload: payloadType, ...encodingOf(format) })),
    fmtp: fmtp.filter(({ config }) => config !== undefined),
  };
}

function encodingOf(format: Pick<AudioFormat, 'codec'> & { readonly clockRateHz?: number }): object {
  switch (format.codec) {
    case 'opus':
    case 'red':
      return { codec: format.codec, rate: 48_000, encoding: 2 };
    case 'telephone-event':
      return { codec: format.codec, rate: format.clockRateHz };
    default:
      return { codec: format.codec.toUpperCase(), rate: 8_000 };
  }
}

function parametersOf(format: AudioFormat): string | undefined {
  switch (format.codec) {
    case 'opus':
      return [
        `useinbandfec=${format.useInbandFec ? 1 : 0}`,
        'stereo=0',
        ...(format.maxAverageBitrateBps === undefined ? [] : [`maxaveragebitrate=${format.maxAverageBitrateBps}`]),
        ...(format.maxPlaybackRateHz === undefined ? [] : [`maxplaybackrate=${format.maxPlaybackRateHz}`]),
        ...(format.maxCaptureRateHz === undefined ? [] : [`sprop-maxcapturerate=${format.maxCaptureRateHz}`]),
      ].join(';');
    case 'red':
      return new Array(format.blocks).fill(format.of).join('/');
    case 'telephone-event':
      return EVENTS;
    default:
      return undefined;
  }
}

/** The formats of the house on an audio line, as `sdp-transform` read it, in its order; others are passed over. */
export function readFormats(audio: Fields): AudioFormat[] {
  const offered = [...new Set(String(audio.payloads).split(' '))].slice(0, MOST_FORMATS);
  const formats = offered.flatMap((word): AudioFormat[] => {
    const payloadType = whole(/^\d{1,3}$/.test(word) ? Number(word) : undefined, 127);
    // With its marker such a packet would be taken for RTCP, which shares the port (RFC 5761, 4).
    if (payloadType === undefined || (payloadType >= 64 && payloadType <= 95)) return [];
    const map = list(audio.rtp).find((one) => one.payload === payloadType);
    const config = list(audio.fmtp).find((one) => one.payload === payloadType)?.config;
    const format = readFormat(payloadType, map, typeof config === 'string' ? config : '');
    return format === undefined ? [] : [format];
  });
  // The first of each kind is the one that is meant; red of anything but Opus is of no use.
  const firsts = formats.filter((one, index) => formats.findIndex((other) => isAlike(one, other)) === index);
  const opus = firsts.find(isOpus);
  return firsts.filter((one) => one.codec !== 'red' || one.of === opus?.payloadType);
}

function readFormat(payloadType: number, map: Fields | undefined, config: string): AudioFormat | undefined {
  if (map === undefined) {
    if (payloadType === STATIC_TYPES.pcmu) return { codec: 'pcmu', payloadType };
    return payloadType === STATIC_TYPES.pcma ? { codec: 'pcma', payloadType } : undefined;
  }
  const codec = String(map.codec).toLowerCase();
  const { rate } = map;
  switch (codec) {
    case 'opus':
      return rate === 48_000 && map.encoding === 2 ? opusOf(payloadType, config) : undefined;
    case 'pcmu':
    case 'pcma':
      return rate === 8_000 && (map.encoding ?? 1) === 1 ? { codec, payloadType } : undefined;
    case 'red':
      return rate === 48_000 && map.encoding === 2 ? redOf(payloadType, config) : undefined;
    case 'telephone-event':
      return rate === 48_000 || rate === 8_000 ? { codec, payloadType, clockRateHz: rate } : undefined;
    default:
      return undefined;
  }
}

function opusOf(payloadType: number, config: string): OpusFormat {
  const parameters = fields(parseParams(config));
  return {
    codec: 'opus',
    payloadType,
    useInbandFec: parameters.useinbandfec === 1,
    ...optional('maxAverageBitrateBps', whole(parameters.maxaveragebitrate, 510_000, 6_000)),
    ...optional('maxPlaybackRateHz', whole(parameters.maxplaybackrate, 48_000, 8_000)),
    ...optional('maxCaptureRateHz', whole(parameters['sprop-maxcapturerate'], 48_000, 8_000)),
  };
}

/** `96/96/96`: each block of the same payload type; a mixture is nothing that this house can play. */
function redOf(payloadType: number, config: string): RedFormat | undefined {
  const blocks = config.trim().split('/', MOST_RED_BLOCKS);
  const [first = ''] = blocks;
  if (!/^\d{1,3}$/.test(first) || blocks.length < 2 || blocks.some((one) => one !== first)) return undefined;
  return { codec: 'red', payloadType, of: Number(first), blocks: blocks.length };
}
