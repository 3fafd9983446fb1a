import { join } from 'node:path';
import { CutOffDisk } from './cut-off-disk.js';
import { waitUntil } from './held-call.js';
import { holdNoise } from './held-noise.js';
import { LabManager } from './lab-manager.js';
import { type LabRelease, LabReleases, type ReleaseName } from './lab-releases.js';
import { PoweredStation } from './powered-station.js';
import { inTime, type ScenarioContext, startScenarioSite } from './scenario.js';
import type { Site } from './site.js';
import { SITE_OF, type StationId } from './site-config.js';

/** How a job ended, as the fleet manager heard it. */
export interface Report {
  readonly state: string;
  readonly reason: string | null;
}

const STATION: StationId = 'door';
/** What the microphone gets of the speaker, and of its surroundings: the self-test needs both. */
const LOOP_GAIN_DB = -20;
const NOISE_DBFS = -60;
/** The line is this machine's own. */
const MAX_RATE_BPS = 1_000_000_000;
const DISK_BYTES = 400_000_000;
const ONLINE_WITHIN_MS = 15_000;

/** A site whose door station runs from slots, on a disk of its own where one can be mounted, with releases and a fleet manager. */
export class PoweredSite<N extends ReleaseName = ReleaseName> {
  readonly site: Site;
  readonly station: PoweredStation;
  readonly made: Readonly<Record<N, LabRelease>>;
  /** The folder of the slots. */
  readonly slots: string;
  readonly disk: CutOffDisk | null;
  readonly #manager: LabManager;
  readonly #undo: (() => Promise<unknown> | unknown)[];

  private constructor(parts: {
    site: Site;
    made: Readonly<Record<N, LabRelease>>;
    slots: string;
    disk: CutOffDisk | null;
    manager: LabManager;
    undo: (() => Promise<unknown> | unknown)[];
  }) {
    this.site = parts.site;
    this.made = parts.made;
    this.slots = parts.slots;
    this.disk = parts.disk;
    this.#manager = parts.manager;
    this.#undo = parts.undo;
    this.station = new PoweredStation(parts.site, STATION, parts.slots, parts.disk);
  }

  /** @param options.canMount the mounts are this process' own */
  static async start<N extends ReleaseName>(
    { dir, log }: ScenarioContext,
    options: { readonly names: readonly N[]; readonly first: N; readonly canMount: boolean; readonly flows?: boolean },
  ): Promise<PoweredSite<N>> {
    const { releases, ...rest } = await LabReleases.make(join(dir, 'releases'), options.names, log);
    const made = rest as unknown as Record<N, LabRelease>;
    const undo: (() => Promise<unknown> | unknown)[] = [];
    try {
      const home = join(dir, 'site', STATION);
      const disk = options.canMount ? await CutOffDisk.make(home, join(dir, 'disk'), DISK_BYTES) : null;
      if (disk !== null) undo.push(() => disk.unmount());
      const slots = join(home, 'slots');
      await releases.install(made[options.first], slots);
      const plan = { dir: slots, root: releases.root, maxRateBps: MAX_RATE_BPS };
      const how = { slots: { [STATION]: plan }, flows: options.flows ?? false };
      const site = await startScenarioSite({ dir, log }, how);
      undo.push(() => site.stop());
      await site.sound.joinSpeaker(STATION, LOOP_GAIN_DB);
      const noise = holdNoise({ device: site.sound.devices(STATION).feed, dbfs: NOISE_DBFS, env: site.sound.env });
      undo.push(() => noise.stop());
      log('starting: the fleet manager');
      const manager = await LabManager.start({
        ...{ dir: join(dir, 'manager'), run: join(dir, 'run-manager'), site: SITE_OF.indoor },
        ...{ url: `mqtts://127.0.0.1:${site.plan.brokerPort}`, pki: join(dir, 'site/indoor/state/pki') },
        ...{ repository: releases.folder, onLog: () => {} },
      });
      undo.push(() => manager.stop());
      await isOnline(manager);
      return new PoweredSite({ site, made, slots, disk, manager, undo });
    } catch (error) {
      for (const step of undo.reverse()) await step();
      throw error;
    }
  }

  /** The fleet manager gives the station a job, and hears how it ends. */
  async order({ manifest }: LabRelease): Promise<{ readonly ended: Promise<Report> }> {
    const ended = new Promise<Report>((resolve) => {
      const forget = this.#manager.onJob((job) => {
        if (job.version !== manifest.version || !job.isOver) return;
        forget();
        resolve(job.now);
      });
    });
    await this.#manager.ask.call('fleet.update', {
      ...{ stations: [STATION], kind: 'firmware', version: manifest.version, by: 'lab' },
      ...{ deadlineMs: null, isUrgent: true, mayRetry: false, baseUrl: null },
    });
    return { ended };
  }

  async stop(): Promise<void> {
    for (const step of this.#undo.reverse()) await step();
  }
}

async function isOnline(manager: LabManager): Promise<void> {
  const online = async (): Promise<boolean> => {
    const { stations } = await manager.ask.call('fleet.stations', {});
    return stations.some(({ station, isOnline: isThere }) => station === STATION && isThere);
  };
  await inTime(waitUntil(online), ONLINE_WITHIN_MS, 'the manager hears of the station');
}
