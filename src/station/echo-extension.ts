import { randomUUID } from 'node:crypto';
import { readPeer } from '../call/negotiate.js';
import { type AudioDescription, type MediaPath, writeSdp } from '../call/sdp.js';
import type { Config } from '../config/schema.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import type { Logger } from '../core/logger.js';
import type { CallMessage } from '../protocol/call-message.js';
import { CallMedia } from './call-media.js';
import type { EngineClient } from './engine-client.js';
import type { MediaLeg } from './media-switch.js';
import type { CallMessageContent } from './signalling.js';

const MOST_CALLS = 2;
const MOST_MS = 20_000;

interface EchoCall {
  readonly callId: string;
  readonly sessionId: string;
  readonly peer: string;
  readonly media: CallMedia;
  remote: AudioDescription;
  local: AudioDescription | null;
  isAnswered: boolean;
  seq: number;
  readonly timer: Timer;
}

export interface EchoExtensionOptions {
  readonly id: string;
  readonly config: Config;
  readonly engine: EngineClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Says something in its name, to be routed. */
  readonly send: (message: CallMessage) => void;
}

/**
 * The number of a site that answers at once and sends back what it hears: a session of the site host's media process without cards,
 * by UDP or inside MQTT as any call's. Two calls at a time, 20 s each.
 */
export class EchoExtension {
  /** What was refused or ignored, by why. */
  readonly refused = new Counters<'busy' | 'bad-offer' | 'media-failed' | 'unknown-call' | 'wrong-peer'>();
  readonly #options: EchoExtensionOptions;
  readonly #calls = new Map<string, EchoCall>();

  /** @param options.id its own, in the directory */
  constructor(options: EchoExtensionOptions) {
    this.#options = options;
  }

  /** Calls that live. */
  get calls(): number {
    return this.#calls.size;
  }

  /** A message to it, which has been routed. Never throws. */
  take(message: CallMessage): void {
    if (message.type === 'invite') {
      this.#invited(message);
      return;
    }
    const call = this.#calls.get(message.callId);
    if (call === undefined) {
      this.refused.count('unknown-call');
      if (message.type === 'update')
        this.#say(message.callId, message.from, 0, { type: 'bye', reason: 'no-such-call' });
    } else if (message.from !== call.peer) {
      this.refused.count('wrong-peer');
    } else if (message.type === 'bye' || message.type === 'reject') {
      this.#end(call, null);
    } else if (message.type === 'update') {
      const remote = this.#read(message.sdp);
      if (remote !== null) this.#follow(call, remote);
    }
  }

  /** Of a call to it, the end that is here. */
  legOf(callId: string): MediaLeg | undefined {
    const call = this.#calls.get(callId);
    return call === undefined ? undefined : { station: this.#options.config.station.id, sessionId: call.sessionId };
  }

  /** Of a call to it, the other end; undefined for a session that is none of its own. */
  callerOf({ station, sessionId }: MediaLeg): MediaLeg | undefined {
    const call = this.#ofSession(sessionId);
    if (call === undefined || station !== this.#options.config.station.id) return undefined;
    return { station: call.peer, sessionId: call.callId };
  }

  /** The media process has moved a session to another path: the caller is told, so that it follows where it must. */
  moved(sessionId: string, path: MediaPath): void {
    const call = this.#ofSession(sessionId);
    if (call?.isAnswered === true && call.local !== null) call.media.moved(call.local, path);
  }

  /** The media process is gone, and its sessions with it. */
  mediaLost(): void {
    for (const call of [...this.#calls.values()]) this.#end(call, 'media-failed');
  }

  close(): void {
    for (const call of [...this.#calls.values()]) this.#end(call, 'station-stopped');
  }

  #invited({ callId, from, sdp }: Extract<CallMessage, { type: 'invite' }>): void {
    if (this.#calls.has(callId)) return;
    if (this.#calls.size >= MOST_CALLS) {
      this.refused.count('busy');
      this.#say(callId, from, 0, { type: 'reject', reason: 'busy' });
      return;
    }
    const remote = this.#read(sdp);
    if (remote === null) {
      this.#say(callId, from, 0, { type: 'reject', reason: 'bad-offer' });
      return;
    }
    const { config, engine, clock, logger } = this.#options;
    // An id of its own: where the site host calls its own echo, the other end's session is in the same process.
    const sessionId = randomUUID();
    const media = new CallMedia({
      engine,
      config,
      callId: sessionId,
      end: 'echo',
      logger,
      onOpened: (local) => this.#opened(call, local),
      onFailed: () => {
        this.refused.count('media-failed');
        this.#end(call, 'media-failed');
      },
      resumed: undefined,
    });
    const timer = clock.after(MOST_MS, () => this.#end(call, 'talk-timeout'));
    const call: EchoCall = {
      ...{ callId, sessionId, peer: from, media, remote, timer },
      ...{ local: null, isAnswered: false, seq: 0 },
    };
    this.#calls.set(callId, call);
    logger.info({ callId, from }, 'a call to the echo');
    media.open(remote, false);
  }

  #opened(call: EchoCall, local: AudioDescription): void {
    if (this.#calls.get(call.callId) !== call) return;
    const type = call.isAnswered ? 'update' : 'answer';
    call.isAnswered = true;
    call.local = local;
    this.#tell(call, { type, sdp: writeSdp(local) });
    call.media.start(local, call.remote);
  }

  #ofSession(sessionId: string): EchoCall | undefined {
    return [...this.#calls.values()].find((call) => call.sessionId === sessionId);
  }

  #follow(call: EchoCall, remote: AudioDescription): void {
    call.remote = remote;
    call.media.follow(remote);
  }

  #end(call: EchoCall, reason: string | null): void {
    if (!this.#calls.delete(call.callId)) return;
    call.timer.cancel();
    if (reason !== null) this.#tell(call, { type: call.isAnswered ? 'bye' : 'reject', reason });
    void call.media.close();
  }

  #read(sdp: string): AudioDescription | null {
    const parsed = readPeer(sdp, this.#options.config.media.encryption);
    if (parsed.ok) return parsed.value;
    this.refused.count('bad-offer');
    return null;
  }

  #tell(call: EchoCall, content: CallMessageContent): void {
    this.#say(call.callId, call.peer, call.seq, content);
    call.seq += 1;
  }

  #say(callId: string, to: string, seq: number, content: CallMessageContent): void {
    const { id, send } = this.#options;
    send({ v: 1, id: randomUUID(), seq, callId, from: id, to, ...content } as CallMessage);
  }
}
