import { frameSamples, type RateHz } from '../audio/frame.js';
import type { AudioDecoder } from '../codec/codec.js';
import { ComfortNoise } from './comfort-noise.js';
import type { SyncBuffer } from './sync-buffer.js';
import { correlation } from './time-stretch.js';

/** The decoder's concealment is as it is for so long, and fades until noise alone is left. */
const FULL_MS = 60;
const MOST_MS = 120;
/** Over so much what is made up fades into what is decoded. */
const MERGE_MS = 5;
const LEAST_PITCH_MS = 2.5;
const MOST_PITCH_MS = 15;

/** What is heard where nothing is there to be decoded, and how what is decoded follows on it. */
export class Concealment {
  /** Whose samples came last. */
  decoder: AudioDecoder;
  readonly #noise: ComfortNoise;
  readonly #noiseFrame: Int16Array;
  readonly #continued: Int16Array;
  readonly #samplesPerMs: number;
  readonly #repeated: Int16Array;
  #repeatedLag = 0;
  /** Samples since the last that were decoded. */
  #run = 0;

  constructor(options: { rateHz: RateHz; decoder: AudioDecoder }) {
    this.decoder = options.decoder;
    this.#noise = new ComfortNoise(options.rateHz);
    this.#noiseFrame = new Int16Array(frameSamples(options.rateHz));
    this.#samplesPerMs = options.rateHz / 1000;
    this.#repeated = new Int16Array(frameSamples(options.rateHz));
    this.#continued = new Int16Array(MERGE_MS * this.#samplesPerMs);
  }

  /** Something was decoded. */
  heard(block: Int16Array): void {
    this.#run = 0;
    this.#repeatedLag = 0;
    this.#noise.hear(block, 0, block.length);
  }

  /** Adds `count` samples. @returns whether what is decoded next must be merged with them */
  fill(sync: SyncBuffer, count: number): boolean {
    const runMs = this.#run / this.#samplesPerMs;
    this.#run += count;
    if (runMs >= MOST_MS) {
      this.#addNoise(sync, count);
      return true;
    }
    const added = this.#addConcealed(sync, count);
    if (added < count) this.#addRepeated(sync, count - added);
    const factor = (ms: number) => Math.max(0, Math.min(1, (MOST_MS - ms) / (MOST_MS - FULL_MS)));
    const toMs = this.#run / this.#samplesPerMs;
    if (toMs > FULL_MS) sync.fade(count, factor(runMs), factor(toMs));
    return toMs > FULL_MS || this.#repeatedLag > 0;
  }

  /** Adds `block` from `from` on, faded over from what would have gone on. */
  merge(sync: SyncBuffer, block: Int16Array, from: number): void {
    this.#goOn(sync);
    sync.appendMerged(block, from, this.#continued, this.#continued.length);
  }

  #addConcealed(sync: SyncBuffer, count: number): number {
    try {
      const block = this.decoder.conceal(count);
      return sync.append(block.length > count ? block.subarray(0, count) : block);
    } catch {
      return 0;
    }
  }

  #addNoise(sync: SyncBuffer, count: number): void {
    for (let left = count; left > 0; left -= this.#noiseFrame.length) {
      this.#noise.make(this.#noiseFrame);
      sync.append(left < this.#noiseFrame.length ? this.#noiseFrame.subarray(0, left) : this.#noiseFrame);
    }
  }

  /** For a codec that has no concealment: the last pitch period again and again. */
  #addRepeated(sync: SyncBuffer, count: number): void {
    if (this.#repeatedLag === 0) this.#repeatedLag = this.#pitchLag(sync);
    const block = this.#repeated;
    for (let left = count; left > 0; left -= block.length) {
      const { samples, end } = sync;
      const from = end - this.#repeatedLag;
      for (let i = 0; i < block.length; i++) block[i] = samples[from + (i % this.#repeatedLag)] as number;
      sync.append(left < block.length ? block.subarray(0, left) : block);
    }
  }

  /** What was played, gone on with by its last pitch period. */
  #goOn(sync: SyncBuffer): void {
    const { samples, end } = sync;
    const lag = this.#pitchLag(sync);
    for (let i = 0; i < this.#continued.length; i++) this.#continued[i] = samples[end - lag + (i % lag)] as number;
  }

  /** Samples. */
  #pitchLag(sync: SyncBuffer): number {
    const { samples, end } = sync;
    const compared = 5 * this.#samplesPerMs;
    const step = Math.max(1, Math.round(this.#samplesPerMs / 8));
    let lag = MOST_PITCH_MS * this.#samplesPerMs;
    let bestLikeness = -2;
    for (let one = LEAST_PITCH_MS * this.#samplesPerMs; one <= MOST_PITCH_MS * this.#samplesPerMs; one += step) {
      const likeness = correlation(samples, end - compared, end - compared - one, compared);
      if (likeness > bestLikeness) {
        bestLikeness = likeness;
        lag = one;
      }
    }
    return lag;
  }
}
