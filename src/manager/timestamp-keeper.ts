import { readFile } from 'node:fs/promises';
import { openSigningKey, readKeyFolder } from '../adapters/tuf/key-folder.js';
import { TufRepository } from '../adapters/tuf/repository.js';
import type { Clock, Timer } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { Logger } from '../core/logger.js';

/** A timestamp is good for a week, so a day or two without us is no harm. */
const EVERY_MS = 12 * 3_600_000;
const AGAIN_MS = 600_000;

export interface TimestampKeeperOptions {
  /** Of the repository. */
  readonly folder: string;
  /** Folder of the keys of timestamp and snapshot. */
  readonly keys: string;
  readonly passphraseFile: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Vouches each half day for what a repository has, by the keys of timestamp and snapshot, so that stations don't think it frozen. */
export class TimestampKeeper {
  readonly #options: TimestampKeeperOptions;
  #timer: Timer | undefined;
  #isClosed = false;

  constructor(options: TimestampKeeperOptions) {
    this.#options = options;
  }

  /** Now, and from then on by itself; a fault is logged and tried again. */
  async start(): Promise<void> {
    const { clock, logger } = this.#options;
    let nextMs = EVERY_MS;
    try {
      await this.refresh();
    } catch (error) {
      logger.error({ error: errorText(error) }, 'the timestamp of the repository was not renewed');
      nextMs = AGAIN_MS;
    }
    if (!this.#isClosed) this.#timer = clock.after(nextMs, () => void this.start());
  }

  /** @throws AppError `keys-too-few`, `keys-missing`, `key-locked`, `repository-damaged` */
  async refresh(): Promise<void> {
    const { folder, keys, passphraseFile, clock } = this.#options;
    const passphrase = (await readFile(passphraseFile, 'utf8')).trimEnd();
    const repository = new TufRepository({ dir: folder, clock });
    const wanted = await repository.online();
    const own = (await readKeyFolder(keys)).filter(({ keyId, hasPrivate }) => hasPrivate && wanted.has(keyId));
    const outcome = await repository.sign(await Promise.all(own.map((key) => openSigningKey(key, passphrase))));
    if (outcome.published.includes('timestamp')) return;
    throw new AppError('keys-too-few', `${keys} has not the keys of timestamp and snapshot`, {
      remedy: 'They are where the repository is served',
    });
  }

  close(): void {
    this.#isClosed = true;
    this.#timer?.cancel();
  }
}
