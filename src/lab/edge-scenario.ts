import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MqttLink } from '../adapters/mqtt/mqtt-link.js';
import { connectRpc } from '../adapters/sockets/rpc.js';
import { TapReceiver } from '../adapters/udp/tap-receiver.js';
import { loadConfig } from '../config/load.js';
import { systemClock } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { silentLogger } from '../core/logger.js';
import { FLOWS_SOCKET, flowsNotifications, flowsRequests } from '../protocol/flows-api.js';
import type { StationStatus } from '../protocol/station-api.js';
import { topic } from '../protocol/topics.js';
import { L16_RATE_HZ } from '../rtp/l16.js';
import { type EdgeDay, makeDay, planDay } from './edge-day.js';
import { type AlertFigures, alertFigures, type HeardAlert, savedPct } from './edge-figures.js';
import { streamedBytes } from './edge-stream.js';
import { waitUntil } from './held-call.js';
import { attempt, inTime, type ScenarioContext, sleep, startScenarioSite } from './scenario.js';
import type { Site } from './site.js';
import { flowsAre } from './site-flows.js';
import { feedRecording } from './sound-device.js';
import { LAB_RATE_HZ } from './speech.js';
import { StationWatch } from './station-watch.js';

/** What inference may cost, and what it must bring. */
const LEAST_SAVED_PCT = 60;
/** Alerts about nothing cost more than a sound that is missed; docs/hearing.md has how many the model hears. */
const LEAST_HEARD_PCT = 60;
const MOST_LATENCY_MS = 1_500;
const MOST_CPU_PCT = 10;
const MOST_RSS_BYTES = 120_000_000;
/** By then the last alert has come. */
const TAIL_MS = 3_000;
const HEARS_WITHIN_MS = 40_000;

export interface EdgeResult extends Partial<AlertFigures> {
  readonly ok: boolean;
  readonly failed: readonly string[];
  readonly [more: string]: unknown;
}

/**
 * A day at the door, of eighty seconds: sounds that no model was trained on are played into the door station's microphone, under
 * the flow that alerts and else drops. What reaches the site's broker is held against what was played, and against what it would have
 * taken to stream it all.
 */
export async function runEdgeScenario(context: ScenarioContext & { readonly day: number }): Promise<EdgeResult> {
  const failed: string[] = [];
  context.log('sounds are made');
  const day = await makeDay(planDay(context.day));
  const site = await startScenarioSite(context, { flows: 'edge-alert', hearing: true });
  const watch = await StationWatch.connect(site, 'door');
  let measured: Measured | undefined;
  try {
    context.log('waiting for flows and inference of the door station');
    const isUp = await attempt(failed, 'hearing', () => hearing(watch));
    if (isUp !== undefined) {
      context.log(`a day of ${day.seconds} s is played into its microphone`);
      measured = await attempt(failed, 'the day', () => playDay(site, watch, day));
    }
  } finally {
    watch.close();
    await site.stop();
  }
  if (measured === undefined) return { ok: false, failed };
  context.log('what streaming it all would have taken');
  const { config } = loadConfig(join(site.plan.dir, 'door.yaml'));
  const stream = (dtx: boolean) => streamedBytes(measured.captured, L16_RATE_HZ, { ...config.opus, dtx });
  const streamed = { configured: await stream(config.opus.dtx), withoutDtx: await stream(false) };
  const figures = alertFigures(measured.played, measured.alerts);
  const saved = {
    savedPct: savedPct(figures.alertBytes, streamed.configured),
    savedPctWithoutDtx: savedPct(figures.alertBytes, streamed.withoutDtx),
  };
  const { inference } = measured;
  failed.push(...faultsOf({ ...figures, ...saved, ...inference, isLedLit: measured.isLedLit }));
  return {
    ok: failed.length === 0,
    failed,
    day: context.day,
    ...figures,
    ...saved,
    streamedBytes: streamed,
    seconds: day.seconds,
    told: measured.alerts.map(({ label, atMs, score }) => ({
      label,
      atS: Math.round((atMs - measured.beganMs) / 10) / 100,
      score,
    })),
    played: day.events,
    edge: measured.edge,
    inference,
    microphoneLed: measured.isLedLit,
  };
}

