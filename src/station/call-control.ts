import { randomUUID } from 'node:crypto';
import {
  type Call,
  type CallEffect,
  type CallEvent,
  type CallTone,
  judgeInvite,
  placeCall,
  receiveInvite,
  resumeCall,
  type Transition,
  transition,
} from '../call/call.js';
import { readPeer } from '../call/negotiate.js';
import type { AudioDescription, MediaPath } from '../call/sdp.js';
import type { Config } from '../config/schema.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { CallMessage } from '../protocol/call-message.js';
import type { SessionFigures } from '../protocol/engine-api.js';
import type { PathChoice } from '../protocol/flows-api.js';
import type { CallView } from '../protocol/station-api.js';
import { type JournalEntry, keep, type TakenUp } from './call-journal.js';
import { type Line, viewOf } from './call-line.js';
import { CallMedia } from './call-media.js';
import type { EngineClient } from './engine-client.js';
import { type CallMessageContent, contentOf, type Signalling } from './signalling.js';

/** The messages that make, change and end calls; the door's have their own control. */
export type ControlMessage = Exclude<CallMessage, { type: `door-${string}` }>;

const MOST_LINES = 16;
const BUSY_TONE_MS = 1_500;

export interface CallControlOptions {
  readonly config: Config;
  readonly signalling: Signalling;
  readonly engine: EngineClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What an end of this process must not lose of the call that lives; null when none does. */
  readonly onKeep: (entry: JournalEntry | null) => void;
  /** A call is new, or in another state; `figures` resolve when an ended call's media is closed (null before). */
  readonly onChange: (call: Call, view: CallView, figures: Promise<SessionFigures | null>) => void;
}

/** Drives the calls of this station, one at a time: what the state machine says, it does by MQTT, media process and clock. */
export class CallControl {
  /** What was refused or ignored, by why. */
  readonly refused = new Counters<string>();
  readonly #options: CallControlOptions;
  readonly #lines = new Map<string, Line>();
  readonly #times: { readonly ringMs: number; readonly talkMs: number };
  #toneEnd: Timer | undefined;

  constructor(options: CallControlOptions) {
    this.#options = options;
    const { ringTimeoutMs: ringMs, talkTimeoutMs: talkMs } = options.config.call;
    this.#times = { ringMs, talkMs };
  }

  /** The call that lives, if one does. */
  get current(): Call | undefined {
    return this.#current()?.call;
  }

