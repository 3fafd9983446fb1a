import AlsaCapture from 'alsa-capture';
import { FRAME_MS, frameSamples, type RateHz } from '../../audio/frame.js';
import type {
  AudioSource,
  AudioSourceFigures,
  AudioSourceListener,
  CardFormat,
  CardState,
  PeriodMs,
} from '../../audio/ports.js';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { cardFault } from './card-fault.js';
import { CARD_BACKOFF } from './kept-card.js';
import { native } from './native.js';

const WATCH_MS = 250;
/** So many watches in a row without a sound are a hung card. Counted, not timed: a late event loop is none. */
const SILENT_WATCHES = 4;
/** A card that was pulled out may say "overrun" for ever, since it can't be prepared again. */
const MOST_OVERRUNS = 3;
/** `alsa-capture` asks for a rate "near" this one with a direction that it never sets: where a plugin can do any rate, it
 * may become 16,001 Hz. That is less than a card's own clock may be off. */
const RATE_TOLERANCE = 0.001;
/** Opening may have to wait for a sound server first. */
const OPENING_WATCHES = 12;

/**
 * A microphone by the package `alsa-capture`, whose reading thread ends only between two reads. While a hung card keeps
 * one, no second is started: the state says `card-hung` and `mustRestart` is true until the card lets go.
 * `process.exit` waits for such a thread for ever, so the process must then be ended by a signal.
 */
export class AlsaMicrophone implements AudioSource {
  readonly format: CardFormat;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #backoff = new Backoff(CARD_BACKOFF);
  #state: CardState = { state: 'closed' };
  #listener: AudioSourceListener | null = null;
  /** Lives as long as its thread does, ordered to end or not. */
  #reader: Reader | null = null;
  #probing = false;
  #mustProbe = false;
  #mustRestart = false;
  #periodMs: PeriodMs;
  #xruns = 0;
  #silentWatches = 0;
  #retry: Timer | null = null;
  #watch: Timer | null = null;

  constructor(options: { device: string; rateHz: RateHz; periodMs?: PeriodMs; clock: Clock; logger: Logger }) {
    this.format = { device: options.device, rateHz: options.rateHz };
    this.#periodMs = options.periodMs ?? FRAME_MS;
    this.#clock = options.clock;
    this.#logger = options.logger.child({ microphone: options.device });
  }

  get state(): CardState {
    return this.#state;
  }

  /** A thread hangs in the card; only the end of the process by a signal (or the card) frees it. */
  get mustRestart(): boolean {
    return this.#mustRestart;
  }

