import type { Clock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { RateLimit } from '../core/rate-limit.js';
import type { TapSource } from '../protocol/engine-api.js';
import type { EngineClient } from './engine-client.js';

/** Who hears by a tap: flows, as far as the configuration grants it, or the station's own inference. */
export type TapOwner = 'flows' | 'inference';

/** One of the media process's four is inference's. */
const MOST_OF_FLOWS = 3;
/** Of each owner in a minute: each is an event on the disk, and too many would drive those of calls and the door out of the outbox. */
const MOST_OPENINGS = 30;
const OPENINGS_PER_MS = 60_000;

interface OpenTap {
  readonly tapId: string;
  readonly holder: object;
}

/**
 * Sound that is handed to programs of this machine. Granted where the station stands, by its configuration file; each opening and
 * closing is told to the log and to the broker (event `tap`).
 */
export class StationTaps {
  readonly #engine: Pick<EngineClient, 'openTap' | 'closeTap'>;
  readonly #isGranted: Readonly<Record<TapOwner, boolean>>;
  readonly #logger: Logger;
  readonly #note: (kind: 'tap', body: object) => void;
  readonly #taps = new Map<string, OpenTap>();
  readonly #openings: Readonly<Record<TapOwner, RateLimit>>;

  constructor(options: {
    engine: Pick<EngineClient, 'openTap' | 'closeTap'>;
    isGranted: Readonly<Record<TapOwner, boolean>>;
    clock: Clock;
    logger: Logger;
    note: (kind: 'tap', body: object) => void;
  }) {
    const openings = () => new RateLimit({ most: MOST_OPENINGS, perMs: OPENINGS_PER_MS, clock: options.clock });
    this.#openings = { flows: openings(), inference: openings() };
    this.#engine = options.engine;
    this.#isGranted = options.isGranted;
    this.#logger = options.logger;
    this.#note = options.note;
  }

  /**
   * Opens a tap towards a port of this machine's loopback. It stays open until `close`, over restarts of the media process too.
   * @param order.holder whose it is
   * @returns its SSRC; null while the media process is not there: the sound comes when it is
   * @throws AppError `tap-not-granted`, `tap-taken`, `too-many-taps`, `too-soon`, `socket-failed`
   */
  async open(order: { owner: TapOwner; holder: object; source: TapSource; port: number }): Promise<number | null> {
    const { owner, holder, source, port } = order;
    if (!this.#isGranted[owner]) {
      throw new AppError('tap-not-granted', 'This station does not let flows hear its sound', {
        remedy: "Set taps.flows: true in the station's configuration file, and start it anew",
      });
    }
    const tapId = `${owner}-${source}-${port}`;
    const known = this.#taps.get(tapId);
    if (known !== undefined && known.holder !== holder) {
      throw new AppError('tap-taken', `Somebody else has the ${source} at UDP port ${port}`, {
        remedy: 'Take another',
      });
    }
    const others = [...this.#taps.values()].filter((one) => one.tapId.startsWith('flows-') && one.tapId !== tapId);
    if (owner === 'flows' && others.length >= MOST_OF_FLOWS) {
      throw new AppError('too-many-taps', `${MOST_OF_FLOWS} taps are open`, { remedy: 'Close one first' });
    }
    if (known === undefined && this.#openings[owner].admit() === undefined) {
      throw new AppError('too-soon', `taps were opened ${MOST_OPENINGS} times within a minute`, {
        remedy: 'Leave a tap open while it is needed again and again',
      });
    }
    this.#taps.set(tapId, { tapId, holder });
    try {
      const ssrc = await this.#engine.openTap({ tapId, source, remote: { address: '127.0.0.1', port } });
      // Its holder may have left while it was opened.
      if (this.#taps.get(tapId)?.holder !== holder) void this.#engine.closeTap(tapId);
      else if (known === undefined) this.#audit(owner, source, true);
      return ssrc;
    } catch (error) {
      if (known === undefined) this.#taps.delete(tapId);
      throw error;
    }
  }

  /** What is not open is closed already. */
  close({ owner, holder, source, port }: { owner: TapOwner; holder: object; source: TapSource; port: number }): void {
    const tapId = `${owner}-${source}-${port}`;
    if (this.#taps.get(tapId)?.holder === holder) this.#end(tapId);
  }

  /** Whatever this one holds. */
  release(holder: object): void {
    for (const tap of [...this.#taps.values()]) if (tap.holder === holder) this.#end(tap.tapId);
  }

  #end(tapId: string): void {
    this.#taps.delete(tapId);
    void this.#engine.closeTap(tapId);
    const [owner, source] = tapId.split('-') as [TapOwner, TapSource];
    this.#audit(owner, source, false);
  }

  #audit(owner: TapOwner, source: TapSource, open: boolean): void {
    this.#logger.info({ owner, source }, open ? 'a tap hears from now on' : 'a tap hears no longer');
    this.#note('tap', { owner, source, open });
  }
}
