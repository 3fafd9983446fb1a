import { type RpcPeer, type RpcServer, serveRpc } from '../adapters/sockets/rpc.js';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import type { HeardDecision, HearingFigures, HearingView } from '../protocol/hearing.js';
import { type InferenceReport, inferenceNotifications, inferenceRequests } from '../protocol/inference-api.js';
import type { StationStatus } from '../protocol/station-api.js';
import type { EdgeCounters } from './edge-counters.js';
import type { StationTaps } from './station-taps.js';

/** Of one second; the built-in voice activity, at its worst, makes some seven. */
const MOST_DECISIONS = 50;
/** Labels that are counted each on its own: what a station's models have, many times over. */
const MOST_LABELS = 256;
/** A tap that was not opened is tried again. */
const TAP_AGAIN_MS = 10_000;
/** 16 bits, 10 ms of 16 kHz. */
const FRAME_BYTES = 320;

export interface HearingOptions {
  readonly path: string;
  /** Off: nothing is served, and it says `absent` for ever. */
  readonly isEnabled: boolean;
  readonly taps: Pick<StationTaps, 'open' | 'release'>;
  readonly edge: EdgeCounters;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly listener: {
    changed(view: HearingView): void;
    decided(decision: HeardDecision): void;
    /** Lines of the inference process's log, while that is followed. */
    logged(lines: readonly string[]): void;
  };
}

type Peer = RpcPeer<typeof inferenceNotifications>;

interface InferenceProcess {
  readonly peer: Peer;
  report: InferenceReport;
  figures: HearingFigures | null;
}

/**
 * The station's side of inference:
 *
 *   flows ─ somebody wants decisions ─▶ Hearing ─ tap.open ─▶ media ── RTP L16, loopback ──▶ inference
 *   flows ◀─ hearing.decided ───────────── ▲ ◀──────────────── inference.sock ───────────────── ┘
 *
 * The microphone is tapped only while somebody wants decisions and an inference process is there that makes them.
 */
export class Hearing {
  /** What the inference process did wrong. */
  readonly refused = new Counters<string>();
  readonly #options: HearingOptions;
  readonly #flood: RateLimit;
  readonly #decisions = new Counters<string>();
  #labels = 0;
  #server: RpcServer<typeof inferenceNotifications> | undefined;
  #process: InferenceProcess | undefined;
  #isWanted = false;
  #isTapped = false;
  #isLogFollowed = false;
  #again: Timer | undefined;

  /** @throws AppError `socket-taken`, `socket-failed` */
  static async serve(options: HearingOptions): Promise<Hearing> {
    const hearing = new Hearing(options);
    if (options.isEnabled) hearing.#server = await hearing.#serve();
    return hearing;
  }

  private constructor(options: HearingOptions) {
    this.#options = options;
    this.#flood = new RateLimit({ most: MOST_DECISIONS, perMs: 1_000, clock: options.clock });
  }

  get view(): HearingView {
    const report = this.#process?.report;
    return {
      state: report === undefined ? 'absent' : report.isReady ? 'running' : 'starting',
      isEnabled: this.#options.isEnabled,
      isHearing: report?.isHearing ?? false,
      models: report?.models ?? [],
      refused: report?.refused ?? [],
    };
  }

  /**
   * The slot of the release whose models the inference process has, or had to refuse, null where none was installed when it started.
   * @returns undefined while no process is there
   */
  get modelsSlot(): InferenceReport['slot'] | undefined {
    return this.#process?.report.slot;
  }

  get status(): StationStatus['hearing'] {
    return {
      ...this.view,
      pid: this.#process?.report.pid ?? null,
      isWanted: this.#isWanted,
      figures: this.#process?.figures ?? null,
      decisions: this.#decisions.all() as Record<string, number>,
    };
  }

