import { randomUUID } from 'node:crypto';
import { readPeer } from '../call/negotiate.js';
import type { AudioDescription, MediaPath } from '../call/sdp.js';
import type { Config } from '../config/schema.js';
import type { Clock, Timer } from '../core/clock.js';
import { errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import type { CallMessage } from '../protocol/call-message.js';
import type { SessionFigures } from '../protocol/engine-api.js';
import type { ProbeResult } from '../protocol/selftest.js';
import { CallMedia } from './call-media.js';
import type { EngineClient } from './engine-client.js';
import { contentOf, type Signalling } from './signalling.js';

/** Of 5; below it most people are dissatisfied (ITU-T G.107, table B.1). */
export const LEAST_MOS = 3.1;
/** Below it some people are dissatisfied (the same table): a second look is worth its seconds. */
const SURE_MOS = 3.6;
/** As a caller waits for any word of the callee (call/call.ts). */
const ANSWER_MS = 4_000;
/** The reports of both ends have come by then. */
const LEAST_TALK_MS = 3_000;
const MOST_TALK_MS = 7_000;
/** A media process that has just started may stumble once; what is not good after this is not that. */
const MOST_UNSURE_MS = 12_000;
const ASK_EVERY_MS = 500;
const NOTHING: ProbeResult = { mos: null, correlation: 0, roundTripMs: null, levelDb: null };

export interface TestCallOutcome {
  /** `heard`, `not-heard`, or why there was no talk: `unreachable`, `unknown`, `busy`, `media-failed`, `interrupted`, … */
  readonly reason: string;
  /** From the call's first word until it was answered; null where it was not. */
  readonly setUpMs: number | null;
  readonly probe: ProbeResult;
  readonly figures: SessionFigures | null;
}

export interface TestCallOptions {
  readonly config: Config;
  readonly signalling: Signalling;
  readonly engine: EngineClient;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly target: string;
}

/**
 * One call to the echo extension, without cards: it neither rings nor lights anything, and is none of the station's calls (a
 * visitor's may come at any time). It sends the test signal and listens for it.
 */
export class TestCall {
  readonly callId = randomUUID();
  readonly done: Promise<TestCallOutcome>;
  readonly #options: TestCallOptions;
  readonly #media: CallMedia;
  #settle: (outcome: TestCallOutcome) => void = () => {};
  #peer: string | null = null;
  #local: AudioDescription | null = null;
  #timer: Timer;
  #invitedAtMs = 0;
  #answeredAtMs: number | null = null;
  #probe: ProbeResult = NOTHING;
  #isOver = false;

  constructor(options: TestCallOptions) {
    this.#options = options;
    const { engine, config, clock, logger } = options;
    this.done = new Promise((resolve) => {
      this.#settle = resolve;
    });
    this.#media = new CallMedia({
      engine,
      config,
      callId: this.callId,
      end: 'probe',
      logger,
      onOpened: (local) => this.#opened(local),
      onFailed: () => this.end('media-failed'),
      resumed: undefined,
    });
    this.#invitedAtMs = clock.nowMs();
    this.#timer = clock.after(ANSWER_MS, () => this.end('unreachable'));
    this.#media.open(null, false);
  }

  /** @returns whether the message is this call's */
  take(message: CallMessage): boolean {
    if (message.callId !== this.callId) return false;
    const isSwitchboard = message.from === 'switchboard';
    if (this.#isOver || (!isSwitchboard && this.#peer !== null && message.from !== this.#peer)) return true;
    if (message.type === 'reject' || message.type === 'bye') this.end(message.reason);
    else if ((message.type === 'answer' || message.type === 'update') && !isSwitchboard) this.#answered(message);
    return true;
  }

  /** The media process has moved the session to another path: the echo is told, so that it follows where it must. */
  moved(sessionId: string, path: MediaPath): void {
    if (sessionId !== this.callId || this.#answeredAtMs === null || this.#local === null) return;
    this.#media.moved(this.#local, path);
  }

  /** Hangs up. @param reason why; the peer is told */
  end(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#timer.cancel();
    const setUpMs = this.#answeredAtMs === null ? null : this.#answeredAtMs - this.#invitedAtMs;
    if (this.#local !== null) {
      const { signalling } = this.#options;
      this.#send({ type: 'bye', reason: 'hung-up' }).finally(() => signalling.forget(this.callId));
    }
    const probe = this.#probe;
    void this.#media.close().then((figures) => this.#settle({ reason, setUpMs, probe, figures }));
  }

  #opened(local: AudioDescription): void {
    if (this.#isOver) return;
    const isFirst = this.#local === null;
    this.#local = local;
    const message = isFirst
      ? ({ type: 'invite', local, ringMs: ANSWER_MS } as const)
      : ({ type: 'update', local } as const);
    void this.#send(contentOf(message, this.#options.config.station.name));
  }

  #answered(message: Extract<CallMessage, { type: 'answer' | 'update' }>): void {
    const { config, clock } = this.#options;
    const parsed = readPeer(message.sdp, config.media.encryption);
    if (!parsed.ok || this.#local === null) {
      this.end(parsed.ok ? 'media-failed' : parsed.fault);
      return;
    }
    this.#peer = message.from;
    this.#media.start(this.#local, parsed.value);
    if (this.#answeredAtMs !== null) return;
    this.#answeredAtMs = clock.nowMs();
    this.#timer.cancel();
    this.#listen(this.#answeredAtMs);
  }

  #listen(sinceMs: number): void {
    const { clock, engine, logger } = this.#options;
    this.#timer = clock.after(ASK_EVERY_MS, async () => {
      const heard = await engine.probed(this.callId).catch((error: unknown) => {
        logger.debug({ callId: this.callId, error: errorText(error) }, 'the test call was not asked');
        return NOTHING;
      });
      if (this.#isOver) return;
      if (heard.correlation >= this.#probe.correlation) this.#probe = heard;
      const talkedMs = clock.nowMs() - sinceMs;
      const isHeard = this.#probe.roundTripMs !== null;
      const isUnsure = heard.mos !== null && heard.mos < SURE_MOS;
      const mostMs = !isHeard ? MOST_TALK_MS : isUnsure ? MOST_UNSURE_MS : LEAST_TALK_MS;
      if (talkedMs >= mostMs) this.end(isHeard ? 'heard' : 'not-heard');
      else this.#listen(sinceMs);
    });
  }

  #send(content: Parameters<Signalling['send']>[2]): Promise<void> {
    const { signalling, target } = this.#options;
    return signalling.send(this.callId, this.#peer ?? target, content).catch(() => {
      if (content.type !== 'bye') this.end('unreachable');
    });
  }
}
