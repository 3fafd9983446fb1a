import type { RateHz } from '../../audio/frame.js';
import type { AudioSink, AudioSinkFigures, AudioSinkListener, CardFormat, CardState } from '../../audio/ports.js';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import type { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { cardFault } from './card-fault.js';
import { type NativePlayback, playbackModule } from './playback-module.js';

/** The writing thread comes round every 20 ms; longer than this, and it is stuck in a call to ALSA. */
const STUCK_MS = 1_500;
const LOOK_MS = 500;

/**
 * A speaker by native/playback.cc: a writing thread of its own, which asks for a frame whenever the card has room for one.
 *
 *   closed ─open→ (opening) ─moves→ up ─fault→ down ─backoff→ (opening) …
 */
export class AlsaSpeaker implements AudioSink {
  readonly format: CardFormat;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #backoff = new Backoff({ firstMs: 250, mostMs: 5_000 });
  #state: CardState = { state: 'closed' };
  #listener: AudioSinkListener | undefined;
  #playback: NativePlayback | undefined;
  #retry: Timer | undefined;
  #look: Timer | undefined;
  #before = { xruns: 0, starvedFrames: 0 };

  constructor(options: { device: string; rateHz: RateHz; clock: Clock; logger: Logger }) {
    this.format = { device: options.device, rateHz: options.rateHz };
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  get state(): CardState {
    return this.#state;
  }

  get figures(): AudioSinkFigures {
    return {
      xruns: this.#before.xruns + (this.#playback?.xruns() ?? 0),
      starvedFrames: this.#before.starvedFrames + (this.#playback?.starvedFrames() ?? 0),
    };
  }

  delayMs(): number {
    return this.#state.state === 'up' ? (this.#playback?.delayMs() ?? 0) : 0;
  }

  open(listener: AudioSinkListener): void {
    if (this.#listener !== undefined) return;
    this.#listener = listener;
    this.#before = { xruns: 0, starvedFrames: 0 };
    this.#backoff.reset();
    this.#start();
  }

  close(): void {
    this.#listener = undefined;
    this.#end();
    this.#state = { state: 'closed' };
  }

  #start(): void {
    const { device, rateHz } = this.format;
    this.#playback = new playbackModule.Playback({
      device,
      rateHz,
      pull: () => this.#listener?.pull() ?? new Int16Array(rateHz / 100),
      changed: (isUp, code, text) => {
        if (isUp) {
          this.#backoff.reset();
          this.#become({ state: 'up' });
        } else this.#failed(cardFault('speaker', device, code ?? 'card-lost', text ?? ''));
      },
    });
    this.#watch();
  }

  #watch(): void {
    this.#look = this.#clock.after(LOOK_MS, () => {
      if ((this.#playback?.aliveMs() ?? 0) > STUCK_MS) {
        this.#failed(cardFault('speaker', this.format.device, 'card-hung', 'it does not answer'));
      } else this.#watch();
    });
  }

  #failed(fault: AppError): void {
    this.#end();
    this.#become({ state: 'down', fault });
    this.#retry = this.#clock.after(this.#backoff.nextDelayMs(), () => this.#start());
  }

  #end(): void {
    this.#look?.cancel();
    this.#retry?.cancel();
    if (this.#playback === undefined) return;
    this.#before = this.figures;
    this.#playback.close();
    this.#playback = undefined;
  }

  /** Told once: a retry that fails as the one before is no news. */
  #become(state: CardState): void {
    if (state.state === this.#state.state) return;
    this.#state = state;
    this.#logger.debug({ device: this.format.device, state: state.state }, 'speaker');
    this.#listener?.stateChanged(state);
  }
}