interface ToldAlert extends HeardAlert {
  readonly score: number | null;
}

interface Measured {
  /** When the day's first sample was played. */
  readonly beganMs: number;
  readonly played: readonly { readonly label: EdgeDay['events'][number]['label']; readonly atMs: number }[];
  readonly alerts: readonly ToldAlert[];
  /** What the microphone gave, 16 kHz. */
  readonly captured: Int16Array;
  readonly edge: Omit<StationStatus['edge'], 'hours'>;
  readonly inference: {
    readonly cpuPct: number;
    readonly rssBytes: number;
    readonly modelRuns: number;
    readonly skippedRuns: number;
    readonly lostFrames: number;
  };
  readonly isLedLit: boolean;
}

/** Flows run, inference has its models, and hears. */
async function hearing(watch: StationWatch): Promise<true> {
  await flowsAre({ door: watch, indoor: watch }, 'door', {
    withinMs: HEARS_WITHIN_MS,
    fits: ({ state }) => state === 'running',
    text: 'running',
  });
  const hears = waitUntil(async () => (await status(watch)).hearing.isHearing);
  await inTime(hears, HEARS_WITHIN_MS, 'inference hears');
  return true;
}

async function playDay(site: Site, watch: StationWatch, day: EdgeDay): Promise<Measured> {
  const alerts: ToldAlert[] = [];
  const subscriber = await subscribe(site, (alert) => alerts.push(alert));
  const capture = await Capture.start(site, day.seconds + 30);
  try {
    const before = await status(watch);
    const startedMs = systemClock.nowMs();
    const times = await feedRecording({
      device: site.sound.devices('door').feed,
      rateHz: LAB_RATE_HZ,
      clock: systemClock,
      env: site.sound.env,
      samples: day.samples,
    });
    const isLedLit = (await status(watch)).microphoneLed;
    await sleep(TAIL_MS);
    const after = await status(watch);
    const tookMs = systemClock.nowMs() - startedMs;
    return {
      beganMs: times.timeOfMs(0),
      played: day.events.map(({ label, atS }) => ({ label, atMs: times.timeOfMs(Math.round(atS * LAB_RATE_HZ)) })),
      alerts,
      captured: capture.samples,
      edge: lessEdge(after.edge, before.edge),
      inference: costOf(before, after, tookMs),
      isLedLit,
    };
  } finally {
    await Promise.all([subscriber.close(), capture.stop()]);
  }
}

/** Somebody at the site's broker who hears its alerts. */
async function subscribe(site: Site, onAlert: (alert: ToldAlert) => void): Promise<MqttLink> {
  const pki = join(site.plan.dir, 'indoor', 'state', 'pki');
  const own = readFileSync(join(pki, 'clients', 'switchboard.pem'));
  const link = new MqttLink({
    url: `mqtts://127.0.0.1:${site.plan.brokerPort}`,
    ca: readFileSync(join(pki, 'ca.pem')),
    cert: own,
    key: own,
    clientId: 'lab-switchboard',
    clock: systemClock,
    logger: silentLogger,
  });
  link.subscribe(topic('home', 'door', 'up', 'evt/alert'), ({ body }) => {
    const text = Buffer.from(body).toString('utf8');
    const { data } = JSON.parse(text) as { data?: { detection?: { label?: string; score?: number } } };
    const { label = null, score = null } = data?.detection ?? {};
    onAlert({ label, score, atMs: systemClock.nowMs(), bytes: body.length });
  });
  link.start();
  await inTime(
    waitUntil(() => link.state.connected),
    5_000,
    'the broker takes a subscriber',
  );
  return link;
}