  /** It counts no more than overruns, and knows no delay. */
  get figures(): AudioSourceFigures {
    return { xruns: this.#xruns, droppedFrames: 0, periodMs: this.#periodMs, delayMs: 0 };
  }

  /** From the next opening on. */
  setPeriodMs(periodMs: PeriodMs): void {
    this.#periodMs = periodMs;
  }

  open(listener: AudioSourceListener): void {
    this.close();
    this.#xruns = 0;
    this.#listener = listener;
    this.#backoff.reset();
    this.#start();
    this.#watchAgain();
  }

  close(): void {
    this.#listener = null;
    this.#reader?.end();
    this.#retry?.cancel();
    this.#retry = null;
    this.#state = { state: 'closed' };
    if (this.#reader !== null) this.#watchAgain();
    else this.#watch?.cancel();
  }

  #start(): void {
    this.#retry = null;
    // A reader that is still on its way out calls again when it is gone.
    if (this.#listener === null || this.#reader !== null || this.#probing) return;
    if (this.#mustProbe) void this.#probe();
    else this.#read();
  }

  /** `alsa-capture` leaks the device when its set-up fails: after a failure it is not sent there before that works. */
  async #probe(): Promise<void> {
    this.#probing = true;
    const fault = await native.probe(this.format.device, 'capture', this.format.rateHz);
    this.#probing = false;
    this.#mustRestart = false;
    if (this.#listener === null) return;
    if (fault === null) this.#read();
    else this.#fail(fault.code, fault.text);
  }

  #read(): void {
    const reader: Reader = new Reader(this.format, this.#periodMs, {
      frame: (samples) => {
        this.#silentWatches = 0;
        if (this.#state.state !== 'up') this.#up();
        this.#listener?.frame({ samples, rateHz: this.format.rateHz, capturedAtMs: this.#clock.nowMs() });
      },
      overrun: () => {
        this.#xruns++;
      },
      failed: (code, text) => {
        if (this.#listener !== null) this.#fail(code, text);
      },
      gone: () => {
        this.#reader = null;
        this.#mustRestart = false;
        if (this.#retry === null) this.#start();
      },
    });
    this.#reader = reader;
    this.#silentWatches = 0;
  }

  #watchAgain(): void {
    this.#watch?.cancel();
    this.#silentWatches = 0;
    const look = () => {
      if (this.#listener === null && this.#reader === null) return;
      this.#watch = this.#clock.after(WATCH_MS, look);
      if (this.#reader === null && !this.#probing) return;
      this.#silentWatches++;
      const allowed = this.#reader?.isEnding || this.#state.state === 'up' ? SILENT_WATCHES : OPENING_WATCHES;
      if (this.#silentWatches < allowed) return;
      this.#silentWatches = 0;
      if (this.#probing || this.#reader?.isEnding) this.#mustRestart = true;
      if (this.#listener !== null) this.#fail('card-hung', 'it gives no sound');
    };
    this.#watch = this.#clock.after(WATCH_MS, look);
  }

  #up(): void {
    this.#backoff.reset();
    this.#mustProbe = false;
    this.#logger.info({}, 'The microphone is open');
    this.#change({ state: 'up' });
  }

  #fail(code: string, text: string): void {
    this.#reader?.end();
    this.#silentWatches = 0;
    this.#mustProbe = true;
    this.#retry?.cancel();
    this.#retry = this.#clock.after(this.#backoff.nextDelayMs(), () => this.#start());
    const fault = cardFault('microphone', this.format.device, code, text);
    // Told once an outage; later reasons only show in the state.
    if (this.#state.state === 'down') {
      this.#state = { state: 'down', fault };
      return;
    }
    this.#logger.warn({ code }, errorText(fault));
    this.#change({ state: 'down', fault });
  }

  #change(state: CardState): void {
    this.#state = state;
    this.#listener?.stateChanged(state);
  }
}

interface ReaderListener {
  frame(samples: Int16Array): void;
  overrun(): void;
  failed(code: string, text: string): void;
  /** The thread has ended. Comes once, after everything else. */
  gone(): void;
}

/** One reading thread: makes of its periods, whatever their length, frames of 10 ms, and drops what is stale in them. */
class Reader {
  readonly #capture: AlsaCapture;
  #isEnding = false;
  #freshBytes: number | null = null;
  #overruns = 0;
  #frame: Int16Array;
  #filled = 0;

  constructor(format: CardFormat, periodMs: PeriodMs, listener: ReaderListener) {
    const frameLength = frameSamples(format.rateHz);
    this.#frame = new Int16Array(frameLength);
    const fail = (code: string, text: string) => {
      if (this.#isEnding) return;
      this.end();
      listener.failed(code, text);
    };
    this.#capture = new AlsaCapture({
      device: format.device,
      channels: 1,
      format: 'S16_LE',
      rate: format.rateHz,
      periodSize: (frameLength * periodMs) / FRAME_MS,
    });
    this.#capture
      .on('audio', (data) => {
        const fresh = data.subarray(0, this.#freshBytes ?? data.length);
        this.#freshBytes = null;
        if (fresh.length > 0) this.#overruns = 0;
        if (!this.#isEnding) this.#cut(fresh, listener);
      })
      .on('shortRead', (samples) => {
        this.#freshBytes = Number(samples) * 2;
      })
      .on('overrun', () => {
        this.#freshBytes = 0;
        listener.overrun();
        if (++this.#overruns >= MOST_OVERRUNS) fail('card-lost', 'it only overruns');
      })
      // It would go on to hand out its last period at full speed.
      .on('readError', (reason) => fail('card-lost', reason))
      .on('rateDeviating', (rateHz) => {
        if (Math.abs(Number(rateHz) / format.rateHz - 1) <= RATE_TOLERANCE) return;
        fail('card-format', `it runs at ${rateHz} Hz, not ${format.rateHz}`);
      })
      .on('close', () => listener.gone())
      // Its thread has ended by itself: it must not be ordered to any more.
      .on('error', (error) => {
        const wasEnding = this.#isEnding;
        this.#isEnding = true;
        if (!wasEnding) listener.failed('card-absent', error.message.trim());
        listener.gone();
      });
  }

  get isEnding(): boolean {
    return this.#isEnding;
  }

  end(): void {
    if (this.#isEnding) return;
    this.#isEnding = true;
    this.#capture.close();
  }

  #cut(bytes: Uint8Array, listener: ReaderListener): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at + 1 < bytes.length && !this.#isEnding; at += 2) {
      this.#frame[this.#filled++] = view.getInt16(at, true);
      if (this.#filled < this.#frame.length) continue;
      const full = this.#frame;
      this.#frame = new Int16Array(full.length);
      this.#filled = 0;
      listener.frame(full);
    }
  }
}
