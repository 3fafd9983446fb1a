import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { UpdateJournal } from '../fleet/update-journal.js';
import { type CutOffDisk, powerCut } from './cut-off-disk.js';
import { inTime } from './scenario.js';
import type { Site } from './site.js';
import type { StationId } from './site-config.js';
import { buttonLine } from './site-control.js';
import { StationWatch } from './station-watch.js';

/** A place in a job: as its step has been written down as begun, or as done. */
export interface Moment {
  readonly step: NonNullable<UpdateJournal['at']>['do'];
  readonly isDone?: boolean;
}

/** From the first press until somebody indoors had answered, and which release the station was of. */
export interface Answer {
  readonly afterMs: number;
  readonly by: string | null;
}

const JOB_FILE = 'job.json';
const RINGS_WITHIN_MS = 400;
const TALKS_WITHIN_MS = 3_000;
const ANSWERED_WITHIN_MS = 45_000;
const ENDS_WITHIN_MS = 20_000;

/** The door station of a site, which runs from slots: its power goes and comes back, its bell is pressed. */
export class PoweredStation {
  readonly #site: Site;
  readonly #id: StationId;
  readonly #slots: string;
  readonly #disk: CutOffDisk | null;

  /** @param disk what its slots and its state are on; null: a disk that loses nothing, since it can't be cut off */
  constructor(site: Site, id: StationId, slots: string, disk: CutOffDisk | null) {
    this.#site = site;
    this.#id = id;
    this.#slots = slots;
    this.#disk = disk;
  }

  /**
   * Cuts the power as soon as the job to `version` has come to a moment, and lets it come back.
   * @returns what the disk says then
   * @throws AppError `too-late` where it does not come there
   */
  async cutAt(version: string, { step, isDone = false }: Moment, withinMs: number): Promise<string> {
    const texts = [`"version":"${version}"`, `"at":{"do":"${step}",`, `"isDone":${isDone}`];
    const cut = await powerCut(this.#disk, { folder: this.#slots, name: JOB_FILE, texts });
    try {
      await inTime(cut.come, withinMs, `${step} ${isDone ? 'done' : 'begun'} (${this.said})`);
    } finally {
      cut.giveUp();
    }
    await this.#kill();
    await this.#disk?.comeBack();
    const { said } = this;
    const { station, media } = this.#site.services[this.#id];
    await Promise.all([media.start(), station.start()]);
    return said;
  }

  /** What its disk says of the update. */
  get said(): string {
    try {
      const { journal } = JSON.parse(readFileSync(join(this.#slots, JOB_FILE), 'utf8')) as { journal: UpdateJournal };
      const { at } = journal;
      return at === null ? 'nothing begun' : `${at.do} ${at.isDone ? 'done' : 'begun'}`;
    } catch {
      return 'no job';
    }
  }

  /** Presses the bell until it rings indoors and somebody there answers. @throws AppError `too-late` */
  async answered(): Promise<Answer> {
    const startedMs = systemClock.nowMs();
    const indoor = await StationWatch.connect(this.#site, 'indoor');
    try {
      for (;;) {
        const since = systemClock.nowMs();
        if (since - startedMs > ANSWERED_WITHIN_MS) throw new AppError('too-late', 'presses are not answered any more');
        await this.#press(this.#id, 'bell');
        if ((await indoor.callIs('ringing-in', since, RINGS_WITHIN_MS).catch(() => null)) === null) continue;
        await this.#press('indoor', 'bell');
        const talks = await indoor.callIs('answered', since, TALKS_WITHIN_MS).catch(() => null);
        if (talks === null) continue;
        const by = (await this.release().catch(() => null))?.version ?? null;
        await this.#press(this.#id, 'open');
        // A station that ends hangs up as well.
        await indoor.callIs('ended', talks.atMs, ENDS_WITHIN_MS);
        return { afterMs: Math.round(talks.atMs - startedMs), by };
      }
    } finally {
      indoor.close();
    }
  }

  /** The release whose processes run, as the station says itself. */
  async release(): Promise<{ version: string | null; isConfirmed: boolean }> {
    const client = await this.#site.connect(this.#id);
    try {
      const { current, slots } = await client.call('update.status', {});
      return slots[current];
    } finally {
      client.close();
    }
  }

  /** Its processes and theirs. */
  async #kill(): Promise<void> {
    const { station, media } = this.#site.services[this.#id];
    // In this order: whoever ends unasked is started again.
    const ended = [station.stop(), media.stop()];
    for (const { pid } of [station, media]) if (pid !== undefined) process.kill(-pid, 'SIGKILL');
    await Promise.all(ended);
  }

  #press(id: StationId, button: 'bell' | 'open'): Promise<void> {
    return this.#site.boards[id].press(buttonLine(this.#site, id, button));
  }
}