  /** Has the inference process end, for its supervisor to start another. @throws AppError `service-absent` */
  restart(): void {
    if (this.#process === undefined) throw new AppError('service-absent', 'this station has no inference process');
    this.#process.peer.notify('inference.restart', {});
  }

  /** Whether the inference process is to hand on what it logs. */
  followLog(on: boolean): void {
    this.#isLogFollowed = on;
    this.#process?.peer.notify('log.follow', { on });
  }

  /** Somebody wants decisions, or nobody any more. */
  want(isWanted: boolean): void {
    if (isWanted === this.#isWanted) return;
    this.#isWanted = isWanted;
    this.#process?.peer.notify('inference.listen', { on: isWanted });
    this.#judgeTap();
  }

  async close(): Promise<void> {
    this.#isWanted = false;
    this.#judgeTap();
    await this.#server?.close();
    this.#again?.cancel();
  }

  #serve(): Promise<RpcServer<typeof inferenceNotifications>> {
    const { path, logger, listener } = this.#options;
    return serveRpc({
      path,
      requests: inferenceRequests,
      notifications: inferenceNotifications,
      handlers: {
        'inference.report': (report, peer) => {
          this.#reported(report, peer);
          return {};
        },
        'inference.decided': (decision, peer) => {
          this.#checkIsProcess(peer);
          if (this.#flood.admit() === undefined) {
            this.refused.count('too-many-decisions');
            throw new AppError('too-many', `more than ${MOST_DECISIONS} decisions in a second`);
          }
          if (decision.edge === 'start') this.#count(decision.label);
          listener.decided(decision);
          return {};
        },
        'inference.figures': (figures, peer) => {
          this.#counted(this.#checkIsProcess(peer), figures);
          return {};
        },
        'log.lines': ({ lines }, peer) => {
          this.#checkIsProcess(peer);
          listener.logged(lines);
          return {};
        },
      },
      logger,
      refused: this.refused,
    });
  }

  #reported(report: InferenceReport, peer: Peer): void {
    const { logger, taps, listener } = this.#options;
    const known = this.#process;
    if (known === undefined || known.peer !== peer) {
      // The latest is the one that the supervisor runs now.
      if (known !== undefined) taps.release(known.peer);
      this.#isTapped = false;
      this.#process = { peer, report, figures: null };
      peer.onClose(() => this.#gone(peer));
      peer.notify('inference.listen', { on: this.#isWanted });
      if (this.#isLogFollowed) peer.notify('log.follow', { on: true });
    } else {
      if (known.report.port !== report.port) {
        taps.release(peer);
        this.#isTapped = false;
      }
      known.report = report;
    }
    if (report.isReady && known?.report.isReady !== true) {
      logger.info({ models: report.models.map(({ name }) => name) }, 'inference is there');
      for (const one of report.refused) logger.warn(one, 'a model is not served');
    }
    this.#judgeTap();
    listener.changed(this.view);
  }

  #gone(peer: Peer): void {
    if (this.#process?.peer !== peer) return;
    this.#process = undefined;
    this.#judgeTap(peer);
    this.#options.logger.warn({}, 'inference is gone');
    this.#options.listener.changed(this.view);
  }

  #count(label: string): void {
    const isKnown = this.#decisions.get(label) > 0;
    if (!isKnown) this.#labels += 1;
    this.#decisions.count(isKnown || this.#labels <= MOST_LABELS ? label : 'other');
  }

  /** Opens or closes the tap. @param holder whose it was, of a process that is gone */
  #judgeTap(holder = this.#process?.peer): void {
    const { taps, clock, logger } = this.#options;
    const process = this.#process;
    const isDue = this.#isWanted && process?.report.isReady === true;
    if (isDue === this.#isTapped || holder === undefined) return;
    this.#isTapped = isDue;
    this.#again?.cancel();
    if (!isDue || process === undefined) {
      taps.release(holder);
      return;
    }
    taps
      .open({ owner: 'inference', holder: process.peer, source: 'microphone', port: process.report.port })
      .catch((error: unknown) => {
        // Another has come, or nobody wants it any more.
        if (this.#process?.peer !== process.peer || !this.#isTapped) return;
        this.#isTapped = false;
        this.#again = clock.after(TAP_AGAIN_MS, () => this.#judgeTap());
        logger.error({ error: errorText(error) }, 'inference hears nothing: its tap was not opened');
      });
  }

  #counted(process: InferenceProcess, now: HearingFigures): void {
    const before = process.figures;
    process.figures = now;
    const since = (key: 'receivedFrames' | 'lostFrames' | 'inferredFrames') =>
      Math.max(0, now[key] - (before?.[key] ?? 0));
    const captured = since('receivedFrames') + since('lostFrames');
    const inferred = since('inferredFrames');
    this.#options.edge.add({
      capturedFrames: captured,
      capturedBytes: FRAME_BYTES * captured,
      inferredFrames: inferred,
      inferredBytes: FRAME_BYTES * inferred,
    });
  }

  /** Who has reported, and nobody else. */
  #checkIsProcess(peer: Peer): InferenceProcess {
    if (this.#process?.peer === peer) return this.#process;
    this.refused.count('unreported');
    throw new AppError('not-reported', 'Another inference process is heard, or this one has not said what it is', {
      remedy: 'Send inference.report first',
    });
  }
}
