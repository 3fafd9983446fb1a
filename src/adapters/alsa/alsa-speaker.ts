import type { RateHz } from '../../audio/frame.js';
import type { AudioSink, AudioSinkFigures, AudioSinkListener, CardFormat, CardState } from '../../audio/ports.js';
import type { Clock } from '../../core/clock.js';
import type { Logger } from '../../core/logger.js';
import { KeptCard } from './kept-card.js';
import { type NativePlayback, native } from './native.js';

/**
 * A speaker by ALSA. Its card is opened, written to and closed by a native thread, so that a card that hangs holds up
 * nothing else.
 */
export class AlsaSpeaker implements AudioSink {
  readonly format: CardFormat;
  readonly #card: KeptCard<NativePlayback>;
  #listener: AudioSinkListener | null = null;
  #earlier = { xruns: 0, starvedFrames: 0 };

  constructor(options: { device: string; rateHz: RateHz; clock: Clock; logger: Logger }) {
    const { device, rateHz, clock, logger } = options;
    this.format = { device, rateHz };
    const silence = new Int16Array(rateHz / 100);
    this.#card = new KeptCard<NativePlayback>({
      what: 'speaker',
      device,
      clock,
      logger,
      start: (changed) => {
        const pull = () => this.#listener?.pull() ?? silence;
        return new native.Playback({ device, rateHz, pull, changed });
      },
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

  get figures(): AudioSinkFigures {
    const { line } = this.#card;
    return line === null ? this.#earlier : added(this.#earlier, line.figures());
  }

  open(listener: AudioSinkListener): void {
    this.close();
    this.#listener = listener;
    this.#earlier = { xruns: 0, starvedFrames: 0 };
    this.#card.open((state) => listener.stateChanged(state));
  }

  close(): void {
    this.#card.close();
    this.#listener = null;
  }

  delayMs(): number {
    return this.state.state === 'up' ? (this.#card.line?.delayMs() ?? 0) : 0;
  }
}

function added(one: AudioSinkFigures, other: AudioSinkFigures): AudioSinkFigures {
  return { xruns: one.xruns + other.xruns, starvedFrames: one.starvedFrames + other.starvedFrames };
}
