/** What was played lately, kept for pitch search, repetition and merging. */
const HISTORY_MS = 60;
/** What may lie decoded ahead: two of Opus' longest packets, 120 ms each, and a stretch. */
const AHEAD_MS = 300;
/** Room behind, so that samples are moved together only now and then. */
const ROOM_MS = 400;

/**
 * The samples around the speaker's position, with what was played before it.
 *
 * ```
 *            ◀─ history, 60 ms ─▶           ◀── ahead ──▶
 *   ┌───────┬────────────────────┬─────────┬─────────────┬───────┐
 *   │       │       played       │ history │   decoded   │ room  │
 *   └───────┴────────────────────┴─────────┴─────────────┴───────┘
 *                                          ▲head         ▲end
 * ```
 *
 * The history is always what was heard, in time: a cut and a repetition keep it whole, so that the next pitch search and the
 * next merging see no seam.
 */
export class SyncBuffer {
  /** `head` and `end` are places in it; 16-bit samples. */
  readonly samples: Int16Array;
  readonly historySamples: number;
  readonly mostAhead: number;
  #head: number;
  #end: number;
  readonly #overlap: Int16Array;

  constructor(rateHz: number) {
    const ofMs = (ms: number) => (rateHz * ms) / 1000;
    this.historySamples = ofMs(HISTORY_MS);
    this.mostAhead = ofMs(AHEAD_MS);
    this.samples = new Int16Array(ofMs(HISTORY_MS + AHEAD_MS + ROOM_MS));
    this.#head = this.historySamples;
    this.#end = this.#head;
    this.#overlap = new Int16Array(ofMs(20));
  }

  get head(): number {
    return this.#head;
  }

  get end(): number {
    return this.#end;
  }

  /** Samples that are decoded and still to be played. */
  get ahead(): number {
    return this.#end - this.#head;
  }

  /** Adds `block` from its sample `from` on, as far as there is room. @returns how many were added */
  append(block: Int16Array, from = 0): number {
    const count = Math.min(block.length - from, this.mostAhead - this.ahead);
    if (count <= 0) return 0;
    this.#makeRoom(count);
    const { samples } = this;
    const end = this.#end;
    // Sample by sample: for so few it is quicker than a view and a copy.
    for (let i = 0; i < count; i++) samples[end + i] = block[from + i] as number;
    this.#end = end + count;
    return count;
  }

  /**
   * Adds `block` from `from` on, faded in over its first `overlap` samples, while `continued` (what the past would go on with)
   * fades out there.
   */
  appendMerged(block: Int16Array, from: number, continued: Int16Array, overlap: number): number {
    const at = this.#end;
    const count = this.append(block, from);
    const start = this.#end - count;
    const over = Math.min(overlap, count, continued.length);
    if (at !== start && count === 0) return 0;
    const { samples } = this;
    for (let i = 0; i < over; i++) {
      const weight = (i + 1) / (over + 1);
      const was = continued[i] as number;
      samples[start + i] = Math.round(was + ((samples[start + i] as number) - was) * weight);
    }
    return count;
  }

  /** Takes `into.length` samples; there must be as many ahead. */
  read(into: Int16Array): void {
    const { samples } = this;
    const head = this.#head;
    for (let i = 0; i < into.length; i++) into[i] = samples[head + i] as number;
    this.#head = head + into.length;
  }

  /** Leaves out `count` samples from the head on; what comes before fades over into what comes after in `overlap` samples. */
  cut(count: number, overlap: number): void {
    const { samples } = this;
    const head = this.#head;
    for (let i = 0; i < overlap; i++) {
      const weight = (i + 1) / (overlap + 1);
      const was = samples[head + i] as number;
      const at = head + count + i;
      samples[at] = Math.round(was + ((samples[at] as number) - was) * weight);
    }
    const history = this.historySamples;
    samples.copyWithin(head + count - history, head - history, head);
    this.#head = head + count;
  }

  /** Plays the last `count` samples of the history once more, faded over in `overlap` samples. */
  repeat(count: number, overlap: number): void {
    this.#makeRoom(count);
    const { samples } = this;
    const head = this.#head;
    const was = this.#overlap;
    for (let i = 0; i < overlap; i++) was[i] = samples[head + i] as number;
    samples.copyWithin(head + count, head, this.#end);
    this.#end += count;
    for (let i = 0; i < count; i++) samples[head + i] = samples[head - count + i] as number;
    for (let i = 0; i < overlap; i++) {
      const weight = (i + 1) / (overlap + 1);
      const from = was[i] as number;
      samples[head + i] = Math.round(from + ((samples[head + i] as number) - from) * weight);
    }
  }

  /** Makes the last `count` samples softer, from one factor to another. */
  fade(count: number, fromFactor: number, toFactor: number): void {
    const { samples } = this;
    const start = this.#end - count;
    const step = (toFactor - fromFactor) / count;
    for (let i = 0; i < count; i++) {
      samples[start + i] = Math.round((samples[start + i] as number) * (fromFactor + step * i));
    }
  }

  #makeRoom(count: number): void {
    if (this.#end + count <= this.samples.length) return;
    const from = this.#head - this.historySamples;
    this.samples.copyWithin(0, from, this.#end);
    this.#head -= from;
    this.#end -= from;
  }
}
