import { systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import type { LabRelease } from './lab-releases.js';
import { PoweredSite } from './powered-site.js';
import type { Moment } from './powered-station.js';
import { inTime, type ScenarioContext } from './scenario.js';

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
  const place = await PoweredSite.start({ dir, log }, { names, first: 'smallOld', canMount });
  try {
    const { made, disk } = place;
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
    const bench = new SampleBench(place, untilMs, log);
    for (const job of jobs) await bench.carryOut(job, made.smallLine);
    const { each, reports, left, failed } = bench;
    const answered = each.filter(({ answeredMs }) => answeredMs !== null).length;
    return { cases: each.length, answered, mechanism: disk === null ? KILLED : CUT, each, reports, left, failed };
  } finally {
    await place.stop();
  }
}

class SampleBench {
  readonly each: SampleCase[] = [];
  readonly reports: string[] = [];
  readonly left: string[] = [];
  readonly failed: string[] = [];
  readonly #place: Pick<PoweredSite, 'order' | 'station'>;
  readonly #untilMs: number;
  readonly #log: (text: string) => void;

  constructor(place: Pick<PoweredSite, 'order' | 'station'>, untilMs: number, log: (text: string) => void) {
    this.#place = place;
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
      const { ended } = await this.#place.order(release);
      for (const cut of cuts) await this.#cut(name, release, cut);
      const report = await inTime(ended, ENDS_WITHIN_MS, 'its report');
      this.reports.push(`${name}: ${report.state}${report.reason === null ? '' : `, ${report.reason}`}`);
      if (report.state !== ends) this.failed.push(`sample: ${name}: ${report.state}, not ${ends}: ${report.reason}`);
      if (reason !== null && !reason.test(report.reason ?? '')) {
        this.failed.push(`sample: ${name}: failed for another reason: ${report.reason}`);
      }
      await this.#place.station.answered();
      const { version, isConfirmed } = await this.#place.station.release();
      if (version !== good.manifest.version || !isConfirmed) {
        this.failed.push(`sample: ${name}: ${version} runs in the end${isConfirmed ? '' : ', unconfirmed'}`);
      }
    } catch (error) {
      this.failed.push(`sample: ${name}: ${errorText(error)}`);
    }
  }

  async #cut(release: string, { manifest }: LabRelease, cut: Moment): Promise<void> {
    const at = `${cut.step} ${cut.isDone === true ? 'done' : 'begun'}`;
    const found = await this.#place.station.cutAt(manifest.version, cut, STEP_WITHIN_MS);
    this.#log(`sample: the power went with ${at}; the disk says ${found}`);
    const answer = await this.#place.station.answered().catch(() => null);
    this.each.push({ release, at, found, answeredMs: answer?.afterMs ?? null, by: answer?.by ?? null });
    if (answer === null) throw new AppError('too-late', `after the cut in ${at} no press is answered`);
  }
}
