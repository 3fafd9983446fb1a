import type { OpusEncoderSettings } from '../codec/codec.js';
import type { AudioCodec } from '../protocol/engine-api.js';
import type { SrtpKeys } from './media-protection.js';

type PacketTimeMs = OpusEncoderSettings['packetTimeMs'];

/** What offer and answer agreed on; see `session.start` of the engine API. */
export interface SessionAgreement {
  readonly sendPayloadType: number;
  readonly receivePayloadType: number;
  readonly codec: AudioCodec;
  /** `copies`: how many the far end takes in a packet; 2 where it does not say. */
  readonly red: { readonly send: number; readonly receive: number; readonly copies?: number | undefined } | null;
  readonly telephoneEvent: { readonly send: number; readonly receive: number } | null;
  readonly srtp: SrtpKeys;
  readonly peerWantsFec: boolean;
  readonly packetTimeMs: PacketTimeMs;
  /** The longest that the far end takes; `packetTimeMs` where it does not say. */
  readonly maxPacketTimeMs?: PacketTimeMs | undefined;
  /** A muted session sends reports and no audio, no silence either: the microphone can be closed. */
  readonly muted: boolean;
}
