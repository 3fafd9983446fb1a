import type { AudioFrame, RateHz } from '../audio/frame.js';
import { resample } from '../audio/resample.js';
import type { Clock, Timer } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { FrameSource } from '../media/frame-source.js';
import { measureLoop } from '../media/loop-verdict.js';
import { FINDER_RATE_HZ } from '../media/signal-finder.js';
import { OnceSource, testSignal } from '../media/test-signal.js';
import type { LoopMeasurement } from '../protocol/selftest.js';
import { cardFault, type LoopCards } from './loop-cards.js';

/** The microphone is opened for it, and is given this long. */
const OPEN_MS = 1_000;
const BACKGROUND_MS = 300;
/** Longer is no loop: both cards' buffers and a large room take 200 ms. */
const MOST_DELAY_MS = 450;
/** A card that is late is given this much more for the whole of the signal. */
const LATE_MS = 300;

export interface LoopMeasureOptions {
  readonly rateHz: RateHz;
  readonly clock: Clock;
  readonly mixer: { add(source: FrameSource, volume: 'as-it-is'): void; remove(source: FrameSource): void };
  readonly cards: () => LoopCards;
  /** `isRunning` has changed: the microphone is wanted, or no longer. */
  readonly changed: () => void;
}

interface Run {
  readonly signalDbfs: number;
  readonly leastLevelDb: number;
  readonly source: OnceSource;
  readonly before: LoopCards;
  readonly frames: Int16Array[];
  /** Of the earliest that a frame of the microphone can have come: its time less that of the samples before it. */
  beganMs: number;
  timer: Timer;
  readonly resolve: (measured: LoopMeasurement) => void;
  readonly reject: (error: AppError) => void;
}

/**
 * Plays the test signal on the speaker and records what the microphone hears of it: within three seconds.
 *
 * ```
 *   microphone opens │ background 300 ms │ signal 850 ms │ up to 450 ms more
 *   ≤ 1 s            └────────────────── recorded ───────────────────────────▶ measureLoop
 * ```
 * It gives way at once to whoever needs the cards.
 */
export class LoopMeasure {
  readonly #options: LoopMeasureOptions;
  #run: Run | null = null;

  constructor(options: LoopMeasureOptions) {
    this.#options = options;
  }

  /** It wants the microphone. */
  get isRunning(): boolean {
    return this.#run !== null;
  }

  /**
   * @param options.signalDbfs level of the signal, RMS
   * @throws AppError `loop-busy` while another runs, `interrupted` (as a rejection)
   */
  measure(options: { signalDbfs: number; leastLevelDb: number }): Promise<LoopMeasurement> {
    if (this.#run !== null) return Promise.reject(new AppError('loop-busy', 'the loop is being measured already'));
    const { rateHz, clock, cards, changed } = this.#options;
    return new Promise((resolve, reject) => {
      this.#run = {
        ...options,
        source: new OnceSource(testSignal(rateHz, options.signalDbfs), rateHz),
        before: cards(),
        frames: [],
        beganMs: Number.POSITIVE_INFINITY,
        timer: clock.after(OPEN_MS, () => this.#finish()),
        resolve,
        reject,
      };
      changed();
    });
  }

  /** Who needs the cards has come: it ends, unmeasured. */
  interrupt(): void {
    this.#end()?.reject(new AppError('interrupted', 'somebody needed the loudspeaker or the microphone'));
  }

  /** 10 ms of the microphone. */
  frame(frame: AudioFrame): void {
    const run = this.#run;
    if (run === null) return;
    run.frames.push(frame.samples.slice());
    const recordedMs = run.frames.length * 10;
    run.beganMs = Math.min(run.beganMs, frame.capturedAtMs - recordedMs);
    if (run.frames.length === 1) this.#then(run, BACKGROUND_MS + LATE_MS, () => this.#play(run));
    if (recordedMs === BACKGROUND_MS) this.#play(run);
  }

  #play(run: Run): void {
    const { mixer } = this.#options;
    mixer.add(run.source, 'as-it-is');
    const signalMs = testSignal(FINDER_RATE_HZ).length / (FINDER_RATE_HZ / 1000);
    this.#then(run, signalMs + MOST_DELAY_MS + LATE_MS / 2, () => this.#finish());
  }

  #then(run: Run, afterMs: number, next: () => void): void {
    run.timer.cancel();
    run.timer = this.#options.clock.after(afterMs, next);
  }

  #finish(): void {
    const now = this.#options.cards();
    const run = this.#end();
    if (run === null) return;
    const { rateHz } = this.#options;
    const whole = new Int16Array(run.frames.length * (rateHz / 100));
    for (const [i, samples] of run.frames.entries()) whole.set(samples.subarray(0, rateHz / 100), i * (rateHz / 100));
    const heard = resample(whole, { fromHz: rateHz, toHz: FINDER_RATE_HZ });
    const { startedAtMs } = run.source;
    const sinceMs = startedAtMs === null ? 0 : Math.max(0, startedAtMs - run.beganMs);
    const from = Math.min(heard.length, Math.round((sinceMs * FINDER_RATE_HZ) / 1000));
    run.resolve({
      ...measureLoop(heard, { signalDbfs: run.signalDbfs, leastLevelDb: run.leastLevelDb, from }),
      signalDbfs: run.signalDbfs,
      microphone: {
        state: now.microphone.state,
        fault: cardFault(now.microphone),
        frames: run.frames.length,
        isDead: whole.every((sample) => sample === whole[0]),
      },
      speaker: {
        state: now.speaker.state,
        fault: cardFault(now.speaker),
        takenPct: Math.round(run.source.taken * 100),
        // A card that was opened anew counts from nothing.
        xruns: Math.max(0, now.speakerXruns - run.before.speakerXruns),
        starvedFrames: Math.max(0, now.starvedFrames - run.before.starvedFrames),
      },
    });
  }

  #end(): Run | null {
    const run = this.#run;
    if (run === null) return null;
    run.timer.cancel();
    this.#options.mixer.remove(run.source);
    this.#run = null;
    this.#options.changed();
    return run;
  }
}
