import type { AudioEncoder } from '../../codec/codec.js';
import type { Clock, Timer } from '../../core/clock.js';
import { L16_RATE_HZ, type L16Sound } from '../../rtp/l16.js';
import type { TapSource } from '../station/shared-taps.js';
import { type ClipFigures, type ClipSink, OpusClip } from './opus-clip.js';
import { SoundHistory } from './sound-history.js';
import { FilledLine, Mix } from './sound-line.js';

const SAMPLES_PER_MS = L16_RATE_HZ / 1_000;
/** How much longer than its length a recording waits for sound that does not come. */
const GRACE_MS = 1_000;
const MOST_AT_ONCE = 4;
/** So many packets of a tap are 20 ms each. */
const PACKET_MS = 20;

/** `length`, `size`: its maximum; `stopped`: by order; `closed`: whoever had it recorded has gone. */
export type RecordingEnd = 'length' | 'size' | 'stopped' | 'closed';

export interface RecordingFigures extends ClipFigures {
  readonly endedBy: RecordingEnd;
  /** Of the sound that did not arrive; silence stands for it. */
  readonly lostMs: number;
}

export interface Recording {
  /** @throws what the sink or the encoder throws */
  readonly done: Promise<RecordingFigures>;
  stop(why: 'stopped' | 'closed'): void;
}

export interface RecorderOptions {
  readonly sources: readonly [TapSource] | readonly [TapSource, TapSource];
  /** What came before the order, and is part of each recording. */
  readonly preRollMs: number;
  readonly newEncoder: () => Promise<AudioEncoder>;
  readonly clock: Clock;
}

/** Records what one or two taps hear, mixed: several recordings at once, each with what came before it was ordered. */
export class Recorder {
  readonly #options: RecorderOptions;
  readonly #history: SoundHistory;
  readonly #lines: ReadonlyMap<TapSource, FilledLine>;
  readonly #running = new Set<Run>();

  constructor(options: RecorderOptions) {
    this.#options = options;
    this.#history = new SoundHistory(Math.round(options.preRollMs * SAMPLES_PER_MS));
    const [first, second] = options.sources;
    const take = (samples: Int16Array): void => this.#take(samples);
    if (second === undefined) {
      this.#lines = new Map([[first, new FilledLine(take)]]);
    } else {
      const mix = new Mix(take);
      this.#lines = new Map([
        [first, new FilledLine((samples) => mix.push(0, samples))],
        [second, new FilledLine((samples) => mix.push(1, samples))],
      ]);
    }
  }

  get recordings(): number {
    return this.#running.size;
  }

  get mayStart(): boolean {
    return this.#running.size < MOST_AT_ONCE;
  }

  /** What a tap heard. */
  sound(source: TapSource, sound: L16Sound): void {
    this.#lines.get(source)?.push(sound);
  }

  /** The taps were closed: what was heard is past. */
  forget(): void {
    this.#history.clear();
  }

  /**
   * @param options.lengthMs of what comes from now on; 0 records what came before alone
   * @throws RangeError while `mayStart` is false
   */
  start(options: { sink: ClipSink; lengthMs: number; mostBytes: number }): Recording {
    if (!this.mayStart) throw new RangeError(`${MOST_AT_ONCE} recordings run`);
    const { clock, newEncoder } = this.#options;
    const clip = new OpusClip({ encoder: newEncoder(), sink: options.sink, mostBytes: options.mostBytes });
    clip.push(this.#history.all(), true);
    const lostBefore = this.#lostPackets();
    const run = new Run(clip, options.lengthMs, clock);
    this.#running.add(run);
    const done = run.ended.then(async (endedBy) => {
      this.#running.delete(run);
      const lostMs = (this.#lostPackets() - lostBefore) * PACKET_MS;
      const figures = await clip.end();
      return { ...figures, endedBy: clip.isFull ? ('size' as const) : endedBy, lostMs };
    });
    return { done, stop: (why) => run.end(why) };
  }

  close(): void {
    for (const run of this.#running) run.end('closed');
  }

  #take(samples: Int16Array): void {
    this.#history.push(samples);
    for (const run of this.#running) run.push(samples);
  }

  #lostPackets(): number {
    return [...this.#lines.values()].reduce((sum, line) => sum + line.lostPackets, 0);
  }
}

/** One recording from its order to its end. */
class Run {
  readonly ended: Promise<RecordingEnd>;
  readonly #clip: OpusClip;
  readonly #lengthSamples: number;
  readonly #timer: Timer;
  #tellEnd: (why: RecordingEnd) => void = () => {};
  #samples = 0;

  constructor(clip: OpusClip, lengthMs: number, clock: Clock) {
    this.#clip = clip;
    this.#lengthSamples = Math.round(lengthMs * SAMPLES_PER_MS);
    this.ended = new Promise((resolve) => {
      this.#tellEnd = resolve;
    });
    this.#timer = clock.after(lengthMs + GRACE_MS, () => this.end('length'));
    if (lengthMs === 0) this.end('length');
  }

  push(samples: Int16Array): void {
    const wanted = samples.subarray(0, this.#lengthSamples - this.#samples);
    this.#samples += wanted.length;
    this.#clip.push(wanted);
    if (this.#clip.isFull) this.end('size');
    else if (this.#samples >= this.#lengthSamples) this.end('length');
  }

  end(why: RecordingEnd): void {
    this.#timer.cancel();
    this.#tellEnd(why);
  }
}
