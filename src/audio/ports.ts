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

/** How much sound a card hands over at once, in ms. */
export type PeriodMs = 10 | 20 | 40;

/**
 * A microphone. It pushes 10 ms frames at the card's pace between `open` and `close`. A card that is absent, unplugged
 * (`card-absent`, `card-lost`), hung (`card-hung`) or of another format (`card-format`) is retried with backoff; nothing throws.
 */
export interface AudioSource {
  readonly format: CardFormat;
  readonly state: CardState;
  /** A card hangs in a way that only the end of this process undoes, by a signal. */
  readonly mustRestart: boolean;
  readonly figures: AudioSourceFigures;
  open(listener: AudioSourceListener): void;
  close(): void;
  /**
   * From now on (or, where a driver can't, from the next opening on) so many ms are handed over at once: fewer turns of the
   * event loop for up to as much more delay. Packets of that length, or of a multiple, are no later by it.
   */
  setPeriodMs(periodMs: PeriodMs): void;
}

export interface AudioSourceListener {
  /** The memory of its samples is used again once this returns. */
  frame(frame: AudioFrame): void;
  stateChanged(state: CardState): void;
}

export interface AudioSourceFigures {
  /** Overruns of the card since it was opened. */
  readonly xruns: number;
  /** Frames that were thrown away because this process came for them too late. */
  readonly droppedFrames: number;
  readonly periodMs: PeriodMs;
  /** From a sound until its frame was handed over, as the card's driver says, in ms; 0 where it does not say. */
  readonly delayMs: number;
}

/**
 * A speaker. It pulls: whenever it has room for 10 ms it asks `pull` for a frame, at the card's pace. While the card is
 * down nothing is pulled. Faults are handled as for `AudioSource`.
 */
export interface AudioSink {
  readonly format: CardFormat;
  readonly state: CardState;
  /** As for `AudioSource`. */
  readonly mustRestart: boolean;
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