  /** The calls of late, newest last. */
  views(): CallView[] {
    return [...this.#lines.values()].map(viewOf);
  }

  /** @throws AppError `line-busy` while another call lives */
  place(target: string): string {
    const current = this.current;
    if (current !== undefined) {
      throw new AppError('line-busy', `a call with ${current.peerName} lives`, { remedy: 'Hang it up first' });
    }
    const callId = randomUUID();
    this.#add(placeCall({ callId, peer: target, peerName: target, ...this.#times }));
    return callId;
  }

  /** Takes up a call of the last run, whose media session is still there. */
  resume(taken: TakenUp): void {
    const { callId, nextSeq, local, muted, sinceMs } = taken;
    const talkedMs = Math.max(0, this.#options.clock.wallMs() - sinceMs);
    const { ringMs, talkMs } = this.#times;
    const talkLeftMs = Math.max(0, talkMs - talkedMs);
    this.#options.signalling.resume(callId, nextSeq);
    this.#add(resumeCall({ ...taken, ringMs, talkMs, talkLeftMs }), { local, muted, sinceMs });
  }

  /** @throws AppError `no-call` where none rings here */
  answer(callId?: string): string {
    return this.#local(callId, { on: 'answer' }, (call) => call.state === 'ringing-in');
  }

  /** @throws AppError `no-call` where none rings here */
  reject(callId?: string): string {
    return this.#local(callId, { on: 'reject' }, (call) => call.state === 'ringing-in');
  }

  /** @throws AppError `no-call` where none lives */
  hangUp(callId?: string): string {
    return this.#local(callId, { on: 'hang-up' }, () => true);
  }

  /** Keeps the microphone from the call that lives, or gives it back. @throws AppError `no-call` where none lives */
  mute(muted: boolean): string {
    const line = this.#current();
    if (line === undefined) throw new AppError('no-call', 'there is no call here to mute');
    line.media.mute(muted);
    this.#keep();
    this.#options.logger.info({ callId: line.call.callId, muted }, muted ? 'muted' : 'no longer muted');
    return line.call.callId;
  }

  /** Keeps the call that is talked in to one path, at both ends, or lets it find its own. @throws AppError `no-call`, `path-unavailable` */
  preferPath(path: PathChoice): string {
    const line = this.#current();
    if (line?.call.state !== 'answered') throw new AppError('no-call', 'there is no answered call at this station');
    line.media.prefer(path);
    return line.call.callId;
  }

  /** Of an ended call. */
  async figures(callId: string): Promise<SessionFigures | null> {
    return (await this.#lines.get(callId)?.figures) ?? null;
  }

  /** A message of the peer, read and checked for form. Never throws. */
  take(message: ControlMessage): void {
    if (message.type === 'invite') {
      this.#invited(message);
      return;
    }
    const line = this.#lines.get(message.callId);
    if (line === undefined) {
      this.refused.count('unknown-call');
      // The peer believes in a call that this station has forgotten.
      if (message.type === 'answer' || message.type === 'update') {
        this.#say(message.callId, message.from, { type: 'bye', reason: 'no-such-call' });
      }
      return;
    }
    if (!this.#isPeer(line, message)) {
      this.refused.count('wrong-peer');
      return;
    }
    const { id, seq } = message;
    switch (message.type) {
      case 'ringing':
        this.#dispatch(line, { on: 'peer-ringing', id, seq });
        return;
      case 'reject':
      case 'bye':
        this.#dispatch(line, { on: `peer-${message.type}`, id, seq, reason: message.reason });
        return;
      case 'answer':
      case 'update': {
        const remote = this.#read(message.sdp, message.callId);
        if (remote !== undefined) {
          this.#dispatch(line, { on: `peer-${message.type}`, id, seq, remote });
          return;
        }
        if (message.type === 'answer') this.#dispatch(line, { on: 'media-failed' });
      }
    }
  }

  /** Something happened to the media or the peer of the call that lives. */
  happened(event: Extract<CallEvent, { on: 'media-lost' | 'peer-lost' }>): void {
    const line = this.#current();
    if (line === undefined || (event.on === 'media-lost' && line.call.media === 'none')) return;
    this.#dispatch(line, event);
  }

  /** The media of a call has moved to another path: the peer is told (`update`), so that it follows where it must. */
  moved(callId: string, path: MediaPath, reason: string): void {
    const line = this.#lines.get(callId);
    const local = line?.call.local;
    if (line?.call.state !== 'answered' || local === undefined || local === null) return;
    this.#options.logger.info(
      { callId, path, reason },
      path === 'mqtt' ? 'speech has left UDP' : 'speech is back on UDP',
    );
    line.media.moved(local, path);
  }

  /** This machine has become too slow for Opus, or is no longer. */
  slow(): void {
    for (const { call, media } of this.#lines.values()) if (call.state === 'answered') media.followMachine();
  }

  heard(callId: string): void {
    const line = this.#lines.get(callId);
    if (line !== undefined) this.#dispatch(line, { on: 'media-heard' });
  }

  /** Ends what lives; resolves when its media is closed. */
  async close(reason: string): Promise<void> {
    const line = this.#current();
    if (line !== undefined) this.#dispatch(line, { on: 'hang-up', reason });
    this.#toneEnd?.cancel();
    this.#options.engine.setTone(null);
    await line?.figures;
  }

  #invited(message: Extract<ControlMessage, { type: 'invite' }>): void {
    const { callId, from, id, seq } = message;
    const current = this.#current();
    const verdict = this.#lines.has(callId)
      ? 'known'
      : judgeInvite(current?.call, this.#options.config.station.id, message);
    if (verdict === 'known') {
      this.refused.count('duplicate');
      return;
    }
    if (verdict === 'busy') {
      this.refused.count('busy');
      this.#say(callId, from, { type: 'reject', reason: 'busy' });
      return;
    }
    const remote = this.#read(message.sdp, callId);
    if (remote === undefined) {
      this.#say(callId, from, { type: 'reject', reason: 'bad-offer' });
      return;
    }
    if (verdict === 'yield' && current !== undefined) this.#dispatch(current, { on: 'hang-up', reason: 'glare' });
    const peerName = message.fromName.replaceAll(/\p{C}/gu, '').trim() || from;
    const talkMs = this.#options.config.call.talkTimeoutMs;
    this.#add(receiveInvite({ callId, peer: from, peerName, ringMs: message.ringMs, talkMs, remote, id, seq }));
  }

  #add(
    first: Transition,
    resumed?: { readonly local: AudioDescription; readonly muted: boolean; readonly sinceMs: number },
  ): void {
    const { callId } = first.call;
    const media = new CallMedia({
      engine: this.#options.engine,
      config: this.#options.config,
      callId,
      logger: this.#options.logger,
      resumed,
      onOpened: (local) => this.#dispatch(line, { on: 'media-opened', local }),
      onFailed: () => this.#dispatch(line, { on: 'media-failed' }),
    });
    const line: Line = {
      call: first.call,
      media,
      timer: undefined,
      sinceMs: resumed?.sinceMs ?? this.#options.clock.wallMs(),
      isPeerKnown: first.call.direction === 'in' || resumed !== undefined,
      figures: Promise.resolve(null),
    };
    this.#lines.set(callId, line);
    for (const [oldId, old] of this.#lines) {
      if (this.#lines.size <= MOST_LINES) break;
      if (old.call.state !== 'ended') continue;
      this.#lines.delete(oldId);
      this.#options.signalling.forget(oldId);
    }
    this.#run(line, first.effects);
    this.#keep();
    this.#changed(line);
  }

  #dispatch(line: Line, event: CallEvent): void {
    const before = line.call;
    const { call, effects, ignored } = transition(before, event);
    line.call = call;
    if (ignored !== undefined) {
      this.refused.count(ignored);
      this.#options.logger.debug({ callId: call.callId, event: event.on, state: call.state, ignored }, 'ignored');
    }
    if (call.state !== before.state) line.sinceMs = this.#options.clock.wallMs();
    this.#run(line, effects);
    if (call !== before) this.#keep();
    if (call.state !== before.state) this.#changed(line);
  }

  #run(line: Line, effects: readonly CallEffect[]): void {
    for (const effect of effects) this.#do(line, effect);
  }

  #do(line: Line, effect: CallEffect): void {
    const { call, media } = line;
    switch (effect.do) {
      case 'send':
        this.#send(line, contentOf(effect.message, this.#options.config.station.name));
        return;
      case 'open-media':
        media.open(call.direction === 'in' ? call.remote : null, call.local !== null);
        return;
      case 'start-media':
        media.start(effect.local, effect.remote);
        return;
      case 'close-media':
        line.figures = media.close();
        return;
      case 'tone':
        this.#tone(effect.tone);
        return;
      case 'arm':
        line.timer?.cancel();
        line.timer = this.#options.clock.after(effect.afterMs, () =>
          this.#dispatch(line, { on: 'timeout', timer: effect.timer }),
        );
        return;
      case 'disarm':
        line.timer?.cancel();
    }
  }

  #keep(): void {
    const line = this.#current();
    if (line === undefined) {
      this.#options.onKeep(null);
      return;
    }
    const { call, sinceMs, media } = line;
    const nextSeq = this.#options.signalling.sentIn(call.callId);
    this.#options.onKeep(keep(call, { sinceMs, nextSeq, muted: media.isMuted }));
  }

  #tone(tone: CallTone | null): void {
    this.#toneEnd?.cancel();
    this.#options.engine.setTone(tone);
    if (tone === 'busy')
      this.#toneEnd = this.#options.clock.after(BUSY_TONE_MS, () => this.#options.engine.setTone(null));
  }

  #send(line: Line, content: CallMessageContent): void {
    const { callId, peer } = line.call;
    this.#options.signalling.send(callId, peer, content).catch((error: unknown) => {
      this.refused.count('not-sent');
      this.#options.logger.warn({ callId, type: content.type, error: errorText(error) }, 'a call message was not sent');
      if (['invite', 'ringing', 'answer'].includes(content.type)) this.#dispatch(line, { on: 'undeliverable' });
    });
  }

  /** Outside of any call that this station knows. */
  #say(callId: string, to: string, content: CallMessageContent): void {
    this.#options.signalling
      .send(callId, to, content)
      .catch(() => this.refused.count('not-sent'))
      .finally(() => this.#options.signalling.forget(callId));
  }

  #read(sdp: string, callId: string): AudioDescription | undefined {
    const parsed = readPeer(sdp, this.#options.config.media.encryption);
    if (parsed.ok) return parsed.value;
    this.refused.count(`sdp-${parsed.fault}`);
    this.#options.logger.warn({ callId, fault: parsed.fault }, `the peer's session description: ${parsed.text}`);
    return undefined;
  }

  /** The switchboard may refuse in the place of a callee, and end a call with another site; else only the one we called, or who called us, may speak. */
  #isPeer(line: Line, message: ControlMessage): boolean {
    if (message.from === 'switchboard') return message.type === 'reject' || message.type === 'bye';
    if (line.isPeerKnown) return message.from === line.call.peer;
    line.isPeerKnown = true;
    line.call = { ...line.call, peer: message.from };
    return true;
  }

  #local(callId: string | undefined, event: CallEvent, fits: (call: Call) => boolean): string {
    const line = this.#current();
    if (line === undefined || !fits(line.call) || (callId !== undefined && callId !== line.call.callId)) {
      const what = callId === undefined ? 'no call' : `no call ${callId}`;
      const lacks = event.on === 'hang-up' ? 'is there to hang up' : 'rings';
      throw new AppError('no-call', `${what} ${lacks} at this station`);
    }
    this.#dispatch(line, event);
    return line.call.callId;
  }

  #current(): Line | undefined {
    return [...this.#lines.values()].findLast((line) => line.call.state !== 'ended');
  }

  #changed(line: Line): void {
    const { callId, state, peer, direction, reason } = line.call;
    this.#options.logger.info(
      { callId, state, peer, direction, ...(reason === null ? {} : { reason }) },
      `call ${state}`,
    );
    this.#options.onChange(line.call, viewOf(line), line.figures);
  }
}
