import { readFileSync } from 'node:fs';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { holdTone, longestSilenceMs, toneHeard } from './held-tone.js';
import {
  attempt,
  inTime,
  type ScenarioContext,
  sleep,
  startScenarioSite,
  talk,
  type Watches,
  watchBoth,
} from './scenario.js';
import type { Site } from './site.js';
import { STATIONS, type StationId } from './site-config.js';
import { flowsAre } from './site-flows.js';
import { DeviceRecorder } from './sound-device.js';
import { LAB_RATE_HZ } from './speech.js';

export interface KillResult {
  /** At one of its two ends the call was no longer answered when the process was back. */
  readonly callEnded: boolean | null;
  /** The longest silence of a tone that is held both ways, at the speaker where it was longer. */
  readonly silenceMs: number | null;
  /** From SIGKILL until the process was ready again, and both stations were on the broker. */
  readonly backMs: number | null;
}

/** Whose process it is. The indoor station hosts the site: its end is the broker's too. */
const VICTIMS = {
  media: { id: 'door', process: 'media' },
  station: { id: 'door', process: 'station' },
  flows: { id: 'door', process: 'flows' },
  indoorMedia: { id: 'indoor', process: 'media' },
  indoorStation: { id: 'indoor', process: 'station' },
  indoorFlows: { id: 'indoor', process: 'flows' },
  mosquitto: { id: 'indoor', process: 'mosquitto' },
} as const;
type Victim = keyof typeof VICTIMS;
const victims = Object.keys(VICTIMS) as Victim[];

export interface KillsResult extends Readonly<Record<Victim, KillResult>> {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /** The same measure with nothing killed: what this machine's own hiccups cost. */
  readonly controlSilenceMs: number | null;
}

/** Speech passes through the media process, and through nothing else. */
const MOST_MEDIA_SILENCE_MS = 1_000;
const MOST_SILENCE_MS = 40;
const BACK_WITHIN_MS = 30_000;
/** By then whoever believes that the call is over has said so. */
const SETTLED_MS = 1_500;
const CONTROL_MS = 5_000;
const CALL_MOST_S = 75;

const none: KillResult = { callEnded: null, silenceMs: null, backMs: null };

/** Each process of a site is ended by SIGKILL in a call of its own: it must come back by itself, and the call go on. */
export async function runKillScenario(context: ScenarioContext): Promise<KillsResult> {
  const failed: string[] = [];
  const site = await startScenarioSite(context, { flows: true });
  let control: { readonly silenceMs: number } | undefined;
  const results = Object.fromEntries(victims.map((victim) => [victim, none])) as Record<Victim, KillResult>;
  try {
    context.log('waiting for the flows of both stations');
    const running = { withinMs: 40_000, fits: ({ state }: { state: string }) => state === 'running', text: 'running' };
    const flowsRun = (watches: Watches) => Promise.all(STATIONS.map((id) => flowsAre(watches, id, running)));
    const ready = await attempt(failed, 'flows', () => watching(site, flowsRun));
    if (ready !== undefined) {
      context.log('a call with nothing killed');
      control = await attempt(failed, 'control', () => duringCall(site, 'door', () => sleep(CONTROL_MS)));
    }
    for (const victim of ready === undefined ? [] : victims) {
      context.log(`${victim} is killed in mid-call`);
      results[victim] = (await attempt(failed, victim, () => killInCall(site, victim))) ?? none;
      failed.push(...faultsOf(victim, results[victim]));
    }
  } finally {
    await site.stop();
  }
  return { ok: failed.length === 0, failed, controlSilenceMs: control?.silenceMs ?? null, ...results };
}

function faultsOf(victim: Victim, { callEnded, silenceMs }: KillResult): string[] {
  const mostMs = VICTIMS[victim].process === 'media' ? MOST_MEDIA_SILENCE_MS : MOST_SILENCE_MS;
  const faults = callEnded === true ? [`${victim}: the call has ended`] : [];
  if (silenceMs !== null && silenceMs > mostMs) {
    faults.push(`${victim}: ${silenceMs} ms of the call were silent, more than ${mostMs}`);
  }
  return faults;
}

async function killInCall(site: Site, victim: Victim): Promise<KillResult> {
  let backMs: number | null = null;
  const heard = await duringCall(site, VICTIMS[victim].id, async () => {
    const killedAtMs = systemClock.nowMs();
    await kill(site, victim);
    await watching(site, bothOnBroker);
    backMs = Math.round(systemClock.nowMs() - killedAtMs);
    await sleep(SETTLED_MS);
  });
  return { ...heard, backMs };
}

