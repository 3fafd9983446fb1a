import { readFileSync } from 'node:fs';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { duringCall, waitUntil, watching } from './held-call.js';
import { attempt, inTime, type ScenarioContext, sleep, startScenarioSite, type Watches } from './scenario.js';
import type { Site } from './site.js';
import { STATIONS } from './site-config.js';
import { flowsAre } from './site-flows.js';

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
export function brokerPid(site: Site): number | undefined {
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

export async function bothOnBroker(watches: Watches): Promise<void> {
  const areOn = async () => {
    const statuses = await Promise.all(STATIONS.map((id) => watches[id].client.call('station.status', {})));
    return statuses.every(({ broker }) => broker.connected);
  };
  await inTime(waitUntil(areOn), BACK_WITHIN_MS, 'both stations are on the broker');
}
