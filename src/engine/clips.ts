import { type AudioFrame, FRAME_MS, frameSamples, type RateHz } from '../audio/frame.js';
import type { Clock, Timer } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { Clip } from '../media/clip.js';
import type { FrameSource } from '../media/frame-source.js';
import type { SourceVolume } from '../media/mixer.js';
import { type ClipEnd, type ClipPlace, MOST_CLIP_MS, samplesOf } from '../protocol/clip-api.js';

/** Loaded and not yet played; each of the longest takes 2 MB. */
const MOST_WAITING = 4;
/** After its length, and as much as this, what has not ended never will: its card is down. */
const PATIENCE_MS = 2_000;
/** For so long without a frame of the microphone, a sound goes on by this machine's clock. */
const MICROPHONE_AWAY_MS = 60;
const MOST_BEHIND_MS = 200;

export interface ClipsOptions {
  readonly rateHz: RateHz;
  readonly clock: Clock;
  readonly mixer: { add(source: FrameSource, volume: SourceVolume): void; remove(source: FrameSource): void };
  /** As `Sessions.frame`. */
  send(frame: AudioFrame, alone: AudioFrame | null): boolean;
  ended(clipId: string, reason: ClipEnd): void;
}

interface Playing {
  readonly clipId: string;
  readonly clip: Clip;
  readonly deadline: Timer;
  readonly source: FrameSource | null;
}

/**
 * Sounds that are played once, one at a time in each place; a new one replaces what plays there.
 *
 * ```
 *   clip.load ─▶ Clip ─ clip.play ─┬─ speaker ──▶ mixer, at the speaker's pace
 *                                  └─ call ─────▶ mixed with the microphone, at its pace; where it is closed (muted) or
 *                                                 down, alone, by this machine's clock
 * ```
 */
export class Clips {
  readonly #options: ClipsOptions;
  readonly #waiting = new Map<string, Clip>();
  readonly #playing: Record<ClipPlace, Playing | null> = { speaker: null, call: null };
  readonly #mixed: Int16Array;
  #microphoneAtMs = Number.NEGATIVE_INFINITY;
  #nextAtMs = 0;
  #pump: Timer | null = null;

  constructor(options: ClipsOptions) {
    this.#options = options;
    this.#mixed = new Int16Array(frameSamples(options.rateHz));
  }

  /** Adds a piece. @returns how long it is now @throws AppError `clips-full`, `clip-too-long` */
  load(clipId: string, piece: string): { durationMs: number } {
    let clip = this.#waiting.get(clipId);
    if (clip === undefined) {
      if (this.#waiting.size >= MOST_WAITING) {
        throw new AppError('clips-full', `${MOST_WAITING} sounds wait to be played`, { remedy: 'Play or stop one' });
      }
      clip = new Clip(this.#options.rateHz);
      this.#waiting.set(clipId, clip);
    }
    clip.append(samplesOf(piece));
    if (clip.durationMs > MOST_CLIP_MS) {
      this.#waiting.delete(clipId);
      throw new AppError('clip-too-long', `a sound is longer than ${MOST_CLIP_MS / 1_000} s`);
    }
    return { durationMs: clip.durationMs };
  }

  /** @throws AppError `clip-unknown` where nothing of it is loaded */
  play(clipId: string, to: ClipPlace): { durationMs: number } {
    const { clock, mixer } = this.#options;
    const clip = this.#waiting.get(clipId);
    if (clip === undefined) throw new AppError('clip-unknown', `nothing is loaded of the sound ${clipId}`);
    this.#waiting.delete(clipId);
    this.#end(to, 'replaced');
    const deadline = clock.after(clip.durationMs + PATIENCE_MS, () => this.#end(to, 'not-played'));
    const source = to === 'speaker' ? { pull: () => this.#next('speaker') } : null;
    this.#playing[to] = { clipId, clip, deadline, source };
    if (source !== null) mixer.add(source, 'as-it-is');
    else this.#startPump();
    return { durationMs: clip.durationMs };
  }

  get isOnSpeaker(): boolean {
    return this.#playing.speaker !== null;
  }

  stop(clipId: string): void {
    this.#waiting.delete(clipId);
    for (const place of ['speaker', 'call'] as const) {
      if (this.#playing[place]?.clipId === clipId) this.#end(place, 'stopped');
    }
  }

  /** All of them: who had them played is gone. */
  stopAll(): void {
    this.#waiting.clear();
    for (const place of ['speaker', 'call'] as const) this.#end(place, 'stopped');
  }

  /** 10 ms of the microphone, to be sent with what plays into the call. */
  frame(frame: AudioFrame): void {
    this.#microphoneAtMs = this.#options.clock.nowMs();
    const samples = this.#playing.call === null ? null : this.#next('call');
    if (samples === null) {
      this.#options.send(frame, null);
      return;
    }
    for (let i = 0; i < this.#mixed.length; i++) {
      this.#mixed[i] = Math.max(-32_768, Math.min(32_767, (frame.samples[i] ?? 0) + (samples[i] ?? 0)));
    }
    this.#send({ ...frame, samples: this.#mixed }, { ...frame, samples });
  }

  #next(place: ClipPlace): Int16Array | null {
    const samples = this.#playing[place]?.clip.next() ?? null;
    if (samples === null) this.#end(place, 'played');
    return samples;
  }

  #send(frame: AudioFrame, alone: AudioFrame): void {
    if (!this.#options.send(frame, alone)) this.#end('call', 'no-call');
  }

  #startPump(): void {
    const { clock } = this.#options;
    this.#nextAtMs = clock.nowMs();
    const turn = (): void => {
      this.#pump = clock.after(FRAME_MS, turn);
      this.#goOn(clock.nowMs());
    };
    this.#pump?.cancel();
    turn();
  }

  /** The microphone paces what is sent; where it doesn't, this does. */
  #goOn(nowMs: number): void {
    if (nowMs - this.#microphoneAtMs < MICROPHONE_AWAY_MS || nowMs - this.#nextAtMs > MOST_BEHIND_MS) {
      this.#nextAtMs = nowMs;
      if (nowMs - this.#microphoneAtMs < MICROPHONE_AWAY_MS) return;
    }
    for (; this.#nextAtMs <= nowMs && this.#playing.call !== null; this.#nextAtMs += FRAME_MS) {
      const samples = this.#next('call');
      if (samples === null) return;
      const frame = { samples, rateHz: this.#options.rateHz, capturedAtMs: this.#nextAtMs };
      this.#send(frame, frame);
    }
  }

  #end(place: ClipPlace, reason: ClipEnd): void {
    const playing = this.#playing[place];
    if (playing === null) return;
    this.#playing[place] = null;
    playing.deadline.cancel();
    if (playing.source !== null) this.#options.mixer.remove(playing.source);
    if (place === 'call') {
      this.#pump?.cancel();
      this.#pump = null;
    }
    this.#options.ended(playing.clipId, reason);
  }
}
