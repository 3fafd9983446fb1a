import type { AudioFrame, RateHz } from '../audio/frame.js';
import type { AudioSink, AudioSource, CardState, PeriodMs } from '../audio/ports.js';
import type { Clock } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { LevelMeter } from '../media/level-meter.js';
import { Mixer } from '../media/mixer.js';
import { type ToneName, ToneSource } from '../media/tone.js';
import type { CardStatus, EngineStatus } from '../protocol/engine-api.js';
import { cardFault, type LoopCards } from './loop-cards.js';
import type { EngineParts } from './parts.js';

/**
 * Of the microphone, until the machine can't keep up: 20 ms would save a sixth of the sender's CPU and cost some 10 ms from mouth
 * to ear, both measured by `make bench` on the virtual card.
 */
export const CAPTURE_PERIOD_MS: PeriodMs = 10;

export interface SoundListener {
  /** 10 ms of the microphone. */
  frame(frame: AudioFrame): void;
  /** 10 ms that the speaker plays, valid until this returns; monotonic. */
  played(samples: Int16Array, atMs: number): void;
  captureChanged(isOpen: boolean): void;
  cardChanged(card: 'capture' | 'playback', state: CardState): void;
  /** The card hangs; only the end of this process frees it. */
  mustRestart(card: 'capture' | 'playback'): void;
}

export interface SoundOptions {
  readonly parts: EngineParts;
  readonly captureDevice: string;
  readonly playbackDevice: string;
  readonly rateHz: RateHz;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly listener: SoundListener;
}

/**
 * The two cards. The speaker is open all the time and plays what is in the mixer; the microphone is open only while
 * somebody wants its frames.
 */
export class Sound {
  readonly mixer: Mixer;
  readonly #options: SoundOptions;
  readonly #microphone: AudioSource;
  readonly #speaker: AudioSink;
  readonly #captureLevel = new LevelMeter();
  readonly #playbackLevel = new LevelMeter();
  readonly #silence: Int16Array;
  #tone: ToneSource | null = null;
  #isCapturing = false;
  #hasFailed = false;

  constructor(options: SoundOptions) {
    const { parts, rateHz, clock, logger } = options;
    this.#options = options;
    this.mixer = new Mixer(rateHz);
    this.#silence = this.mixer.pull(0);
    this.#microphone = parts.microphone({
      device: options.captureDevice,
      rateHz,
      periodMs: CAPTURE_PERIOD_MS,
      clock,
      logger,
    });
    this.#speaker = parts.speaker({ device: options.playbackDevice, rateHz, clock, logger });
  }

  open(): void {
    this.#speaker.open({
      pull: () => this.#pull(),
      stateChanged: (state) => {
        this.#options.listener.cardChanged('playback', state);
        this.#checkRestart();
      },
    });
  }

  close(): void {
    this.capture(false);
    this.#speaker.close();
  }

  get isCapturing(): boolean {
    return this.#isCapturing;
  }

  /** Opens or closes the microphone. */
  capture(isWanted: boolean): void {
    if (isWanted === this.#isCapturing) return;
    this.#isCapturing = isWanted;
    const { listener } = this.#options;
    if (isWanted) {
      listener.captureChanged(true);
      this.#captureLevel.reset();
      this.#microphone.open({
        frame: (frame) => {
          this.#captureLevel.frame(frame.samples);
          listener.frame(frame);
        },
        stateChanged: (state) => {
          listener.cardChanged('capture', state);
          this.#checkRestart();
        },
      });
    } else {
      this.#microphone.close();
      listener.captureChanged(false);
      this.#checkRestart();
    }
  }

  /** How much of the microphone is handed over at once (AudioSource.setPeriodMs). */
  setCapturePeriodMs(periodMs: PeriodMs): void {
    this.#microphone.setPeriodMs(periodMs);
  }

  /** What a measurement of the loop needs to know of the cards. */
  get cards(): LoopCards {
    const { xruns, starvedFrames } = this.#speaker.figures;
    return { microphone: this.#microphone.state, speaker: this.#speaker.state, speakerXruns: xruns, starvedFrames };
  }

  /** Buffers of both cards that ran over or dry, since the start. */
  get xruns(): number {
    return this.#microphone.figures.xruns + this.#speaker.figures.xruns;
  }

  playTone(name: ToneName): void {
    this.stopTone();
    this.#tone = new ToneSource(name, this.#options.rateHz);
    this.mixer.add(this.#tone, 'as-it-is');
  }

  get isPlayingTone(): boolean {
    return this.#tone !== null;
  }

  stopTone(): void {
    if (this.#tone !== null) this.mixer.remove(this.#tone);
    this.#tone = null;
  }

  status(): Pick<EngineStatus, 'capture' | 'playback'> {
    const { figures } = this.#speaker;
    return {
      capture: {
        ...cardStatus(this.#microphone.format.device, this.#microphone.state, this.#captureLevel),
        ...this.#microphone.figures,
      },
      playback: {
        ...cardStatus(this.#speaker.format.device, this.#speaker.state, this.#playbackLevel),
        delayMs: this.#speaker.delayMs(),
        xruns: figures.xruns,
        starvedFrames: figures.starvedFrames,
      },
    };
  }

  #pull(): Int16Array {
    try {
      const nowMs = this.#options.clock.nowMs();
      const frame = this.mixer.pull(nowMs);
      this.#playbackLevel.frame(frame);
      this.#options.listener.played(frame, nowMs);
      return frame;
    } catch (error) {
      // The speaker's thread must get a frame whatever happens; said once, since it would come 100 times a second.
      if (!this.#hasFailed) this.#options.logger.error({ error: errorText(error) }, 'playing failed; silence instead');
      this.#hasFailed = true;
      return this.#silence;
    }
  }

  #checkRestart(): void {
    if (this.#microphone.mustRestart) this.#options.listener.mustRestart('capture');
    else if (this.#speaker.mustRestart) this.#options.listener.mustRestart('playback');
  }
}

function cardStatus(device: string, state: CardState, level: LevelMeter): CardStatus {
  const isUp = state.state === 'up';
  return { device, state: state.state, fault: cardFault(state), levelDbfs: isUp ? level.dbfs : null };
}
