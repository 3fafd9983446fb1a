import type { RateHz } from '../../audio/frame.js';
import type { AudioSink, AudioSinkFigures, AudioSinkListener, CardFormat, CardState } from '../../audio/ports.js';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { cardFault } from './card-fault.js';
import { type NativePlayback, native } from './native.js';

const WATCH_MS = 500;
/** A call to ALSA that takes longer than this does not come back. Meeting a sound server for the first time takes some. */
const STUCK_MS = 2_000;

/**
 * A speaker by ALSA. Its card is opened, written to and closed by a native thread, so that a card that hangs holds up
 * nothing else. Of that thread there is never more than one: while a hung card keeps it, the card is not opened again.
 */
export class AlsaSpeaker implements AudioSink {
  readonly format: CardFormat;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #backoff = new Backoff({ firstMs: 250, mostMs: 10_000 });
  #state: CardState = { state: 'closed' };
  #listener: AudioSinkListener | null = null;
  #playback: NativePlayback | null = null;
  /** Closed, but its thread may still hold the card. */
  #leaving: NativePlayback | null = null;
  #timer: Timer | null = null;
  #earlier = { xruns: 0, starvedFrames: 0 };

  constructor(options: { device: string; rateHz: RateHz; clock: Clock; logger: Logger }) {
    this.format = { device: options.device, rateHz: options.rateHz };
    this.#clock = options.clock;
    this.#logger = options.logger.child({ speaker: options.device });
  }

  get state(): CardState {
    return this.#state;
  }

  get figures(): AudioSinkFigures {
    const now = this.#playback?.figures();
    return {
      xruns: this.#earlier.xruns + (now?.xruns ?? 0),
      starvedFrames: this.#earlier.starvedFrames + (now?.starvedFrames ?? 0),
    };
  }

  open(listener: AudioSinkListener): void {
    this.close();
    this.#listener = listener;
    this.#earlier = { xruns: 0, starvedFrames: 0 };
    this.#backoff.reset();
    this.#start();
  }

  close(): void {
    this.#listener = null;
    this.#release();
    this.#timer?.cancel();
    this.#timer = null;
    this.#state = { state: 'closed' };
  }

  delayMs(): number {
    return this.#state.state === 'up' ? (this.#playback?.delayMs() ?? 0) : 0;
  }

  #start(): void {
    const listener = this.#listener;
    if (listener === null) return;
    if (this.#leaving !== null) {
      const { ended, stuckMs } = this.#leaving.figures();
      if (!ended) {
        if (stuckMs > STUCK_MS) this.#fail('card-hung', 'it does not let go');
        else this.#retryAfter(20);
        return;
      }
      this.#leaving = null;
    }
    const { device, rateHz } = this.format;
    try {
      const playback: NativePlayback = new native.Playback({
        device,
        rateHz,
        pull: () => listener.pull(),
        changed: (code, text) => {
          if (code === 'up') this.#up();
          else this.#fail(code, text ?? '');
        },
      });
      this.#playback = playback;
      this.#watch(playback);
    } catch (error) {
      this.#fail('card-lost', errorText(error));
    }
  }

  #watch(playback: NativePlayback): void {
    this.#timer = this.#clock.after(WATCH_MS, () => {
      if (playback.figures().stuckMs > STUCK_MS) this.#fail('card-hung', 'it does not answer');
      else this.#watch(playback);
    });
  }

  #up(): void {
    this.#backoff.reset();
    this.#logger.info({}, 'The speaker plays');
    this.#change({ state: 'up' });
  }

  #fail(code: string, text: string): void {
    this.#release();
    this.#retryAfter(this.#backoff.nextDelayMs());
    const fault = cardFault('speaker', this.format.device, code, text);
    // Told once an outage; later reasons only show in the state.
    if (this.#state.state === 'down') {
      this.#state = { state: 'down', fault };
      return;
    }
    this.#logger.warn({ code }, errorText(fault));
    this.#change({ state: 'down', fault });
  }

  #retryAfter(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.#clock.after(delayMs, () => this.#start());
  }

  #release(): void {
    const playback = this.#playback;
    if (playback === null) return;
    const { xruns, starvedFrames } = this.figures;
    this.#earlier = { xruns, starvedFrames };
    this.#playback = null;
    this.#leaving = playback;
    playback.close();
  }

  #change(state: CardState): void {
    this.#state = state;
    this.#listener?.stateChanged(state);
  }
}
