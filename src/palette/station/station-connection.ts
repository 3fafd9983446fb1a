import type { z } from 'zod';
import { connectRpc, type RpcClient } from '../../adapters/sockets/rpc.js';
import { Backoff } from '../../core/backoff.js';
import type { Clock, Timer } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import type { ClipEnd } from '../../protocol/clip-api.js';
import {
  type ButtonPressed,
  flowsNotifications,
  flowsRequests,
  HEARTBEAT_MS,
  type QualityReport,
  type StationHealth,
} from '../../protocol/flows-api.js';
import type { HeardDecision, HearingView } from '../../protocol/hearing.js';
import type { CallDtmf, CallView } from '../../protocol/station-api.js';
import { SharedTaps } from './shared-taps.js';

export type Level = z.infer<(typeof flowsNotifications)['level']>;
export type ConnectionState = 'connecting' | 'connected' | 'closed';

/** What a node hears; whatever of it it wants. */
export interface StationListener {
  /** The button that it listens to, and what of it: presses, gestures (`long`, `double`), or both. */
  readonly button?: { readonly name: string; readonly presses: boolean; readonly gestures: boolean };
  readonly wantsLevels?: boolean;
  readonly wantsHealth?: boolean;
  /** Decisions of inference, and how it is; the microphone is heard while some node wants them. */
  readonly wantsHearing?: boolean;
  state?(state: ConnectionState): void;
  pressed?(press: ButtonPressed): void;
  call?(view: CallView): void;
  level?(level: Level): void;
  /** The peer pressed a digit. */
  digit?(told: CallDtmf): void;
  quality?(report: QualityReport): void;
  health?(now: StationHealth): void;
  /** A sound is over that a node of this connection had played. */
  soundEnded?(playId: string, reason: ClipEnd): void;
  hearing?(view: HearingView): void;
  heard?(decision: HeardDecision): void;
}

type Told = { [K in keyof typeof flowsNotifications]: z.output<(typeof flowsNotifications)[K]> };

const TIMEOUT_MS = 8_000;

/**
 * The one connection of a config node to the station: connects, and connects again, until `close()`; a heartbeat each second;
 * hands on what the nodes listen to.
 */
export class StationConnection {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #backoff = new Backoff({ firstMs: 100, mostMs: 2_000 });
  readonly #listeners = new Set<StationListener>();
  /** Sound, for the nodes that listen or record. */
  readonly taps: SharedTaps;
  #rpc: RpcClient<typeof flowsRequests> | undefined;
  #state: ConnectionState = 'connecting';
  #call: CallView | null = null;
  #timer: Timer | undefined;
  #isAsking = false;

  constructor(options: { path: string; clock: Clock }) {
    this.#path = options.path;
    this.#clock = options.clock;
    this.taps = new SharedTaps({ clock: options.clock, ask: (name, params) => this.request(name, params) });
    void this.#connect();
  }

  /** The call that lives, if one does. */
  get call(): CallView | null {
    return this.#call;
  }

