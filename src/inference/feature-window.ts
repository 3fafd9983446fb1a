/**
 * The last frames of features, oldest first and in one piece, as a model takes them; says after which frame it is time to ask the
 * model. Nothing is allocated after construction.
 */
export class FeatureWindow {
  readonly #frames: number;
  readonly #mels: number;
  readonly #everyFrames: number;
  /** Twice the window: it is moved to the front once in a window's time, not with every frame. */
  readonly #values: Float32Array;
  readonly #views: readonly Float32Array[];
  /** Frames that are in `#values`, and those since it was last time. */
  #held = 0;
  #sinceAsked = 0;

  constructor(options: { frames: number; mels: number; everyFrames: number }) {
    const { frames, mels, everyFrames } = options;
    this.#frames = frames;
    this.#mels = mels;
    this.#everyFrames = everyFrames;
    this.#values = new Float32Array(2 * frames * mels);
    this.#views = Array.from({ length: frames + 1 }, (_, i) => this.#values.subarray(i * mels, (i + frames) * mels));
  }

  /**
   * The next frame.
   * @param write fills `mels` values from the offset on
   * @returns the window, `frames × mels` values, valid until the next call; null where it is not full yet or not time
   */
  push(write: (into: Float32Array, at: number) => void): Float32Array | null {
    if (this.#held === 2 * this.#frames) {
      this.#values.copyWithin(0, this.#frames * this.#mels);
      this.#held = this.#frames;
    }
    write(this.#values, this.#held * this.#mels);
    this.#held += 1;
    this.#sinceAsked += 1;
    if (this.#held < this.#frames || this.#sinceAsked < this.#everyFrames) return null;
    this.#sinceAsked = 0;
    return this.#views[this.#held - this.#frames] ?? null;
  }

  /** Forgets what it holds: after a gap in the stream. */
  reset(): void {
    this.#held = 0;
    this.#sinceAsked = 0;
  }
}
