import { randomUUID } from 'node:crypto';
import { speak } from '../adapters/speech/espeak.js';
import type { Clock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { CLIP_RATE_HZ, type ClipEnd, type ClipPlace, piecesOf } from '../protocol/clip-api.js';
import type { FlowsSound } from '../protocol/flows-api.js';
import type { CallControl } from './call-control.js';
import type { EngineClient } from './engine-client.js';

/** Of full scale: as loud as ringback. */
const TONE_LEVEL = 0.2;
/** Tones begin and end softly, so that nothing clicks. */
const RAMP_MS = 5;
/** Texts that are being made into speech at once, each by a child of its own. */
const MOST_SPOKEN = 2;
const MOST_OWNED = 16;

export interface FlowSoundsOptions {
  readonly engine: Pick<EngineClient, 'loadClip' | 'playClip' | 'stopClip'>;
  readonly calls: Pick<CallControl, 'current'>;
  readonly clock: Clock;
  readonly logger: Logger;
  /** espeak-ng, unless another is given. */
  readonly speak?: typeof speak;
}

/** Who had a sound played: told when it is over. */
export interface SoundOwner {
  soundEnded(playId: string, reason: ClipEnd): void;
}

/** What flows have played: recorded, made here (a tone), or spoken; each handed to the media process piece by piece. */
export class FlowSounds {
  readonly #options: FlowSoundsOptions;
  readonly #owners = new Map<string, SoundOwner>();
  /** Of those, what plays or is about to. */
  readonly #playing = new Set<string>();
  #spoken = 0;

  constructor(options: FlowSoundsOptions) {
    this.#options = options;
  }

  /** A piece of a recorded sound. @throws AppError `sound-unknown` for another's, `sound-plays`, and what the media process says */
  async load(owner: SoundOwner, soundId: string, pcm: string): Promise<{ durationMs: number }> {
    this.#own(owner, soundId);
    this.#mustNotPlay(soundId);
    try {
      return await this.#options.engine.loadClip(soundId, pcm);
    } catch (error) {
      // Nobody plays a part of it: it takes no place any more.
      this.#forget(soundId);
      throw error;
    }
  }

  /**
   * @returns once it plays
   * @throws AppError `no-call`, `sound-unknown`, `sound-plays`, `sounds-many`; what `speak` and the media process say
   */
  async play(
    owner: SoundOwner,
    to: ClipPlace,
    sound: FlowsSound,
  ): Promise<{ readonly playId: string; readonly durationMs: number }> {
    if (to === 'call' && this.#options.calls.current?.state !== 'answered') {
      throw new AppError('no-call', 'there is no answered call at this station');
    }
    const playId = sound.kind === 'pcm' ? sound.soundId : randomUUID();
    if (sound.kind === 'pcm' && this.#owners.get(playId) !== owner) {
      throw new AppError('sound-unknown', 'nothing of this sound was loaded');
    }
    this.#own(owner, playId);
    this.#mustNotPlay(playId);
    this.#playing.add(playId);
    try {
      if (sound.kind !== 'pcm') await this.#hand(playId, sound);
      // It took a while; nobody may be there any more.
      if (this.#owners.get(playId) !== owner) throw new AppError('sound-unknown', 'this sound was ended meanwhile');
      const { durationMs } = await this.#options.engine.playClip(playId, to);
      return { playId, durationMs };
    } catch (error) {
      this.#forget(playId);
      throw error;
    }
  }

  /** @throws AppError `sound-unknown` for another's */
  async stop(owner: SoundOwner, playId: string): Promise<void> {
    if (!this.#owners.has(playId)) return;
    this.#own(owner, playId);
    await this.#options.engine.stopClip(playId);
    // Of one that was loaded and not played nobody tells the end.
    this.ended(playId, 'stopped');
  }

  ended(playId: string, reason: ClipEnd): void {
    const owner = this.#owners.get(playId);
    this.#owners.delete(playId);
    this.#playing.delete(playId);
    owner?.soundEnded(playId, reason);
  }

  /** The media process is gone, and all sounds with it. */
  mediaLost(): void {
    for (const playId of [...this.#owners.keys()]) this.ended(playId, 'media-lost');
  }

  /** Who had them played has left: they end. */
  left(owner: SoundOwner): void {
    for (const [playId, whose] of [...this.#owners]) {
      if (whose === owner) this.#forget(playId);
    }
  }

  #forget(playId: string): void {
    this.#owners.delete(playId);
    this.#playing.delete(playId);
    void this.#options.engine.stopClip(playId);
  }

  /** What plays is one sound, to which nothing is added, and which plays once; a second order must not end it. */
  #mustNotPlay(playId: string): void {
    if (!this.#playing.has(playId)) return;
    throw new AppError('sound-plays', 'this sound plays already', { remedy: 'Load it anew under another id' });
  }

  #own(owner: SoundOwner, playId: string): void {
    const whose = this.#owners.get(playId);
    if (whose !== undefined && whose !== owner) throw new AppError('sound-unknown', "this sound is another client's");
    if (whose === undefined && this.#owners.size >= MOST_OWNED) {
      throw new AppError('sounds-many', `${MOST_OWNED} sounds are there already`, { remedy: 'Stop one first' });
    }
    this.#owners.set(playId, owner);
  }

  async #hand(playId: string, sound: Exclude<FlowsSound, { kind: 'pcm' }>): Promise<void> {
    const samples = sound.kind === 'tone' ? toneOf(sound) : await this.#speech(sound);
    for (const piece of piecesOf(samples)) await this.#options.engine.loadClip(playId, piece);
  }

  async #speech({ text, voice }: Extract<FlowsSound, { kind: 'text' }>): Promise<Int16Array> {
    const { logger, clock } = this.#options;
    if (this.#spoken >= MOST_SPOKEN) {
      throw new AppError('sounds-many', `${MOST_SPOKEN} texts are being spoken already`, { remedy: 'Wait for them' });
    }
    this.#spoken += 1;
    const sinceMs = clock.nowMs();
    try {
      const samples = await (this.#options.speak ?? speak)({ text, voice }, CLIP_RATE_HZ);
      // Never the text: it may name who lives here.
      logger.info({ voice, characters: text.length, tookMs: Math.round(clock.nowMs() - sinceMs) }, 'a text was spoken');
      return samples;
    } catch (error) {
      logger.warn({ voice, error: errorText(error) }, 'a text could not be spoken');
      throw error;
    } finally {
      this.#spoken -= 1;
    }
  }
}

function toneOf({ hz, durationMs }: Extract<FlowsSound, { kind: 'tone' }>): Int16Array {
  const samples = new Int16Array(Math.round((durationMs * CLIP_RATE_HZ) / 1_000));
  const ramp = (RAMP_MS * CLIP_RATE_HZ) / 1_000;
  for (let i = 0; i < samples.length; i++) {
    const level = TONE_LEVEL * Math.min(1, i / ramp, (samples.length - i) / ramp);
    samples[i] = Math.round(32_767 * level * Math.sin((2 * Math.PI * hz * i) / CLIP_RATE_HZ));
  }
  return samples;
}
