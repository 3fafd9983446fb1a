import { type AudioFrame, FRAME_MS, type RateHz } from '../audio/frame.js';
import type { Decision } from './decision.js';
import { LogMel } from './log-mel.js';
import { NoiseFloor } from './noise-floor.js';

export interface VoiceActivityOptions {
  /** Mean level above the background, over the bands of speech, that starts a voice; half of it keeps it up. */
  readonly thresholdDb: number;
  /** A voice goes on for so long after it was last heard: pauses between words. */
  readonly hangoverMs: number;
}

const DEFAULTS: VoiceActivityOptions = { thresholdDb: 6, hangoverMs: 300 };

const BANDS = 12;
const LOWEST_HZ = 200;
const HIGHEST_HZ = 4_000;
/** A voice fills several bands (a beep three at most) and not all alike (a gust or a fan does): bands, and dB of deviation. */
const LEAST_BANDS = 4;
const LEAST_SPREAD_DB = 3;
/** What is further below the loudest band may be leakage of the window. */
const MOST_BELOW_DB = 24;
/** So many of the last frames must be of a voice: more than a click has. */
const RECENT_FRAMES = 12;
const LEAST_RECENT = 7;
/** No background is taken to be quieter, so that the rounding of a silent line is no voice. Of full scale, a band. */
const LEAST_FLOOR_DB = -75;
const DB_OF_NEPER = 10 / Math.LN10;
/** The window is full of sound, rather than of the silence before the first sample, from then on. */
const FIRST_FRAMES = 3;

/**
 * Whether somebody speaks, by energy and spectrum alone, for where no model is wanted: how far the bands of speech stand above
 * their backgrounds, in how many bands, and how unevenly. A hangover keeps words together. Music and other voices of machines
 * pass for a voice; a steady sound does for 1.6 s at most.
 */
export class VoiceActivity {
  readonly #options: VoiceActivityOptions;
  readonly #rateHz: RateHz;
  readonly #mel: LogMel;
  readonly #features = new Float32Array(BANDS);
  readonly #levelsDb = new Float64Array(BANDS);
  readonly #floor = new NoiseFloor(BANDS);
  /** Of the last frames, a bit each: whether it was of a voice. */
  #recent = 0;
  #frames = 0;
  #heardMs = Number.NEGATIVE_INFINITY;
  #isOn = false;
  #excessDb = 0;

  constructor(rateHz: RateHz, options: Partial<VoiceActivityOptions> = {}) {
    this.#options = { ...DEFAULTS, ...options };
    this.#rateHz = rateHz;
    this.#mel = new LogMel({
      rateHz,
      windowMs: 25,
      hopMs: FRAME_MS,
      mels: BANDS,
      lowestHz: LOWEST_HZ,
      highestHz: Math.min(HIGHEST_HZ, rateHz / 2),
    });
  }

  get isOn(): boolean {
    return this.#isOn;
  }

  /** How far the bands of speech stood above the background in the last frame, in the mean, dB. */
  get excessDb(): number {
    return this.#excessDb;
  }

  /**
   * @returns whether a voice starts or ends with this frame; null where nothing changes
   * @throws RangeError of a frame of another rate or length
   */
  push(frame: AudioFrame): Decision | null {
    if (frame.rateHz !== this.#rateHz)
      throw new RangeError(`A frame of ${frame.rateHz} Hz where ${this.#rateHz} was expected`);
    const atMs = frame.capturedAtMs;
    const isVoice = this.#isVoice(frame.samples);
    this.#recent = ((this.#recent << 1) | (isVoice ? 1 : 0)) & ((1 << RECENT_FRAMES) - 1);
    if (this.#isOn) {
      if (isVoice) this.#heardMs = atMs;
      if (atMs - this.#heardMs < this.#options.hangoverMs) return null;
      return this.#turn(false, atMs);
    }
    if (ones(this.#recent) < LEAST_RECENT) return null;
    this.#heardMs = atMs;
    return this.#turn(true, atMs);
  }

  /** Nothing is heard any more: a voice that was on ends. */
  end(atMs: number): Decision | null {
    return this.#isOn ? this.#turn(false, atMs) : null;
  }

  /** Forgets what was heard: after a gap in the stream. A voice that was on goes on until its hangover. */
  reset(): void {
    this.#mel.reset();
    this.#floor.reset();
    this.#recent = 0;
    this.#frames = 0;
  }

  #isVoice(samples: Int16Array): boolean {
    this.#mel.push(samples, this.#features);
    this.#frames += 1;
    if (this.#frames < FIRST_FRAMES) return false;
    let loudestDb = Number.NEGATIVE_INFINITY;
    for (let m = 0; m < BANDS; m++) {
      const levelDb = (this.#features[m] as number) * DB_OF_NEPER;
      this.#levelsDb[m] = levelDb;
      loudestDb = Math.max(loudestDb, levelDb);
    }
    this.#floor.push(this.#levelsDb);
    let [sum, squares, bands] = [0, 0, 0];
    const least = this.#isOn ? this.#options.thresholdDb / 2 : this.#options.thresholdDb;
    for (let m = 0; m < BANDS; m++) {
      const levelDb = this.#levelsDb[m] as number;
      const excess = Math.max(0, levelDb - Math.max(LEAST_FLOOR_DB, this.#floor.floorDb(m)));
      sum += excess;
      squares += excess * excess;
      if (excess >= least && levelDb >= loudestDb - MOST_BELOW_DB) bands += 1;
    }
    this.#excessDb = sum / BANDS;
    const spreadDb = Math.sqrt(Math.max(0, squares / BANDS - this.#excessDb ** 2));
    return this.#excessDb >= least && bands >= LEAST_BANDS && spreadDb >= LEAST_SPREAD_DB;
  }

  #turn(isOn: boolean, atMs: number): Decision {
    this.#isOn = isOn;
    return {
      kind: 'voice',
      label: 'voice',
      edge: isOn ? 'start' : 'end',
      atMs,
      score: this.#excessDb,
      modelSha256: null,
    };
  }
}

function ones(bits: number): number {
  let count = 0;
  for (let rest = bits; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
