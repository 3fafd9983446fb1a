import { join } from 'node:path';
import { systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { CutOffDisk } from './cut-off-disk.js';
import { waitUntil } from './held-call.js';
import { holdNoise } from './held-noise.js';
import { LabManager } from './lab-manager.js';
import { type LabRelease, LabReleases } from './lab-releases.js';
import { type Moment, ordered, PoweredStation } from './powered-station.js';
import { inTime, type ScenarioContext, startScenarioSite } from './scenario.js';
import { SITE_OF, type StationId } from './site-config.js';

export interface SampleCase {
  /** How the release behaves. */
  readonly release: string;
  /** The step, as it was written down when the power went, and as the disk said when it came back. */
  readonly at: string;
  readonly found: string;
  /** From the first press until somebody indoors had answered; null: nobody could. */
  readonly answeredMs: number | null;
  /** What answered. */
  readonly by: string | null;
}

export interface SampleResult {
  readonly cases: number;
  readonly answered: number;
  readonly mechanism: string;
  readonly each: readonly SampleCase[];
  /** What the fleet manager heard in the end. */
  readonly reports: readonly string[];
  /** Releases for which there was no time. */
  readonly left: readonly string[];
  readonly failed: readonly string[];
}

interface Job {
  readonly name: string;
  readonly release: LabRelease;
  readonly cuts: readonly Moment[];
  readonly ends: 'succeeded' | 'failed';
  /** Of the report. */
  readonly reason: RegExp | null;
}

const STATION: StationId = 'door';
const LOOP_GAIN_DB = -20;
const NOISE_DBFS = -60;
const MAX_RATE_BPS = 1_000_000_000;
const DISK_BYTES = 400_000_000;
const ONLINE_WITHIN_MS = 15_000;
const STEP_WITHIN_MS = 40_000;
const ENDS_WITHIN_MS = 60_000;
const CUT =
  "the station's slots and state on an ext4 of their own: shut down by the kernel (EXT4_IOC_SHUTDOWN, nothing of its journal is " +
  'flushed), its processes killed, mounted again, its journal replayed. A disk that keeps what it said to have flushed';
const KILLED = 'SIGKILL of all processes of the station; its disk loses nothing, since only root can cut one off';

/**
 * A real station in slots is updated, and its power goes in the middle of it, in some of the steps; it is started again by the launcher,
 * and its bell is pressed each time.
 * @param canMount the mounts are this process' own
 */
export async function runPowercutSample(
  { dir, log }: ScenarioContext,
  { canMount, untilMs }: { readonly canMount: boolean; readonly untilMs: number },
): Promise<SampleResult> {
  const names = ['smallOld', 'smallLine', 'smallMute', 'smallCrashing'] as const;
  const { releases, ...made } = await LabReleases.make(join(dir, 'releases'), names, log);
  const undo: (() => Promise<unknown> | unknown)[] = [];
  try {
    const home = join(dir, 'site', STATION);
    const disk = canMount ? await CutOffDisk.make(home, join(dir, 'disk'), DISK_BYTES) : null;
    if (disk !== null) undo.push(() => disk.unmount());
    const slots = join(home, 'slots');
    await releases.install(made.smallOld, slots);
    const plan = { dir: slots, root: releases.root, maxRateBps: MAX_RATE_BPS };
    const site = await startScenarioSite({ dir, log }, { slots: { [STATION]: plan } });
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
    const station = new PoweredStation(site, STATION, slots, disk);
    const jobs: readonly Job[] = [
      {
        ...{ name: 'good', release: made.smallLine, ends: 'succeeded', reason: null },
        cuts: [{ step: 'unpack' }, { step: 'switch', isDone: true }, { step: 'confirm' }, { step: 'raise-floor' }],
      },
      {
        ...{ name: 'crashing', release: made.smallCrashing, ends: 'failed', reason: /not confirmed after 3 starts/ },
        cuts: [{ step: 'restart' }],
      },
      {
        ...{ name: 'mute', release: made.smallMute, ends: 'failed', reason: /sound/ },
        cuts: [{ step: 'switch' }, { step: 'switch-back' }],
      },
    ];
    const bench = new SampleBench(station, manager, untilMs, log);
    for (const job of jobs) await bench.carryOut(job, made.smallLine);
    const { each, reports, left, failed } = bench;
    const answered = each.filter(({ answeredMs }) => answeredMs !== null).length;
    return { cases: each.length, answered, mechanism: disk === null ? KILLED : CUT, each, reports, left, failed };
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

class SampleBench {
  readonly each: SampleCase[] = [];
  readonly reports: string[] = [];
  readonly left: string[] = [];
  readonly failed: string[] = [];
  readonly #station: PoweredStation;
  readonly #manager: LabManager;
  readonly #untilMs: number;
  readonly #log: (text: string) => void;

  constructor(station: PoweredStation, manager: LabManager, untilMs: number, log: (text: string) => void) {
    this.#station = station;
    this.#manager = manager;
    this.#untilMs = untilMs;
    this.#log = log;
  }

  /** @param good what runs in the end */
  async carryOut({ name, release, cuts, ends, reason }: Job, good: LabRelease): Promise<void> {
    if (systemClock.nowMs() > this.#untilMs) {
      this.left.push(name);
      return;
    }
    this.#log(`sample: a release that is ${name}`);
    try {
      const { ended } = await ordered(this.#manager, STATION, release);
      for (const cut of cuts) await this.#cut(name, release, cut);
      const report = await inTime(ended, ENDS_WITHIN_MS, 'its report');
      this.reports.push(`${name}: ${report.state}${report.reason === null ? '' : `, ${report.reason}`}`);
      if (report.state !== ends) this.failed.push(`sample: ${name}: ${report.state}, not ${ends}: ${report.reason}`);
      if (reason !== null && !reason.test(report.reason ?? '')) {
        this.failed.push(`sample: ${name}: failed for another reason: ${report.reason}`);
      }
      await this.#station.answered();
      const { version, isConfirmed } = await this.#station.release();
      if (version !== good.manifest.version || !isConfirmed) {
        this.failed.push(`sample: ${name}: ${version} runs in the end${isConfirmed ? '' : ', unconfirmed'}`);
      }
    } catch (error) {
      this.failed.push(`sample: ${name}: ${errorText(error)}`);
    }
  }

  async #cut(release: string, { manifest }: LabRelease, cut: Moment): Promise<void> {
    const at = `${cut.step} ${cut.isDone === true ? 'done' : 'begun'}`;
    const found = await this.#station.cutAt(manifest.version, cut, STEP_WITHIN_MS);
    this.#log(`sample: the power went with ${at}; the disk says ${found}`);
    const answer = await this.#station.answered().catch(() => null);
    this.each.push({ release, at, found, answeredMs: answer?.afterMs ?? null, by: answer?.by ?? null });
    if (answer === null) throw new AppError('too-late', `after the cut in ${at} no press is answered`);
  }
}

async function isOnline(manager: LabManager): Promise<void> {
  const online = async (): Promise<boolean> => {
    const { stations } = await manager.ask.call('fleet.stations', {});
    return stations.some(({ station, isOnline: isThere }) => station === STATION && isThere);
  };
  await inTime(waitUntil(online), ONLINE_WITHIN_MS, 'the manager hears of the station');
}
