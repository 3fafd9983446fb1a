import { FRAME_MS, frameSamples, type RateHz } from '../../audio/frame.js';
import type {
  AudioSource,
  AudioSourceFigures,
  AudioSourceListener,
  CardFormat,
  CardState,
  PeriodMs,
} from '../../audio/ports.js';
import type { Clock } from '../../core/clock.js';
import type { Logger } from '../../core/logger.js';
import { KeptCard } from './kept-card.js';
import { type NativeCapture, native } from './native.js';

/** Frames that one call takes over: a few periods, for the time after a stall. */
const MOST_FRAMES = 8;

/**
 * A microphone by native/capture.cc: its card is opened, read and closed by a native thread, so that a card that hangs holds up
 * nothing else, and this loop is woken once a period. It opens at its very rate or not at all.
 */
export class NativeMicrophone implements AudioSource {
  readonly format: CardFormat;
  readonly #clock: Clock;
  readonly #card: KeptCard<NativeCapture>;
  readonly #agesMs = new Float64Array(MOST_FRAMES);
  /** Each 10 ms of the memory that native code fills. */
  readonly #frames: readonly Int16Array[];
  #periodMs: PeriodMs;
  #listener: AudioSourceListener | null = null;
  #earlier = { xruns: 0, droppedFrames: 0 };

  constructor(options: { device: string; rateHz: RateHz; periodMs?: PeriodMs; clock: Clock; logger: Logger }) {
    const { device, rateHz, clock, logger } = options;
    this.format = { device, rateHz };
    this.#periodMs = options.periodMs ?? FRAME_MS;
    this.#clock = clock;
    const length = frameSamples(rateHz);
    const samples = new Int16Array(MOST_FRAMES * length);
    this.#frames = Array.from({ length: MOST_FRAMES }, (_, i) => samples.subarray(i * length, (i + 1) * length));
    const take = (count: number): void => this.#take(count);
    this.#card = new KeptCard<NativeCapture>({
      what: 'microphone',
      device,
      clock,
      logger,
      start: (changed) =>
        new native.Capture({ device, rateHz, periodMs: this.#periodMs, samples, agesMs: this.#agesMs, take, changed }),
      released: (line) => {
        this.#earlier = added(this.#earlier, line.figures());
      },
    });
  }

  get state(): CardState {
    return this.#card.state;
  }

  get mustRestart(): boolean {
    return this.#card.mustRestart;
  }

  get figures(): AudioSourceFigures {
    const { line } = this.#card;
    const counts = line === null ? this.#earlier : added(this.#earlier, line.figures());
    const delayMs = this.state.state === 'up' ? (line?.delayMs() ?? 0) : 0;
    return { ...counts, periodMs: this.#periodMs, delayMs };
  }

  open(listener: AudioSourceListener): void {
    this.close();
    this.#listener = listener;
    this.#earlier = { xruns: 0, droppedFrames: 0 };
    this.#card.open((state) => listener.stateChanged(state));
  }

  close(): void {
    this.#card.close();
    this.#listener = null;
  }

  setPeriodMs(periodMs: PeriodMs): void {
    this.#periodMs = periodMs;
    this.#card.line?.setPeriodMs(periodMs);
  }

  #take(count: number): void {
    const nowMs = this.#clock.nowMs();
    const { rateHz } = this.format;
    for (let i = 0; i < count; i++) {
      const samples = this.#frames[i];
      if (samples === undefined || this.#listener === null) return;
      this.#listener.frame({ samples, rateHz, capturedAtMs: nowMs - (this.#agesMs[i] ?? 0) });
    }
  }
}

function added(one: { xruns: number; droppedFrames: number }, other: { xruns: number; droppedFrames: number }) {
  return { xruns: one.xruns + other.xruns, droppedFrames: one.droppedFrames + other.droppedFrames };
}
