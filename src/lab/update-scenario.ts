import { once } from 'node:events';
import { join } from 'node:path';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { JobView } from '../protocol/manager-api.js';
import { waitUntil } from './held-call.js';
import { holdNoise } from './held-noise.js';
import { type BrokerName, startForeignBroker } from './lab-broker.js';
import { LabManager } from './lab-manager.js';
import { type LabRelease, LabReleases } from './lab-releases.js';
import { attempt, inTime, type ScenarioContext, startScenarioSite } from './scenario.js';
import type { Site } from './site.js';
import { SITE_OF, type StationId } from './site-config.js';
import { buttonLine } from './site-control.js';
import { StationWatch } from './station-watch.js';

const STATION: StationId = 'door';
/** What the microphone gets of the speaker, and of its surroundings: the self-test needs both. */
const LOOP_GAIN_DB = -20;
const NOISE_DBFS = -60;
/** The line is this machine's own. */
const MAX_RATE_BPS = 1_000_000_000;
const MOST_UPDATE_MS = 70_000;
const ONLINE_WITHIN_MS = 15_000;
const REPORTED_WITHIN_MS = 10_000;
const RINGS_WITHIN_MS = 400;
const ANSWERED_WITHIN_MS = 30_000;
/** What the lab asks of each. */
const MOST_GAP_MS = 10_000;
const MOST_BACK_MS = 60_000;
const MOST_DELTA_PCT = 5;

interface UpdateFigures {
  readonly state: string;
  readonly reason: string | null;
  readonly version: string;
  /** What the station runs afterwards. */
  readonly runs: string;
  /** Of what is desired then, which the station reports that it has. */
  readonly rev: number;
  /** Moved over MQTT for it: metadata, manifest and chunks, as they are sent. */
  readonly bytes: number;
  /** Of the whole release, as it is sent. */
  readonly size: number;
  /** `bytes` of `size`, in percent. */
  readonly deltaPct: number;
  /** The longest time in which a press at the door was not answered by a bell indoors; null where no process was restarted. */
  readonly serviceGapMs: number | null;
  /** From the first order to restart until the release before ran again, and that was told; null where the new one stayed. */
  readonly rolledBackMs: number | null;
  readonly durationMs: number;
  /** Each state and step, and when it was told after the order, in ms. */
  readonly steps: readonly string[];
}

export interface UpdateScenarioResult {
  readonly ok: boolean;
  readonly failed: readonly string[];
  readonly broker: BrokerName;
  /** What the releases are. */
  readonly release: {
    readonly files: number;
    readonly sizeBytes: number;
    readonly storedBytes: number;
    readonly without: string;
  } | null;
  readonly good: UpdateFigures | null;
  /** Its loudspeaker is silent. */
  readonly bad: UpdateFigures | null;
  /** A line more than the good one. */
  readonly line: UpdateFigures | null;
}