/** What the door's microphone gives, by a tap of the lab's own. */
class Capture {
  readonly #memory: Int16Array;
  #length = 0;
  #stop: () => Promise<void> = async () => {};

  static async start(site: Site, mostSeconds: number): Promise<Capture> {
    const capture = new Capture(mostSeconds);
    const receiver = await TapReceiver.open({
      clock: systemClock,
      refused: new Counters(),
      sound: ({ samples }) => capture.#take(samples),
    });
    const rpc = await connectRpc({
      path: join(site.plan.runDir, 'door', FLOWS_SOCKET),
      requests: flowsRequests,
      notifications: flowsNotifications,
      onNotification: () => {},
      onClose: () => {},
      timeoutMs: 5_000,
    });
    await rpc.call('audio.tap', { source: 'microphone', port: receiver.port });
    capture.#stop = async () => {
      rpc.close();
      await receiver.close();
    };
    return capture;
  }

  private constructor(mostSeconds: number) {
    this.#memory = new Int16Array(mostSeconds * L16_RATE_HZ);
  }

  get samples(): Int16Array {
    return this.#memory.subarray(0, this.#length);
  }

  stop(): Promise<void> {
    return this.#stop();
  }

  #take(samples: Int16Array): void {
    const room = this.#memory.length - this.#length;
    this.#memory.set(samples.subarray(0, room), this.#length);
    this.#length += Math.min(room, samples.length);
  }
}

function status(watch: StationWatch): Promise<StationStatus> {
  return watch.client.call('station.status', {});
}

function lessEdge(after: StationStatus['edge'], before: StationStatus['edge']): Measured['edge'] {
  const { hours: _, ...sum } = after;
  const keys = Object.keys(sum) as (keyof typeof sum)[];
  return Object.fromEntries(keys.map((key) => [key, sum[key] - before[key]])) as unknown as Measured['edge'];
}

function costOf(before: StationStatus, after: StationStatus, tookMs: number): Measured['inference'] {
  const [first, last] = [before.hearing.figures, after.hearing.figures];
  const since = (key: 'cpuMs' | 'modelRuns' | 'skippedRuns' | 'lostFrames') => (last?.[key] ?? 0) - (first?.[key] ?? 0);
  return {
    cpuPct: Math.round((1_000 * since('cpuMs')) / tookMs) / 10,
    rssBytes: last?.memoryRssBytes ?? 0,
    modelRuns: since('modelRuns'),
    skippedRuns: since('skippedRuns'),
    lostFrames: since('lostFrames'),
  };
}

function faultsOf(
  of: AlertFigures & { savedPct: number; cpuPct: number; rssBytes: number; isLedLit: boolean },
): string[] {
  const faults: string[] = [];
  if (of.falseAlerts > 0) faults.push(`${of.falseAlerts} alerts were about nothing that was played`);
  const played = Object.values(of.alerts).reduce((sum, one) => sum + one.played, 0);
  const heardPct = Math.round((100 * (played - of.missed)) / Math.max(1, played));
  if (heardPct < LEAST_HEARD_PCT) faults.push(`${heardPct} % of the sounds were told of, not ${LEAST_HEARD_PCT}`);
  if (of.savedPct < LEAST_SAVED_PCT) faults.push(`${of.savedPct} % were saved, not ${LEAST_SAVED_PCT}`);
  const { p95 } = of.latencyMs;
  if (p95 === null || p95 > MOST_LATENCY_MS) faults.push(`alerts took ${p95} ms (p95), not ${MOST_LATENCY_MS}`);
  if (of.cpuPct > MOST_CPU_PCT) faults.push(`inference took ${of.cpuPct} % of a core, not ${MOST_CPU_PCT}`);
  if (of.rssBytes > MOST_RSS_BYTES) faults.push(`inference holds ${of.rssBytes} bytes, not ${MOST_RSS_BYTES}`);
  if (!of.isLedLit) faults.push('the LED of the microphone was not lit');
  return faults;
}
