/** What was heard, when, how surely, and by what. */
export interface Decision {
  readonly kind: 'voice' | 'sound' | 'keyword';
  /** Of the model's labels; `voice` of voice activity. */
  readonly label: string;
  /** `start`: from now on; `end`: no longer. */
  readonly edge: 'start' | 'end';
  /** Of the end of the sound that decided it, on the clock of the frames. */
  readonly atMs: number;
  /** Smoothed, 0 … 1; of voice activity the level above the noise, in dB. */
  readonly score: number;
  /** SHA-256 of the model's file, in hex; null where no model was asked. */
  readonly modelSha256: string | null;
}