/** A station that runs from slots is updated by a fleet manager over the site's broker: well, badly, and by a line. */
export async function runUpdateScenario(
  context: ScenarioContext,
  brokerName: BrokerName = 'mosquitto',
): Promise<UpdateScenarioResult> {
  const { dir, log } = context;
  const failed: string[] = [];
  const names = ['old', 'good', 'bad', 'line'] as const;
  const { releases, old, good, bad, line } = await LabReleases.make(join(dir, 'repository'), names, log);
  const slots = join(dir, 'slots');
  log('installing the release that is there already');
  await releases.install(old, slots);
  const plan = { dir: slots, root: releases.root, maxRateBps: MAX_RATE_BPS };
  const undo: (() => Promise<void> | void)[] = [];
  try {
    const foreign = brokerName === 'mosquitto' ? undefined : await startForeignBroker(brokerName, context);
    if (foreign !== undefined) undo.push(() => foreign.stop());
    const startManager = async (port: number): Promise<LabManager> => {
      log('starting: the fleet manager');
      const started = await LabManager.start({
        dir: join(dir, 'manager'),
        run: join(dir, 'run-manager'),
        url: `mqtts://127.0.0.1:${port}`,
        pki: join(dir, 'site/indoor/state/pki'),
        site: SITE_OF.indoor,
        repository: releases.folder,
        onLog: () => {},
      });
      undo.push(() => started.stop());
      return started;
    };
    // RabbitMQ keeps messages for who asks for the very topic alone: a manager that comes later hears of no station there.
    const early = foreign === undefined ? undefined : await startManager(foreign.port);
    const slotsOf = { [STATION]: plan };
    const site = await startScenarioSite(context, { slots: slotsOf, foreignBrokerPort: foreign?.port });
    undo.push(() => site.stop());
    await site.sound.joinSpeaker(STATION, LOOP_GAIN_DB);
    const noise = holdNoise({ device: site.sound.devices(STATION).feed, dbfs: NOISE_DBFS, env: site.sound.env });
    undo.push(() => noise.stop());
    const manager = early ?? (await startManager(site.plan.brokerPort));
    await isOnline(manager);
    const bench = new UpdateBench(site, manager);
    const update = async (what: string, release: LabRelease): Promise<UpdateFigures | null> => {
      log(what);
      return (await attempt(failed, what, () => bench.update(release))) ?? null;
    };
    const first = await update('a good release', good);
    const second = await update('a release whose loudspeaker is silent', bad);
    const third = await update('a release with a line changed', line);
    failed.push(...mistakes({ good: first, bad: second, line: third }, old));
    return {
      ok: failed.length === 0,
      failed,
      broker: brokerName,
      release: {
        files: good.manifest.files.length,
        sizeBytes: good.manifest.sizeBytes,
        storedBytes: good.storedBytes,
        without: 'Node-RED: half of the files of a whole release',
      },
      ...{ good: first, bad: second, line: third },
    };
  } finally {
    for (const step of undo.reverse()) await step();
  }
}

/** What it should have been. */
function mistakes(
  { good, bad, line }: Readonly<Record<'good' | 'bad' | 'line', UpdateFigures | null>>,
  old: LabRelease,
): string[] {
  const wrong: string[] = [];
  const must = (isSo: boolean, text: string): void => void (isSo || wrong.push(text));
  for (const [name, one] of Object.entries({ good, line })) {
    if (one === null) continue;
    must(one.state === 'succeeded', `${name}: ${one.state}: ${one.reason}`);
    must(one.runs === one.version, `${name}: the station runs ${one.runs}, not ${one.version}`);
  }
  if (bad !== null) {
    must(bad.state === 'failed', `bad: ${bad.state}`);
    must(bad.runs === (good?.version ?? old.manifest.version), `bad: the station runs ${bad.runs}`);
    must(/sound/.test(bad.reason ?? ''), `bad: failed for another reason: ${bad.reason}`);
  }
  for (const [name, one] of Object.entries({ good, bad, line })) {
    if (one === null) continue;
    const gapMs = one.serviceGapMs;
    must(gapMs !== null && gapMs <= MOST_GAP_MS, `${name}: no press was answered for ${gapMs} ms`);
    must(one.bytes > 0 && one.bytes <= one.size, `${name}: ${one.bytes} bytes were moved of ${one.size}`);
  }
  const backMs = bad?.rolledBackMs ?? null;
  must(bad === null || (backMs !== null && backMs <= MOST_BACK_MS), `bad: went back after ${backMs} ms`);
  must((line?.deltaPct ?? 0) <= MOST_DELTA_PCT, `line: ${line?.deltaPct} % were moved for a changed line`);
  return wrong;
}

/** Orders updates, and presses the bell while the station restarts. */
class UpdateBench {
  readonly #site: Site;
  readonly #manager: LabManager;
  readonly #gaps: Promise<number>[] = [];

  constructor(site: Site, manager: LabManager) {
    this.#site = site;
    this.#manager = manager;
    const { station } = site.services[STATION];
    station.on('restart', (service) => {
      if (service === 'everything') this.#gaps.push(this.#answeredAgain());
    });
  }