/** What is heard and becomes of a call while this is done. The station `hangsUp` at the end of it: the other must hear of it. */
async function duringCall(
  site: Site,
  hangsUp: StationId,
  what: () => Promise<void>,
): Promise<{ readonly callEnded: boolean; readonly silenceMs: number }> {
  const { callId } = await watching(site, (watches) => talk(site, watches));
  const ears: Ear[] = [];
  try {
    ears.push(await Ear.open(site, 'door', 'indoor'));
    ears.push(await Ear.open(site, 'indoor', 'door'));
    await what();
    const silenceMs = Math.max(...ears.map((ear) => ear.silenceMs()));
    const callEnded = !(await watching(site, (watches) => isTalking(watches, callId)));
    return { callEnded, silenceMs };
  } finally {
    for (const ear of ears) await ear.close();
    await watching(site, (watches) => hangUp(watches, hangsUp));
  }
}

/** Resolves when the process is back. */
async function kill(site: Site, victim: Victim): Promise<void> {
  const { id, process: name } = VICTIMS[victim];
  if (name === 'mosquitto') {
    const before = brokerPid(site);
    if (before === undefined) throw new AppError('not-running', 'the broker does not run');
    process.kill(before, 'SIGKILL');
    const isBack = () => ![before, undefined].includes(brokerPid(site));
    await inTime(waitUntil(isBack), BACK_WITHIN_MS, 'the broker is back');
    return;
  }
  const service = site.services[id][name];
  if (service?.pid === undefined) throw new AppError('not-running', `${victim} does not run`);
  const again = new Promise<void>((resolve) => service.once('ready', () => resolve()));
  process.kill(service.pid, 'SIGKILL');
  await inTime(again, BACK_WITHIN_MS, `${victim} is back`);
}

/** The broker is a child of the station that hosts the site. */
function brokerPid(site: Site): number | undefined {
  const { pid } = site.services.indoor.station;
  const read = (path: string): string => {
    try {
      return readFileSync(path, 'utf8');
    } catch {
      return ''; // it has just ended
    }
  };
  const children = read(`/proc/${pid}/task/${pid}/children`).split(' ').filter(Boolean);
  const broker = children.find((child) => read(`/proc/${child}/comm`).trim() === 'mosquitto');
  return broker === undefined ? undefined : Number(broker);
}

/** A tone into the microphone of one station, recorded at the speaker of the other. */
class Ear {
  readonly #tone: { stop(): void };
  readonly #recorder: DeviceRecorder;
  #from = 0;

  private constructor(tone: { stop(): void }, recorder: DeviceRecorder) {
    this.#tone = tone;
    this.#recorder = recorder;
  }

  /** Resolves when the tone is heard. */
  static async open({ sound }: Site, from: StationId, to: StationId): Promise<Ear> {
    const { env } = sound;
    const device = sound.devices(to).loop;
    const recording = { device, rateHz: LAB_RATE_HZ, clock: systemClock, env, mostSeconds: CALL_MOST_S };
    const recorder = await DeviceRecorder.start(recording);
    const ear = new Ear(holdTone({ device: sound.devices(from).feed, seconds: CALL_MOST_S, env }), recorder);
    try {
      ear.#from = await toneHeard(recorder);
      return ear;
    } catch (error) {
      await ear.close();
      throw error;
    }
  }

  silenceMs(): number {
    return longestSilenceMs(this.#recorder.soFar().subarray(this.#from), LAB_RATE_HZ);
  }

  async close(): Promise<void> {
    this.#tone.stop();
    await this.#recorder.stop();
  }
}

/** Whether both ends say that this call goes on. */
async function isTalking(watches: Watches, callId: string): Promise<boolean> {
  const statuses = await Promise.all(STATIONS.map((id) => watches[id].client.call('station.status', {})));
  return statuses.every(({ calls }) => calls.some((call) => call.callId === callId && call.state === 'answered'));
}

async function bothOnBroker(watches: Watches): Promise<void> {
  const areOn = async () => {
    const statuses = await Promise.all(STATIONS.map((id) => watches[id].client.call('station.status', {})));
    return statuses.every(({ broker }) => broker.connected);
  };
  await inTime(waitUntil(areOn), BACK_WITHIN_MS, 'both stations are on the broker');
}

async function hangUp(watches: Watches, id: StationId): Promise<void> {
  const since = systemClock.nowMs();
  const ended = Promise.all(STATIONS.map((one) => watches[one].callIs('ended', since)));
  ended.catch(() => {});
  await watches[id].client.call('call.hangUp', {});
  await ended;
}

async function waitUntil(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(50);
}

/** Connections of its own, since a station that is killed takes those to it along. */
async function watching<T>(site: Site, step: (watches: Watches) => Promise<T>): Promise<T> {
  const watches = await watchBoth(site);
  try {
    return await step(watches);
  } finally {
    watches.door.close();
    watches.indoor.close();
  }
}
