/** Encodes whole packets. Stateful: one encoder a stream. */
export interface AudioEncoder {
  /**
   * @param samples one packet's worth of mono PCM (`packetTimeMs` of it) at the encoder's rate
   * @returns the packet's payload; valid until the next call. Empty where this packet time need not be sent: silence goes on, and
   * the decoder conceals it (DTX)
   */
  encode(samples: Int16Array): Uint8Array;
  /** From the next packet on; the stream goes on without a click. A codec without such settings ignores it. */
  adjust(settings: OpusEncoderSettings): void;
  free(): void;
}

/**
 * Decodes whole packets. Stateful: every packet time of the stream passes through exactly one of the three methods. What they
 * give is valid until the next call of any of them, and the caller's to change until then: who keeps it longer copies it.
 */
export interface AudioDecoder {
  /** @throws AppError `payload-invalid` */
  decode(payload: Uint8Array): Int16Array;
  /**
   * What the payload that follows a lost packet says about the lost one (RFC 6716, 4.1: in-band FEC). A payload without
   * FEC gives concealment.
   * @param sampleCount of the lost packet
   * @throws AppError `payload-invalid`
   */
  decodeFec(nextPayload: Uint8Array, sampleCount: number): Int16Array;
  /** Packet loss concealment for `sampleCount` samples (RFC 6716, 4.4). */
  conceal(sampleCount: number): Int16Array;
  free(): void;
}

/** What the Opus encoder is set to; RFC 7587 and the libopus CTLs of the same names. */
export interface OpusEncoderSettings {
  readonly bitrateBps: number;
  /** 0 … 10 */
  readonly complexity: number;
  readonly inbandFec: boolean;
  /** Loss to arm the FEC for, 0 … 100 %. */
  readonly expectedLossPct: number;
  readonly packetTimeMs: 10 | 20 | 40 | 60;
  /** In silence `encode` gives nothing but a packet now and then, which says how the silence sounds (RFC 7587, 3.1.3). */
  readonly dtx?: boolean;
  /** `voice` leans towards the SILK layer; the encoder's own judgement where it is left out. */
  readonly signal?: 'voice';
  /** No wider than this (RFC 6716, table 1); `fullband` where it is left out. A running encoder changes over when its time comes. */
  readonly maxBandwidth?: 'narrowband' | 'mediumband' | 'wideband' | 'superwideband' | 'fullband';
}
