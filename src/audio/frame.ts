/** Sampling rates that the runtime carries: voice is 16 kHz, fullband 48 kHz. */
export type RateHz = 8000 | 16000 | 48000;

/** Inside, audio travels in frames of this length. */
export const FRAME_MS = 10;

/** Samples in one 10 ms frame. */
export function frameSamples(rateHz: RateHz): number {
  return (rateHz * FRAME_MS) / 1000;
}

/** 10 ms of mono speech: signed 16-bit, `frameSamples(rateHz)` samples. */
export interface AudioFrame {
  readonly samples: Int16Array;
  readonly rateHz: RateHz;
  /** When its last sample was handed over by the card, on the monotonic clock, in ms. */
  readonly capturedAtMs: number;
}
