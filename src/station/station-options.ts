import type { Notifier } from '../adapters/supervisor/notify.js';
import type { DefaultsInUse } from '../config/defaults.js';
import type { Board, Config } from '../config/schema.js';
import type { Clock } from '../core/clock.js';
import type { LogTap } from '../core/log-tap.js';
import type { Logger } from '../core/logger.js';
import type { OpenPins } from './pins.js';

/** What a station process is started with. */
export interface StationOptions {
  readonly config: Config;
  readonly board: Board;
  /** The file that the configuration was loaded from, and the defaults of a release under it. */
  readonly file: string;
  readonly defaults: DefaultsInUse | null;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Told every 500 ms that the event loop turns. */
  readonly notify: Pick<Notifier, 'watchdog' | 'restart'>;
  /** The board's pins; onoff's, unless told otherwise. */
  readonly openPins?: OpenPins;
  /** What this process logs, for who may read along. */
  readonly logTap?: LogTap;
  /** Has this process end, to be started again by its supervisor. */
  readonly end?: () => void;
}
