import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Notifier } from '../adapters/supervisor/notify.js';
import type { Board, Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import type { Logger } from '../core/logger.js';
import type { ClipEnd } from '../protocol/clip-api.js';
import { FLOWS_SOCKET, type QualityReport, type StationHealth } from '../protocol/flows-api.js';
import type { HeardDecision, HearingView } from '../protocol/hearing.js';
import type { CallDtmf, CallView, StationStatus } from '../protocol/station-api.js';
import type { Alerts } from './alerts.js';
import type { CallControl } from './call-control.js';
import type { CallDigits } from './call-digits.js';
import type { DoorControl } from './door-control.js';
import type { EngineClient } from './engine-client.js';
import { FlowSounds } from './flow-sounds.js';
import { FlowsKeeper } from './flows-keeper.js';
import { FlowsLink, type FlowsLinkOptions } from './flows-link.js';
import { FlowsWatch } from './flows-watch.js';
import type { Hearing } from './hearing.js';
import { Mending } from './mending.js';
import type { Pins } from './pins.js';
import { PressGestures } from './press-gestures.js';
import { PressOffers } from './press-offers.js';
import type { StationReports } from './station-reports.js';
import type { StationTaps } from './station-taps.js';

export interface FlowsOptions {
  readonly config: Config;
  readonly board: Board;
  readonly calls: CallControl;
  readonly digits: CallDigits;
  readonly door: DoorControl;
  readonly engine: EngineClient;
  readonly leds: Pins['leds'];
  readonly taps: StationTaps;
  readonly alerts: Alerts;
  readonly selfTest: FlowsLinkOptions['selfTest'];
  readonly hearing: Pick<Hearing, 'view' | 'want' | 'restart'>;
  readonly health: () => Promise<StationHealth>;
  readonly reports: Pick<StationReports, 'runs'>;
  readonly notify: Pick<Notifier, 'restart'>;
  /** Does what is configured for a button. */
  readonly fallback: (button: string) => void;
  /** Keeps an event for the broker. */
  readonly note: (kind: string, body: object) => void;
  /** Lines of the flows process's log, while that is followed. */
  readonly logged: (lines: readonly string[]) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/**
 * The station's side of flows:
 *
 *   button ─▶ PressOffers ─▶ FlowsLink ◀─ flows.sock ─▶ the flows process
 *                 └─ fallback    └─▶ FlowsWatch ─▶ supervisor, FlowsKeeper ─▶ its Admin API
 */
export class Flows {
  /** What clients of the socket did wrong. */
  readonly refused = new Counters<string>();
  readonly #options: FlowsOptions;
  /** Also what a release of flows is deployed with. */
  readonly keeper: FlowsKeeper;
  readonly #watch: FlowsWatch;
  readonly #offers: PressOffers;
  readonly #gestures: PressGestures;
  readonly #mending: Mending;
  readonly #sounds: FlowSounds;
  #link: FlowsLink | undefined;
  #heartbeats = 0;

  /** @throws AppError `socket-taken`, `socket-failed` */
  static async start(options: FlowsOptions): Promise<Flows> {
    const adminToken = randomBytes(32).toString('base64url');
    const flows = new Flows(options, adminToken);
    try {
      flows.#link = await flows.#serve(adminToken);
    } catch (error) {
      await flows.close();
      throw error;
    }
    return flows;
  }

  private constructor(options: FlowsOptions, adminToken: string) {
    const { config, calls, engine, clock, fallback, note } = options;
    const logger = options.logger.child({ about: 'flows' });
    this.#options = { ...options, logger };
    this.keeper = new FlowsKeeper({ config, token: adminToken, logger });
    this.#sounds = new FlowSounds({ calls, engine, clock, logger });
    const restarts = { inference: () => options.hearing.restart() };
    this.#mending = new Mending({ calls, engine, restarts, note, clock, logger, fallBack: () => this.#fallBack() });
    this.#gestures = new PressGestures({ clock, onGesture: (gesture) => this.#link?.offer(gesture) });
    this.#watch = new FlowsWatch({
      clock,
      logger,
      goodAfterMs: config.flows.goodAfterMs,
      care: {
        askRestart: (reason) => this.restart(reason),
        startSafely: (isSafe) => this.keeper.startSafely(isSafe),
        keepGood: () => this.keeper.keepGood(),
        restoreGood: () => this.keeper.restoreGood(),
        expectsHeartbeat: () => this.keeper.expectsHeartbeat(),
        brokeDown: () => this.#offers.brokeDown(),
      },
      onChange: ({ rev, state, isSafeMode, fault }) => options.reports.runs('flows', { rev, state, isSafeMode, fault }),
    });
    this.#offers = new PressOffers({
      clock,
      offer: (press) => this.#link?.offer({ ...press, kind: 'press' }) ?? false,
      fallback,
      onIgnored: (inARow) => this.#watch.pressesIgnored(inARow),
    });
  }

  get status(): NonNullable<StationStatus['flows']> {
    const presses = this.#offers.counted.all() as Record<string, number>;
    const alerts = this.#options.alerts.counted.all() as Record<string, number>;
    const actions = this.#mending.counted.all() as Record<string, number>;
    return { ...this.#watch.status, heartbeats: this.#heartbeats, presses, alerts, actions };
  }

  /** Another run of the flows' process, by its supervisor. */
  restart(reason: string): void {
    this.keeper.noteRestart(reason);
    this.#options.notify.restart('flows', reason);
  }

  pressed(button: string): void {
    this.#gestures.pressed(button, this.#offers.pressed(button));
  }

  released(button: string): void {
    this.#gestures.released(button);
  }

  callChanged(view: CallView): void {
    this.#link?.callChanged(view);
  }

  /** Once a second of a call. */
  quality(report: QualityReport): void {
    this.#link?.quality(report);
  }

  /** The peer of the call pressed a digit. */
  digit(told: CallDtmf): void {
    this.#link?.digit(told);
  }

  hearingChanged(view: HearingView): void {
    this.#link?.hearingChanged(view);
  }

  decided(decision: HeardDecision): void {
    this.#link?.decided(decision);
  }

  /** A sound that flows had played is over. */
  soundEnded(playId: string, reason: ClipEnd): void {
    this.#sounds.ended(playId, reason);
  }

  mediaLost(): void {
    this.#sounds.mediaLost();
  }

  /** Whether the flows process is to hand on what it logs. */
  followLog(on: boolean): void {
    this.#link?.followLog(on);
  }

  async close(): Promise<void> {
    this.#gestures.close();
    this.#offers.close();
    this.#watch.close();
    await this.#link?.close();
  }

  async #fallBack(): Promise<void> {
    await this.keeper.fallBack();
    this.#watch.fellBack();
  }

  #serve(adminToken: string): Promise<FlowsLink> {
    const { config, board } = this.#options;
    return FlowsLink.serve({
      ...this.#options,
      path: join(config.run, FLOWS_SOCKET),
      station: config.station,
      buttons: Object.keys(board.gpio.buttons),
      mending: this.#mending,
      sounds: this.#sounds,
      adminToken,
      refused: this.refused,
      listener: {
        reported: (report) => {
          this.keeper.found(report.url);
          this.#watch.reported(report);
        },
        lost: () => this.#watch.lost(),
        beat: () => {
          this.#heartbeats += 1;
          this.#watch.beat();
        },
        nodeGone: () => {
          this.#offers.unwatched();
          this.#watch.nodeGone();
        },
        acknowledge: (pressId) => this.#offers.acknowledge(pressId),
        acted: () => this.#offers.acted(),
        logged: (lines) => this.#options.logged(lines),
      },
    });
  }
}