  async update({ manifest, storedBytes }: LabRelease): Promise<UpdateFigures> {
    const { ask } = this.#manager;
    const startedMs = systemClock.nowMs();
    const steps: string[] = [];
    const before = await this.#servedBytes();
    this.#gaps.length = 0;
    let restartedMs: number | null = null;
    let last = '';
    const note = ({ now }: JobView): void => {
      const text = `${now.state}${now.step === null ? '' : ` ${now.step}`}`;
      if (text === last) return;
      last = text;
      const atMs = systemClock.nowMs();
      steps.push(`${text} ${Math.round(atMs - startedMs)}`);
      if (now.step === 'restart') restartedMs ??= atMs;
    };
    const ended = new Promise<JobView>((resolve) => {
      const forget = this.#manager.onJob((job) => {
        if (job.version !== manifest.version) return;
        note(job);
        if (!job.isOver) return;
        forget();
        resolve(job);
      });
    });
    const order = { stations: [STATION], kind: 'firmware', version: manifest.version, by: 'lab' } as const;
    const how = { deadlineMs: null, isUrgent: true, mayRetry: false, baseUrl: null };
    await ask.call('fleet.update', { ...order, stations: [...order.stations], ...how });
    const { now } = await inTime(ended, MOST_UPDATE_MS, `the update to ${manifest.version} (${last})`);
    const durationMs = Math.round(systemClock.nowMs() - startedMs);
    const hasGoneBack = now.state !== 'succeeded' && restartedMs !== null;
    const rolledBackMs = hasGoneBack ? Math.round(systemClock.nowMs() - (restartedMs ?? 0)) : null;
    const gaps = await Promise.all(this.#gaps);
    const bytes = (await this.#servedBytes()) - before;
    return {
      ...{ state: now.state, reason: now.reason, version: manifest.version, runs: await this.#runs() },
      rev: await inTime(this.#rev(), REPORTED_WITHIN_MS, 'the station reports the rev that is desired'),
      ...{ bytes, size: storedBytes, deltaPct: Math.round((10_000 * bytes) / storedBytes) / 100 },
      serviceGapMs: gaps.length === 0 ? null : Math.max(...gaps),
      ...{ rolledBackMs, durationMs, steps },
    };
  }

  /** From now on, when the station is told to end, until a press at the door rings indoors. It is pressed again and again. */
  async #answeredAgain(): Promise<number> {
    const startedMs = systemClock.nowMs();
    // What the old process still answers is no proof of the new one.
    await once(this.#site.services[STATION].station, 'exited');
    const indoor = await StationWatch.connect(this.#site, 'indoor');
    try {
      for (;;) {
        const since = systemClock.nowMs();
        if (since - startedMs > ANSWERED_WITHIN_MS) throw new AppError('too-late', 'presses are not answered any more');
        await this.#press('bell');
        const rings = await indoor.callIs('ringing-in', since, RINGS_WITHIN_MS).catch(() => null);
        if (rings === null) continue;
        const ended = indoor.callIs('ended', rings.atMs);
        await this.#press('open');
        await ended;
        return Math.round(rings.atMs - startedMs);
      }
    } finally {
      indoor.close();
    }
  }

  #press(button: 'bell' | 'open'): Promise<void> {
    return this.#site.boards[STATION].press(buttonLine(this.#site, STATION, button));
  }

  async #servedBytes(): Promise<number> {
    return (await this.#manager.ask.call('manager.status', {})).served?.bytes ?? 0;
  }

  /** Of what is desired, once the station reports that it runs that: after a job that failed, what was desired before. */
  async #rev(): Promise<number> {
    const { ask } = this.#manager;
    let rev: number | undefined;
    await waitUntil(async () => {
      const { station } = await ask.call('fleet.station', { station: STATION });
      rev = station.desired.find(({ kind }) => kind === 'firmware')?.rev;
      return rev !== undefined && station.reports.find(({ kind }) => kind === 'firmware')?.body.rev === rev;
    });
    return rev ?? 0;
  }

  async #runs(): Promise<string> {
    const { station } = await this.#manager.ask.call('fleet.station', { station: STATION });
    return station.release;
  }
}

async function isOnline(manager: LabManager): Promise<void> {
  const online = async (): Promise<boolean> => {
    const { stations } = await manager.ask.call('fleet.stations', {});
    return stations.some(({ station, isOnline: isThere }) => station === STATION && isThere);
  };
  await inTime(waitUntil(online), ONLINE_WITHIN_MS, 'the manager hears of the station');
}