  /** @returns what ends the listening */
  listen(listener: StationListener): () => void {
    this.#listeners.add(listener);
    listener.state?.(this.#state);
    this.#askSoon();
    return () => {
      this.#listeners.delete(listener);
      this.#askSoon();
    };
  }

  /** @param most for what takes its time @throws AppError `station-unreachable`, or what the station says */
  async request<K extends keyof typeof flowsRequests>(
    name: K,
    params: z.input<(typeof flowsRequests)[K]['params']>,
    most?: { readonly timeoutMs: number },
  ): Promise<z.output<(typeof flowsRequests)[K]['result']>> {
    const rpc = this.#rpc;
    if (rpc === undefined) throw this.#unreachable();
    return rpc.call(name, params, most);
  }

  /** @throws AppError `station-unreachable` */
  mustBeThere(): void {
    if (this.#state !== 'connected') throw this.#unreachable();
  }

  close(): void {
    this.#timer?.cancel();
    this.taps.close();
    this.#rpc?.close();
    this.#rpc = undefined;
    this.#became('closed');
    this.#listeners.clear();
  }

  async #connect(): Promise<void> {
    try {
      const rpc = await connectRpc({
        path: this.#path,
        requests: flowsRequests,
        notifications: flowsNotifications,
        onNotification: (name, params) => this.#take(name, params),
        onClose: () => this.#lost(),
        timeoutMs: TIMEOUT_MS,
      });
      if (this.#state === 'closed') return rpc.close();
      this.#rpc = rpc;
      this.#call = (await rpc.call('station.describe', {})).call;
      this.#backoff.reset();
      this.#beat();
      await this.#ask();
      this.#became('connected');
      this.taps.connected();
    } catch {
      // Whatever it was, the way is the same: once more, later.
      this.#rpc?.close();
      this.#lost();
    }
  }

  #lost(): void {
    this.#rpc = undefined;
    this.#timer?.cancel();
    if (this.#state === 'closed') return;
    this.#became('connecting');
    this.taps.lost();
    this.#timer = this.#clock.after(this.#backoff.nextDelayMs(), () => void this.#connect());
  }

  #beat(): void {
    const rpc = this.#rpc;
    if (rpc === undefined) return;
    rpc.call('flows.heartbeat', {}).catch(() => {});
    this.#timer = this.#clock.after(HEARTBEAT_MS, () => this.#beat());
  }

  #take(name: keyof Told, params: Told[keyof Told]): void {
    const hand = <K extends keyof Told>(of: K, to: (listener: StationListener, told: Told[K]) => void): void => {
      if (of === name) for (const listener of this.#listeners) to(listener, params as Told[K]);
    };
    hand('button.pressed', (listener, press) => {
      const { button } = listener;
      const wants = press.kind === 'press' ? button?.presses : button?.gestures;
      if (button?.name === press.button && wants === true) listener.pressed?.(press);
    });
    hand('level', (listener, level) => listener.wantsLevels === true && listener.level?.(level));
    hand('sound.ended', (listener, { playId, reason }) => listener.soundEnded?.(playId, reason));
    hand('call.dtmf', (listener, told) => listener.digit?.(told));
    hand('health', (listener, now) => listener.wantsHealth === true && listener.health?.(now));
    hand('quality.report', (listener, report) => listener.quality?.(report));
    hand('hearing.changed', (listener, view) => listener.wantsHearing === true && listener.hearing?.(view));
    hand('hearing.decided', (listener, decision) => listener.wantsHearing === true && listener.heard?.(decision));
    if (name === 'call.changed') {
      const view = params as CallView;
      this.#call = view.state === 'ended' ? null : view;
    }
    hand('call.changed', (listener, view) => listener.call?.(view));
  }

  /** Nodes of a flow come and go together: one request for all of them. */
  #askSoon(): void {
    if (this.#isAsking) return;
    this.#isAsking = true;
    setImmediate(() => {
      this.#isAsking = false;
      this.#ask().catch(() => {});
    });
  }

  /** Tells the station what the nodes want to hear. */
  async #ask(): Promise<void> {
    const rpc = this.#rpc;
    if (rpc === undefined) return;
    const listeners = [...this.#listeners];
    const watched = (what: 'presses' | 'gestures') => [
      ...new Set(listeners.flatMap(({ button }) => (button?.[what] === true ? [button.name] : []))),
    ];
    const wantsHearing = listeners.some((one) => one.wantsHearing === true);
    await Promise.all([
      rpc
        .call('hearing.subscribe', { on: wantsHearing })
        .then((view) => wantsHearing && this.#take('hearing.changed', view)),
      rpc.call('button.watch', { presses: watched('presses'), gestures: watched('gestures') }),
      rpc.call('level.subscribe', { on: listeners.some(({ wantsLevels }) => wantsLevels === true) }),
      rpc.call('health.subscribe', { on: listeners.some(({ wantsHealth }) => wantsHealth === true) }),
    ]);
  }

  #unreachable(): AppError {
    return new AppError('station-unreachable', `the station does not answer on ${this.#path}`, {
      remedy: 'See whether it runs: entryphone status',
    });
  }

  #became(state: ConnectionState): void {
    if (state === this.#state) return;
    this.#state = state;
    for (const listener of this.#listeners) listener.state?.(state);
  }
}
