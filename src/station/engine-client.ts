import type { z } from 'zod';
import { LastingRpc } from '../adapters/sockets/lasting-rpc.js';
import type { RpcClient } from '../adapters/sockets/rpc.js';
import { Backoff } from '../core/backoff.js';
import type { Clock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { ClipEnd, ClipPlace } from '../protocol/clip-api.js';
import {
  type EngineStatus,
  engineNotifications,
  engineRequests,
  type loopMeasure,
  type MediaPath,
  type MqttIdentity,
  type SessionFigures,
  type sessionOpen,
  type sessionStart,
  type tapOpen,
} from '../protocol/engine-api.js';
import type { QualityReport } from '../protocol/flows-api.js';
import type { LoopMeasurement, ProbeResult } from '../protocol/selftest.js';

export type OpenedSession = z.output<typeof sessionOpen.result>;
export type SessionEnd = z.output<typeof sessionOpen.params>['end'];
export type TapOrder = z.output<typeof tapOpen.params>;
export type Tone = 'bell' | 'ringback' | 'busy';

export interface EngineEvents {
  /** The microphone was opened or closed; `false` also when the media process is gone. */
  onCapture(open: boolean): void;
  onHeard(sessionId: string, afterMs: number): void;
  onSilent(sessionId: string, silent: boolean): void;
  /** `wantsG711` has changed. */
  onSlow(): void;
  /** The session's packets take another path from now on. */
  onMoved(sessionId: string, path: MediaPath, reason: string): void;
  /** Once a second of a session that is started. */
  onQuality(report: QualityReport): void;
  /** The far end pressed a digit of a telephone. */
  onDigit(sessionId: string, digit: string, durationMs: number): void;
  /** A sound that was played is over. */
  onClipEnded(clipId: string, reason: ClipEnd): void;
  /** Lines of its log, while that is followed. */
  onLog(lines: readonly string[]): void;
  /** The media process is gone, and its sessions with it. */
  onLost(): void;
}

const CALL_TIMEOUT_MS = 2_000;
/** It takes up to three seconds of sound. */
const LOOP_TIMEOUT_MS = 6_000;

/** The station's end of the media process's control socket; connects, and connects again, until `close()`. */
export class EngineClient {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #events: EngineEvents;
  readonly #link: LastingRpc<typeof engineRequests, typeof engineNotifications>;
  readonly #identity: MqttIdentity | null;
  readonly #waiting = new Set<() => void>();
  /** The most that sessions may send; a session that is opened anew within its call has it too. */
  readonly #limitsBps = new Map<string, number>();
  readonly #taps = new Map<string, TapOrder>();
  #tone: Tone | null = null;
  #volumePct = 100;
  #wantsG711 = false;
  #isLogFollowed = false;
  #saidUnreachable = false;

  constructor(options: {
    path: string;
    /** Given to each media process that comes; null: media never goes inside MQTT. */
    identity: MqttIdentity | null;
    clock: Clock;
    logger: Logger;
    events: EngineEvents;
  }) {
    this.#identity = options.identity;
    this.#path = options.path;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#events = options.events;
    this.#link = new LastingRpc({
      path: options.path,
      requests: engineRequests,
      notifications: engineNotifications,
      timeoutMs: CALL_TIMEOUT_MS,
      // Each of these is silence in a call whose media process restarts, and a socket of this machine costs little to try.
      backoff: new Backoff({ firstMs: 50, mostMs: 100 }),
      clock: options.clock,
      onNotification: (name, params) => this.#take(name, params),
      onConnected: () => this.#cameUp(),
      onLost: () => this.#lost(),
      onUnreachable: (error) => this.#notYet(error),
    });
  }

  /** Whether the media process can go by MQTT. */
  get hasIdentity(): boolean {
    return this.#identity !== null;
  }

  /** The machine is too slow for Opus. */
  get wantsG711(): boolean {
    return this.#wantsG711;
  }

  /** Resolves as soon as the media process is there. @throws AppError `engine-unreachable` after `timeoutMs` */
  reached(timeoutMs: number): Promise<void> {
    if (this.#link.current !== undefined) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const done = () => {
        timer.cancel();
        this.#waiting.delete(done);
        if (this.#link.current !== undefined) resolve();
        else reject(this.#unreachable());
      };
      const timer = this.#clock.after(timeoutMs, done);
      this.#waiting.add(done);
    });
  }

  openSession(sessionId: string, end: SessionEnd = 'cards'): Promise<OpenedSession> {
    return this.#connected().call('session.open', { sessionId, end });
  }

  /** What a session that probes has heard of its signal. */
  probed(sessionId: string): Promise<ProbeResult> {
    return this.#connected().call('session.probe', { sessionId });
  }

  /** Plays the test signal, and hears it. @throws AppError `busy`, `interrupted`, `connection-closed` (as a rejection) */
  async measureLoop(how: z.input<typeof loopMeasure.params>): Promise<LoopMeasurement> {
    return this.#connected().call('loop.measure', how, { timeoutMs: LOOP_TIMEOUT_MS });
  }

  async startSession(params: z.input<typeof sessionStart.params>): Promise<void> {
    const rpc = this.#connected();
    await rpc.call('session.start', params);
    const { sessionId } = params;
    const bitrateBps = this.#limitsBps.get(sessionId);
    if (bitrateBps !== undefined) await rpc.call('session.limit', { sessionId, bitrateBps });
  }

  /** @param bitrateBps headers and copies included; null: as much as it finds good */
  async limitSession(sessionId: string, bitrateBps: number | null): Promise<void> {
    await this.#connected().call('session.limit', { sessionId, bitrateBps });
    if (bitrateBps === null) this.#limitsBps.delete(sessionId);
    else this.#limitsBps.set(sessionId, bitrateBps);
  }

  /** Has the media process end, for its supervisor to start another. */
  async restart(): Promise<void> {
    await this.#connected().call('engine.restart', {});
  }

  /** @param pcm a piece of it @returns how long the sound is now */
  loadClip(clipId: string, pcm: string): Promise<{ durationMs: number }> {
    return this.#connected().call('clip.load', { clipId, pcm });
  }

  playClip(clipId: string, to: ClipPlace): Promise<{ durationMs: number }> {
    return this.#connected().call('clip.play', { clipId, to });
  }

  /** Of a media process that is gone the sounds are, too. */
  async stopClip(clipId: string): Promise<void> {
    await this.#link.current?.call('clip.stop', { clipId }).catch(() => {});
  }

  async sendDigits(sessionId: string, digits: string, durationMs: number): Promise<void> {
    await this.#connected().call('session.dtmf', { sessionId, digits, durationMs });
  }

  /** @returns null where the media process can't say */
  async closeSession(sessionId: string): Promise<SessionFigures | null> {
    this.#limitsBps.delete(sessionId);
    try {
      return (await this.#connected().call('session.close', { sessionId })).figures;
    } catch (error) {
      this.#logger.debug({ sessionId, error: errorText(error) }, 'a session was not closed');
      return null;
    }
  }

  /** Plays a tone until another, or none (null); also on a media process that comes later. */
  setTone(tone: Tone | null): void {
    if (tone === this.#tone) return;
    this.#tone = tone;
    this.#sendTone();
  }

  /** How loud far ends are, 0 to 100; also on a media process that comes later. */
  setVolume(percent: number): void {
    this.#volumePct = percent;
    this.#sendVolume();
  }

  /**
   * Opens a tap, also on a media process that comes later.
   * @returns its SSRC; null while the media process is not there
   * @throws AppError `too-many-taps`, `socket-failed`
   */
  async openTap(order: TapOrder): Promise<number | null> {
    const isNew = !this.#taps.has(order.tapId);
    this.#taps.set(order.tapId, order);
    try {
      return (await this.#connected().call('tap.open', order)).ssrc;
    } catch (error) {
      if (error instanceof AppError && error.code === 'connection-closed') return null;
      // One that answers too late may have opened it all the same: nobody is to hear what nobody knows to be open.
      if (isNew) void this.closeTap(order.tapId);
      throw error;
    }
  }

  async closeTap(tapId: string): Promise<void> {
    this.#taps.delete(tapId);
    await this.#link.current
      ?.call('tap.close', { tapId })
      .catch((error: unknown) => this.#logger.debug({ tapId, error: errorText(error) }, 'a tap was not closed'));
  }

  /** @returns null while the media process is not there, or does not answer */
  async status(): Promise<EngineStatus | null> {
    try {
      return await this.#connected().call('engine.status', {});
    } catch {
      return null;
    }
  }

  close(): void {
    this.#link.close();
    for (const wake of [...this.#waiting]) wake();
  }

  #cameUp(): void {
    this.#saidUnreachable = false;
    this.#logger.info({}, 'connected to the media process');
    // Before all else that is asked: it is done in this order.
    this.#sendIdentity();
    if (this.#tone !== null) this.#sendTone();
    if (this.#volumePct !== 100) this.#sendVolume();
    for (const order of this.#taps.values()) this.#sendTap(order);
    if (this.#isLogFollowed) this.#sendFollow();
    for (const wake of [...this.#waiting]) wake();
  }

  #lost(): void {
    this.#logger.warn({}, 'the media process is gone; waiting for it');
    this.#events.onCapture(false);
    this.#events.onLost();
  }

  #notYet(error: unknown): void {
    if (!this.#saidUnreachable) this.#logger.warn({}, `the media process is not there yet: ${errorText(error)}`);
    this.#saidUnreachable = true;
  }

  /** Whether the media process is to hand on what it logs. */
  followLog(on: boolean): void {
    this.#isLogFollowed = on;
    this.#sendFollow();
  }

  #sendFollow(): void {
    this.#link.current
      ?.call('log.follow', { on: this.#isLogFollowed })
      .catch((error: unknown) => this.#logger.warn({ error: errorText(error) }, "media's log is not followed"));
  }

  #take<K extends keyof typeof engineNotifications>(name: K, params: z.output<(typeof engineNotifications)[K]>): void {
    if ('clipId' in params) this.#events.onClipEnded(params.clipId, params.reason);
    else if ('open' in params) this.#events.onCapture(params.open);
    else if ('afterMs' in params) this.#events.onHeard(params.sessionId, params.afterMs);
    else if ('silent' in params) this.#events.onSilent(params.sessionId, params.silent);
    else if ('digit' in params) this.#events.onDigit(params.sessionId, params.digit, params.durationMs);
    else if ('lines' in params) this.#events.onLog(params.lines);
    else if ('wantsG711' in params) this.#slow(params.wantsG711);
    else if ('quality' in params) {
      const { sessionId: callId, path, quality } = params;
      this.#events.onQuality({ callId, path, quality });
    } else if ('path' in params) this.#events.onMoved(params.sessionId, params.path, params.reason);
    else this.#logger.info({ ...params, about: name }, 'a sound card changed');
  }

  #slow(wantsG711: boolean): void {
    if (wantsG711 === this.#wantsG711) return;
    this.#wantsG711 = wantsG711;
    this.#events.onSlow();
  }

  #sendIdentity(): void {
    if (this.#identity === null) return;
    this.#link.current
      ?.call('mqtt.identity', this.#identity)
      .catch((error: unknown) => this.#logger.warn({ error: errorText(error) }, 'media has no identity for MQTT'));
  }

  #sendTone(): void {
    const rpc = this.#link.current;
    if (rpc === undefined) return;
    const sent = this.#tone === null ? rpc.call('tone.stop', {}) : rpc.call('tone.play', { tone: this.#tone });
    sent.catch((error: unknown) => this.#logger.warn({ error: errorText(error) }, 'a tone was not played'));
  }

  #sendVolume(): void {
    this.#link.current
      ?.call('playback.volume', { percent: this.#volumePct })
      .catch((error: unknown) => this.#logger.warn({ error: errorText(error) }, 'the volume was not set'));
  }

  #sendTap(order: TapOrder): void {
    this.#link.current
      ?.call('tap.open', order)
      .catch((error: unknown) => this.#logger.warn({ error: errorText(error) }, 'a tap was not opened again'));
  }

  #unreachable(): AppError {
    return new AppError('engine-unreachable', `the media process does not answer on ${this.#path}`, {
      remedy: 'See whether it runs, and its log',
    });
  }

  /** @throws AppError `connection-closed`, as for what was asked just before it went away */
  #connected(): RpcClient<typeof engineRequests> {
    if (this.#link.current === undefined) throw new AppError('connection-closed', 'the media process is not there');
    return this.#link.current;
  }
}
