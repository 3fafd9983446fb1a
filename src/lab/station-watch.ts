import type { z } from 'zod';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { stationNotifications } from '../protocol/station-api.js';
import type { Site, StationClient } from './site.js';
import type { StationId } from './site-config.js';

type Notifications = typeof stationNotifications;
type Name = keyof Notifications;

export interface Noticed<N extends Name> {
  readonly params: z.infer<Notifications[N]>;
  /** When it came here, on the monotonic clock. */
  readonly atMs: number;
}

/** A station's local API as a scenario uses it: its requests, and what it has told, remembered so that nothing is missed. */
export class StationWatch {
  readonly id: StationId;
  readonly #noticed: { readonly name: string; readonly params: unknown; readonly atMs: number }[] = [];
  readonly #waiting = new Set<() => void>();
  #client: StationClient | undefined;

  private constructor(id: StationId) {
    this.id = id;
  }

  static async connect(site: Site, id: StationId): Promise<StationWatch> {
    const watch = new StationWatch(id);
    watch.#client = await site.connect(id, (name, params) => {
      watch.#noticed.push({ name, params, atMs: systemClock.nowMs() });
      for (const look of [...watch.#waiting]) look();
    });
    return watch;
  }

  get client(): StationClient {
    if (this.#client === undefined) throw new AppError('closed', `The connection to ${this.id} is not open`);
    return this.#client;
  }

  /**
   * The first notification since `sinceMs` that fits, be it told already or yet to come.
   * @throws AppError `not-told` after `withinMs`
   */
  async told<N extends Name>(
    name: N,
    what: {
      readonly since: number;
      readonly withinMs: number;
      readonly fits?: (params: z.infer<Notifications[N]>) => boolean;
    },
  ): Promise<Noticed<N>> {
    const { since, withinMs, fits = () => true } = what;
    // Parsed by the connection, against this very schema.
    const find = () =>
      this.#noticed.find(
        (noticed) =>
          noticed.name === name && noticed.atMs >= since && fits(noticed.params as z.infer<Notifications[N]>),
      ) as Noticed<N> | undefined;
    const found = find();
    if (found !== undefined) return found;
    return new Promise((resolve, reject) => {
      const look = () => {
        const late = find();
        if (late === undefined) return;
        forget();
        resolve(late);
      };
      const timer = systemClock.after(withinMs, () => {
        forget();
        reject(new AppError('not-told', `${this.id} did not tell ${name} as expected within ${withinMs} ms`));
      });
      const forget = () => {
        timer.cancel();
        this.#waiting.delete(look);
      };
      this.#waiting.add(look);
    });
  }

  /** All that was told by this name since then. */
  allTold<N extends Name>(name: N, since: number): Noticed<N>[] {
    return this.#noticed.filter((noticed) => noticed.name === name && noticed.atMs >= since) as Noticed<N>[];
  }

  /** Waits until a call is in this state here. */
  callIs(
    state: 'ringing-in' | 'ringing-out' | 'answered' | 'ended',
    since: number,
    withinMs = 8_000,
  ): Promise<Noticed<'call.changed'>> {
    return this.told('call.changed', { since, withinMs, fits: (call) => call.state === state });
  }

  close(): void {
    this.#client?.close();
    this.#client = undefined;
  }
}
