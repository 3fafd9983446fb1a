import AlsaCapture from 'alsa-capture';
import { frameSamples, type RateHz } from '../../audio/frame.js';
import type { AudioSource, AudioSourceListener, CardFormat, CardState } from '../../audio/ports.js';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import type { AppError } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { cardFault } from './card-fault.js';

/** A card that gives nothing for so long hangs; one that opens takes less (a sound server may have to start). */
const HUNG_MS = 1_000;
const OPEN_MS = 3_000;
/** The capture thread comes back from a read within a period; when it doesn't, only the end of the process frees it. */
const CLOSE_MS = 1_000;

/**
 * A microphone by the package `alsa-capture`: a thread of libuv's that reads 10 ms periods.
 *
 *   closed ─open→ (opening) ─first frame→ up ─read error, silence→ down ─backoff→ (opening) …
 *
 * What the package does after a fault, and what is done about it: a failed read or an overrun is followed by a buffer of old
 * samples (left out); a short read's buffer has an old tail (cut off); a read error repeats at full speed (closed at the
 * first); `close` does nothing while a read hangs (`mustRestart`).
 */
export class AlsaMicrophone implements AudioSource {
  readonly format: CardFormat;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #backoff = new Backoff({ firstMs: 250, mostMs: 5_000 });
  #state: CardState = { state: 'closed' };
  #listener: AudioSourceListener | undefined;
  #reader: Reader | undefined;
  #timer: Timer | undefined;
  #mustRestart = false;
  #lastFrameMs = 0;

  constructor(options: { device: string; rateHz: RateHz; clock: Clock; logger: Logger }) {
    this.format = { device: options.device, rateHz: options.rateHz };
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  get state(): CardState {
    return this.#state;
  }

  /** The capture thread is stuck in the driver: nothing is captured until this process has ended. */
  get mustRestart(): boolean {
    return this.#mustRestart;
  }

  open(listener: AudioSourceListener): void {
    if (this.#listener !== undefined) return;
    this.#listener = listener;
    this.#backoff.reset();
    this.#start();
  }

  close(): void {
    this.#end();
    this.#listener = undefined;
    this.#state = { state: 'closed' };
  }

  #start(): void {
    const { device, rateHz } = this.format;
    const reader = new Reader(device, rateHz, {
      samples: (samples) => {
        if (this.#reader !== reader) return;
        this.#lastFrameMs = this.#clock.nowMs();
        if (this.#state.state !== 'up') {
          this.#backoff.reset();
          this.#become({ state: 'up' });
          this.#watch(HUNG_MS);
        }
        this.#listener?.frame({ samples, rateHz, capturedAtMs: this.#lastFrameMs });
      },
      fault: (code, text) => {
        if (this.#reader === reader) this.#failed(cardFault('microphone', device, code, text));
      },
    });
    this.#reader = reader;
    this.#watch(OPEN_MS);
  }

  /** Looks now and then at when the last frame came: a timer a frame would cost more than the frame. */
  #watch(withinMs: number): void {
    this.#timer?.cancel();
    const sinceMs = this.#clock.nowMs();
    const look = (): void => {
      const quietMs = this.#clock.nowMs() - Math.max(this.#lastFrameMs, sinceMs);
      if (quietMs >= withinMs) this.#failed(this.#hung());
      else this.#timer = this.#clock.after(withinMs / 4, look);
    };
    this.#timer = this.#clock.after(withinMs / 4, look);
  }

  #hung(): AppError {
    return cardFault('microphone', this.format.device, 'card-hung', 'it gives no sound');
  }

  #failed(fault: AppError): void {
    this.#end();
    this.#become({ state: 'down', fault });
    this.#timer = this.#clock.after(this.#backoff.nextDelayMs(), () => this.#start());
  }

  #end(): void {
    this.#timer?.cancel();
    const reader = this.#reader;
    this.#reader = undefined;
    if (reader === undefined) return;
    const listener = this.#listener;
    const closing = this.#clock.after(CLOSE_MS, () => {
      this.#mustRestart = true;
      this.#logger.error({ device: this.format.device }, 'the capture thread is stuck in the sound driver');
      listener?.stateChanged(this.#state);
    });
    reader.close(() => closing.cancel());
  }

  /** Told once: a retry that fails as the one before is no news. */
  #become(state: CardState): void {
    if (state.state === this.#state.state) return;
    this.#state = state;
    this.#listener?.stateChanged(state);
  }
}

interface ReaderListener {
  /** 10 ms. */
  samples(samples: Int16Array): void;
  fault(code: string, text: string): void;
}

/** One opened device, cut into frames of 10 ms whatever periods the card gives. */
class Reader {
  readonly #capture: AlsaCapture;
  readonly #listener: ReaderListener;
  readonly #frame: Int16Array;
  #filled = 0;
  #isClosed = false;
  #hasEnded = false;
  #ended: () => void = () => {};
  /** What is old in the coming buffer: all of it, or what follows so many samples. */
  #validSamples = Number.POSITIVE_INFINITY;

  constructor(device: string, rateHz: RateHz, listener: ReaderListener) {
    this.#listener = listener;
    this.#frame = new Int16Array(frameSamples(rateHz));
    const period = frameSamples(rateHz);
    this.#capture = new AlsaCapture({ device, rate: rateHz, channels: 1, format: 'S16_LE', periodSize: period });
    this.#capture.on('audio', (data) => this.#audio(data));
    this.#capture.on('overrun', () => {
      this.#validSamples = 0;
    });
    this.#capture.on('shortRead', (samples) => {
      this.#validSamples = Number(samples);
    });
    this.#capture.on('readError', (text) => this.#fault('card-lost', text));
    this.#capture.on('rateDeviating', (rate) => this.#fault('card-format', `it gives ${rate} Hz, not ${rateHz}`));
    // The thread ends by itself where the device can't be opened.
    this.#capture.on('error', (error) => {
      this.#fault('card-absent', error.message.trim());
      this.#end();
    });
    this.#capture.on('close', () => {
      this.#fault('card-lost', 'the capture ended');
      this.#end();
    });
  }

  /** @param ended once the thread has come back from the driver; perhaps never */
  close(ended: () => void): void {
    this.#isClosed = true;
    this.#ended = ended;
    if (this.#hasEnded) ended();
    else this.#capture.close();
  }

  #audio(data: Uint8Array): void {
    if (this.#isClosed) return;
    const samples = new Int16Array(data.buffer, data.byteOffset, Math.min(data.byteLength >> 1, this.#validSamples));
    this.#validSamples = Number.POSITIVE_INFINITY;
    for (let at = 0; at < samples.length; ) {
      const taken = Math.min(samples.length - at, this.#frame.length - this.#filled);
      this.#frame.set(samples.subarray(at, at + taken), this.#filled);
      this.#filled += taken;
      at += taken;
      if (this.#filled < this.#frame.length) return;
      this.#filled = 0;
      this.#listener.samples(this.#frame.slice());
    }
  }

  #fault(code: string, text: string): void {
    if (this.#isClosed) return;
    this.#listener.fault(code, text);
  }

  #end(): void {
    this.#hasEnded = true;
    this.#ended();
  }
}
