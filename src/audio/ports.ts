import type { AppError } from '../core/errors.js';
import type { AudioFrame, RateHz } from './frame.js';

/** What a card is doing. `down` carries why; it is announced once, however often the retries fail. */
export type CardState =
  | { readonly state: 'closed' }
  | { readonly state: 'up' }
  | { readonly state: 'down'; readonly fault: AppError };

export interface CardFormat {
  /** The ALSA device's name. */
  readonly device: string;
  readonly rateHz: RateHz;
}

/**
 * A microphone. It pushes 10 ms frames at the card's pace between `open` and `close`. A card that is absent, unplugged
 * (`card-absent`, `card-lost`) or hung (`card-hung`) is retried with backoff; nothing throws.
 */
export interface AudioSource {
  readonly format: CardFormat;
  readonly state: CardState;
  open(listener: AudioSourceListener): void;
  close(): void;
}

export interface AudioSourceListener {
  frame(frame: AudioFrame): void;
  stateChanged(state: CardState): void;
}

/**
 * A speaker. It pulls: whenever it has room for 10 ms it asks `pull` for a frame, at the card's pace. While the card is
 * down nothing is pulled. Faults are handled as for `AudioSource`.
 */
export interface AudioSink {
  readonly format: CardFormat;
  readonly state: CardState;
  open(listener: AudioSinkListener): void;
  close(): void;
  /** From now until a frame pulled now is heard, in ms; 0 while it is not up. */
  delayMs(): number;
  readonly figures: AudioSinkFigures;
}

export interface AudioSinkListener {
  /** Exactly `frameSamples(rateHz)` samples. Must not throw. */
  pull(): Int16Array;
  stateChanged(state: CardState): void;
}

export interface AudioSinkFigures {
  /** Underruns of the card since it was opened. */
  readonly xruns: number;
  /** Frames of silence that the writing thread put in because no frame was there in time. */
  readonly starvedFrames: number;
}
