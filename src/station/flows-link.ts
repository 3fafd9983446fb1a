import { type RpcPeer, type RpcServer, serveRpc } from '../adapters/sockets/rpc.js';
import type { Clock } from '../core/clock.js';
import type { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import { TAP_RATE_HZ } from '../protocol/engine-api.js';
import {
  type ButtonPressed,
  type FlowsReport,
  flowsNotifications,
  flowsRequests,
  type QualityReport,
  type StationHealth,
} from '../protocol/flows-api.js';
import type { HeardDecision, HearingView } from '../protocol/hearing.js';
import type { CallDtmf, CallView } from '../protocol/station-api.js';
import type { Alerts } from './alerts.js';
import type { CallControl } from './call-control.js';
import type { CallDigits } from './call-digits.js';
import type { DoorControl } from './door-control.js';
import type { EngineClient } from './engine-client.js';
import type { FlowSounds, SoundOwner } from './flow-sounds.js';
import type { Hearing } from './hearing.js';
import type { Mending } from './mending.js';
import type { Pins } from './pins.js';
import { RegularTelling } from './regular-telling.js';
import type { SelfTest } from './self-test.js';
import type { StationTaps } from './station-taps.js';

type Peer = RpcPeer<typeof flowsNotifications>;

interface Client {
  presses: ReadonlySet<string>;
  gestures: ReadonlySet<string>;
  wantsLevels: boolean;
  wantsHealth: boolean;
  wantsHearing: boolean;
  /** Has been told of the call as it is, and follows it from there. */
  wantsCalls: boolean;
  /** Has said a heartbeat: a config node. */
  isNode: boolean;
  readonly sounds: SoundOwner;
}

export interface FlowsLinkListener {
  reported(report: FlowsReport): void;
  /** The process that reported has gone. */
  lost(): void;
  beat(): void;
  /** The last config node has gone. */
  nodeGone(): void;
  /** @throws AppError `press-late`, `press-unknown` */
  acknowledge(pressId: string): void;
  /** Flows asked the station to do something. */
  acted(): void;
  /** Lines of the process's log, while that is followed. */
  logged(lines: readonly string[]): void;
}

export interface FlowsLinkOptions {
  readonly path: string;
  readonly station: { readonly id: string; readonly name: string };
  readonly buttons: readonly string[];
  readonly calls: CallControl;
  readonly digits: CallDigits;
  readonly door: DoorControl;
  readonly engine: EngineClient;
  readonly leds: Pins['leds'];
  readonly taps: StationTaps;
  readonly alerts: Alerts;
  readonly hearing: Pick<Hearing, 'view' | 'want'>;
  readonly health: () => Promise<StationHealth>;
  readonly mending: Mending;
  readonly selfTest: Pick<SelfTest, 'run'>;
  readonly sounds: FlowSounds;
  /** Given to the flows process; opens its Admin API. */
  readonly adminToken: string;
  readonly listener: FlowsLinkListener;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly refused: Counters<string>;
}

const LEVEL_EVERY_MS = 200;
const HEALTH_EVERY_MS = 2_000;
const MICROPHONE_LED = 'microphone';
/** More than visitors press; each call is two events or more that wait for the broker on disk. */
const MOST_CALLS = 30;
const CALLS_PER_MS = 60_000;

/** Serves what flows may do (protocol/flows-api.ts), and tells them what happens. */
export class FlowsLink {
  readonly #options: FlowsLinkOptions;
  readonly #clients = new Map<Peer, Client>();
  #process: Peer | undefined;
  #isLogFollowed = false;
  #server: RpcServer<typeof flowsNotifications> | undefined;
  readonly #levels: RegularTelling;
  readonly #health: RegularTelling;
  readonly #placed: RateLimit;

  /** @throws AppError `socket-taken`, `socket-failed` */
  static async serve(options: FlowsLinkOptions): Promise<FlowsLink> {
    const link = new FlowsLink(options);
    link.#server = await link.#serve();
    return link;
  }

  private constructor(options: FlowsLinkOptions) {
    this.#options = options;
    const { clock, engine, health } = options;
    this.#placed = new RateLimit({ most: MOST_CALLS, perMs: CALLS_PER_MS, clock });
    const wanting = (what: 'wantsLevels' | 'wantsHealth') =>
      [...this.#clients].filter(([, client]) => client[what]).map(([peer]) => peer);
    this.#levels = new RegularTelling({
      clock,
      everyMs: LEVEL_EVERY_MS,
      isWanted: () => wanting('wantsLevels').length > 0,
      tell: async () => {
        const status = await engine.status();
        const level = {
          microphoneDbfs: status?.capture.levelDbfs ?? null,
          speakerDbfs: status?.playback.levelDbfs ?? null,
        };
        for (const peer of wanting('wantsLevels')) peer.notify('level', level);
      },
    });
    this.#health = new RegularTelling({
      clock,
      everyMs: HEALTH_EVERY_MS,
      isWanted: () => wanting('wantsHealth').length > 0,
      tell: async () => {
        const now = await health();
        for (const peer of wanting('wantsHealth')) peer.notify('health', now);
      },
    });
  }

  /** To whoever watches the button. @returns whether anybody does */
  offer(press: ButtonPressed): boolean {
    const kind = press.kind === 'press' ? 'presses' : 'gestures';
    const watching = [...this.#clients].filter(([, client]) => client[kind].has(press.button));
    for (const [peer] of watching) peer.notify('button.pressed', press);
    return watching.length > 0;
  }

  callChanged(view: CallView): void {
    for (const [peer, { wantsCalls }] of this.#clients) if (wantsCalls) peer.notify('call.changed', view);
  }

  quality(report: QualityReport): void {
    for (const [peer, { wantsCalls }] of this.#clients) if (wantsCalls) peer.notify('quality.report', report);
  }

  digit(told: CallDtmf): void {
    for (const [peer, { wantsCalls }] of this.#clients) if (wantsCalls) peer.notify('call.dtmf', told);
  }

  hearingChanged(view: HearingView): void {
    for (const [peer, { wantsHearing }] of this.#clients) if (wantsHearing) peer.notify('hearing.changed', view);
  }

  decided(decision: HeardDecision): void {
    for (const [peer, { wantsHearing }] of this.#clients) if (wantsHearing) peer.notify('hearing.decided', decision);
  }

  /** Whether the flows process is to hand on what it logs. */
  followLog(on: boolean): void {
    this.#isLogFollowed = on;
    this.#process?.notify('log.follow', { on });
  }

  async close(): Promise<void> {
    this.#levels.close();
    this.#health.close();
    await this.#server?.close();
  }

  #serve(): Promise<RpcServer<typeof flowsNotifications>> {
    const { path, station, buttons, calls, digits, door, engine, leds, taps, alerts, hearing } = this.#options;
    const { adminToken, listener, logger, refused } = this.#options;
    const { mending, selfTest, sounds } = this.#options;
    const act = <T>(what: () => T): T => {
      listener.acted();
      return what();
    };
    return serveRpc({
      path,
      requests: flowsRequests,
      notifications: flowsNotifications,
      handlers: {
        'flows.report': (report, peer) => {
          if (this.#process !== peer && this.#isLogFollowed) peer.notify('log.follow', { on: true });
          this.#process = peer;
          listener.reported(report);
          return { adminToken };
        },
        'log.lines': ({ lines }, peer) => {
          if (peer !== this.#process) throw new AppError('not-reported', 'only the process as a whole has a log');
          listener.logged(lines);
          return {};
        },
        'flows.heartbeat': (_params, peer) => {
          this.#client(peer).isNode = true;
          listener.beat();
          return {};
        },
        'station.describe': (_params, peer) => {
          this.#client(peer).wantsCalls = true;
          return {
            station: station.id,
            name: station.name,
            buttons: [...buttons],
            leds: Object.keys(leds).filter((name) => name !== MICROPHONE_LED),
            call: calls.views().findLast(({ state }) => state !== 'ended') ?? null,
          };
        },
        'button.watch': (params, peer) => {
          const client = this.#client(peer);
          client.presses = new Set(params.presses);
          client.gestures = new Set(params.gestures);
          return {};
        },
        'press.acknowledge': ({ pressId }) => {
          listener.acknowledge(pressId);
          return {};
        },
        'call.place': ({ target }) => {
          this.#mayPlace();
          return act(() => ({ callId: calls.place(target) }));
        },
        'call.answer': () => act(() => ({ callId: calls.answer() })),
        'call.reject': () => act(() => ({ callId: calls.reject() })),
        'call.hangUp': () => act(() => ({ callId: calls.hangUp() })),
        'call.mute': ({ muted }) => act(() => ({ callId: calls.mute(muted) })),
        'call.dtmf': (params) => act(async () => ({ callId: await digits.send(params.digits, params.durationMs) })),
        'call.volume': ({ percent }) =>
          act(() => {
            engine.setVolume(percent);
            return { percent };
          }),
        // Not `acted`: nobody who pressed a button is helped by these.
        'call.limit': ({ bitrateBps }) => mending.limit(bitrateBps),
        'call.path': (params) => mending.path(params.path),
        'service.restart': ({ service }) => mending.restart(service),
        'flows.fallBack': () => mending.fallBack(),
        'selftest.run': () => selfTest.run('flows'),
        'sound.load': ({ soundId, pcm }, peer) => sounds.load(this.#client(peer).sounds, soundId, pcm),
        'sound.play': ({ to, sound }, peer) => sounds.play(this.#client(peer).sounds, to, sound),
        'sound.stop': async ({ playId }, peer) => {
          await sounds.stop(this.#client(peer).sounds, playId);
          return {};
        },
        'door.open': () => act(() => door.open()),
        'alert.raise': (alert) => act(() => ({ id: alerts.raise(alert) })),
        'led.set': ({ led, lit }) =>
          act(() => {
            const light = led === MICROPHONE_LED || !Object.hasOwn(leds, led) ? undefined : leds[led];
            if (light === undefined) throw noSuchLed(led);
            light.set(lit);
            return {};
          }),
        'audio.tap': async ({ source, port }, peer) => {
          this.#client(peer);
          const ssrc = await taps.open({ owner: 'flows', holder: peer, source, port });
          return { ssrc, rateHz: TAP_RATE_HZ };
        },
        'audio.untap': ({ source, port }, peer) => {
          taps.close({ owner: 'flows', holder: peer, source, port });
          return {};
        },
        'level.subscribe': ({ on }, peer) => {
          this.#client(peer).wantsLevels = on;
          this.#levels.wake();
          return {};
        },
        'hearing.subscribe': ({ on }, peer) => {
          this.#client(peer).wantsHearing = on;
          this.#judgeHearing();
          return hearing.view;
        },
        'health.subscribe': ({ on }, peer) => {
          this.#client(peer).wantsHealth = on;
          this.#health.wake();
          return {};
        },
      },
      onConnect: (peer) => {
        this.#clients.set(peer, {
          presses: new Set(),
          gestures: new Set(),
          wantsLevels: false,
          wantsHealth: false,
          wantsHearing: false,
          wantsCalls: false,
          isNode: false,
          sounds: { soundEnded: (playId, reason) => peer.notify('sound.ended', { playId, reason }) },
        });
        peer.onClose(() => this.#gone(peer));
      },
      logger,
      refused,
    });
  }

  /** @throws AppError `calls-many`: a flow goes round in circles */
  #mayPlace(): void {
    if (this.#placed.admit() !== undefined) return;
    this.#options.refused.count('calls-many');
    throw new AppError('calls-many', `flows have placed ${MOST_CALLS} calls in a minute`, {
      remedy: 'Give the flow a cool-down',
    });
  }

  #judgeHearing(): void {
    this.#options.hearing.want([...this.#clients.values()].some(({ wantsHearing }) => wantsHearing));
  }

  #client(peer: Peer): Client {
    const client = this.#clients.get(peer);
    if (client === undefined) throw new AppError('connection-closed', 'this client has left');
    return client;
  }

  #gone(peer: Peer): void {
    const client = this.#clients.get(peer);
    const wasNode = client?.isNode === true;
    this.#clients.delete(peer);
    const { listener, taps, sounds } = this.#options;
    taps.release(peer);
    this.#judgeHearing();
    if (client !== undefined) sounds.left(client.sounds);
    if (peer === this.#process) {
      this.#process = undefined;
      listener.lost();
    }
    if (wasNode && ![...this.#clients.values()].some(({ isNode }) => isNode)) listener.nodeGone();
  }
}

function noSuchLed(led: string): AppError {
  return led === MICROPHONE_LED
    ? new AppError('led-not-yours', 'the microphone lights its LED, nothing else does')
    : new AppError('led-unknown', `the board has no LED ${led}`, {
        remedy: 'station.describe lists those that it has',
      });
}
