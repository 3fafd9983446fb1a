import { FRAME_MS, frameSamples, type RateHz } from '../audio/frame.js';
import { resample } from '../audio/resample.js';
import type { Clock, Timer } from '../core/clock.js';
import { LEAST_CORRELATION } from '../media/loop-verdict.js';
import type { MediaSession } from '../media/media-session.js';
import { FINDER_RATE_HZ, findSweep } from '../media/signal-finder.js';
import { SIGNAL_DBFS, SWEEP_MS, sweep } from '../media/test-signal.js';
import type { ProbeResult } from '../protocol/selftest.js';

/** A process that stood still for longer does not make up for it. */
const MOST_BEHIND_MS = 100;
/** A sweep, then silence: so that a round trip of up to a second has one meaning. */
const PERIOD_MS = 1_000;
const KEPT_MS = PERIOD_MS + SWEEP_MS + FRAME_MS;

/** A session's end without cards: `echo` sends back what it hears, `probe` sends sweeps and listens for them. */
export type CardlessKind = 'echo' | 'probe';

/**
 * Stands where microphone and speaker stand in other sessions, at the pace of the clock: each 10 ms it takes a frame of what the
 * far end said, and gives one to be sent.
 */
export class CardlessEnd {
  readonly #kind: CardlessKind;
  readonly #media: Pick<MediaSession, 'pull' | 'frame'>;
  readonly #rateHz: RateHz;
  readonly #clock: Clock;
  readonly #silence: Int16Array;
  /** A period of what a probe sends. */
  readonly #sent: Int16Array;
  /** What a probe heard of late; a ring, in step with what it sent. */
  readonly #heard: Int16Array;
  #frames = 0;
  #dueMs: number;
  #timer: Timer | null = null;

  constructor(options: {
    kind: CardlessKind;
    media: Pick<MediaSession, 'pull' | 'frame'>;
    rateHz: RateHz;
    clock: Clock;
  }) {
    const { kind, media, rateHz, clock } = options;
    this.#kind = kind;
    this.#media = media;
    this.#rateHz = rateHz;
    this.#clock = clock;
    this.#dueMs = clock.nowMs();
    this.#silence = new Int16Array(frameSamples(rateHz));
    const isProbe = kind === 'probe';
    this.#sent = new Int16Array(isProbe ? (PERIOD_MS / FRAME_MS) * frameSamples(rateHz) : 0);
    this.#heard = new Int16Array(isProbe ? (KEPT_MS / FRAME_MS) * frameSamples(rateHz) : 0);
    if (isProbe) this.#sent.set(sweep(rateHz));
  }

  /** Begins; once. */
  start(): void {
    if (this.#timer !== null) return;
    this.#dueMs = this.#clock.nowMs();
    this.#turn();
  }

  stop(): void {
    this.#timer?.cancel();
  }

  /** What came back of the last second's sweep. */
  result(): Omit<ProbeResult, 'mos'> {
    const frame = frameSamples(this.#rateHz);
    const kept = this.#heard.length;
    const filled = Math.min(kept, this.#frames * frame);
    const at = (this.#frames * frame) % Math.max(1, kept);
    const inOrder = new Int16Array(kept);
    inOrder.set(this.#heard.subarray(at));
    inOrder.set(this.#heard.subarray(0, at), kept - at);
    const heard = resample(inOrder.slice(kept - filled), { fromHz: this.#rateHz, toHz: FINDER_RATE_HZ });
    const found = findSweep(heard, { from: 0, dbfs: SIGNAL_DBFS });
    if (found === null || found.correlation < LEAST_CORRELATION) {
      return { correlation: found?.correlation ?? 0, roundTripMs: null, levelDb: null };
    }
    const firstMs = (this.#frames - filled / frame) * FRAME_MS;
    const roundTripMs = (firstMs + (found.at * 1000) / FINDER_RATE_HZ) % PERIOD_MS;
    return { correlation: found.correlation, roundTripMs, levelDb: found.levelDb };
  }

  #turn(): void {
    const nowMs = this.#clock.nowMs();
    if (nowMs - this.#dueMs > MOST_BEHIND_MS) this.#dueMs = nowMs;
    for (; this.#dueMs <= nowMs; this.#dueMs += FRAME_MS) this.#step();
    this.#timer = this.#clock.after(this.#dueMs - nowMs, () => this.#turn());
  }

  #step(): void {
    const heard = this.#media.pull(this.#dueMs) ?? this.#silence;
    const at = this.#frames * heard.length;
    if (this.#kind === 'probe') this.#heard.set(heard, at % this.#heard.length);
    const begins = at % Math.max(1, this.#sent.length);
    const samples = this.#kind === 'echo' ? heard : this.#sent.subarray(begins, begins + heard.length);
    this.#frames += 1;
    this.#media.frame({ samples, rateHz: this.#rateHz, capturedAtMs: this.#dueMs });
  }
}
