import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type FlowNodes, flowNodes } from '../adapters/node-red/admin-api.js';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { packageRoot } from '../core/package-root.js';
import { holdTone } from './held-tone.js';
import { ImpairedNetwork, type Line } from './impaired-network.js';
import { attempt, type ScenarioContext, sleep, startScenarioSite, talk, type Watches, watchBoth } from './scenario.js';
import type { Site } from './site.js';
import { STATIONS, type StationId } from './site-config.js';
import { Editor, flowsAre, flowsStatus } from './site-flows.js';

export interface HealAction {
  /** As the station counts it: `limit`, `path`, `restart-media`. */
  readonly action: string;
  /** Since the network was spoilt. */
  readonly atMs: number;
}

/** The worse of both directions, as the door is told of them (ITU-T G.107.1). */
export interface HealMos {
  readonly before: number | null;
  /** At its worst, before the first action. */
  readonly spoilt: number | null;
  /** Of the last second with the network still spoilt. */
  readonly after: number | null;
  /** The same with the flows that do not heal, after as long. */
  readonly unhealed: number | null;
}

export interface HealResult {
  readonly ok: boolean;
  readonly failed: readonly string[];
  readonly actions: readonly HealAction[];
  /** From the first action until the call was good again, and stayed so for 3 s; the network is spoilt all the while. */
  readonly recoveredMs: number | null;
  readonly mos: HealMos;
  /** What the flow did while nothing was wrong. */
  readonly idleActions: number | null;
  /** From the network's recovery until the flow had the call find its own path again. */
  readonly backMs: number | null;
}

/** Copies of packets can't make good what is lost in runs this long; nobody would call it a conversation. */
const SPOILT: Line = { lossPct: 20, meanBurstPackets: 4, jitterMs: 0 };
const GOOD_MOS = 4;
const GOOD_REPORTS = 3;
const RECOVERS_WITHIN_MS = 20_000;
const QUIET_MS = 8_000;
const UNHEALED_MS = 20_000;
const ACTS_WITHIN_MS = 25_000;
/** The flow waits for half a minute of good quality. */
const BACK_WITHIN_MS = 45_000;
const LOOK_MS = 100;
/** What belongs to one step comes at once; two steps are as far apart as the flow's cool-down of 5 s says, less how coarse this looks. */
const ONE_STEP_MS = 1_000;
const LEAST_APART_MS = 4_500;
const TONE_S = 120;
const HEALING = 'self-healing';
const SETTLED_MS = 2_000;

/**
 * A call between two stations; its UDP loses packets in bursts that nothing on UDP makes good. Once without a flow that does anything about
 * it, then with `flows/self-healing.json` beside the door's own flows. Needs a network namespace of its own.
 */
export async function runHealScenario(context: ScenarioContext): Promise<HealResult> {
  const failed: string[] = [];
  const site = await startScenarioSite(context, { flows: true });
  const watches = await watchBoth(site);
  let unhealed: number | null | undefined;
  let healed: Healed | undefined;
  try {
    context.log('waiting for the flows of both stations');
    const running = { withinMs: 40_000, fits: ({ state }: { state: string }) => state === 'running', text: 'running' };
    const ready = await attempt(failed, 'flows', () =>
      Promise.all(STATIONS.map((id) => flowsAre(watches, id, running))),
    );
    if (ready !== undefined) {
      context.log('a call on a bad network, with flows that do not heal');
      unhealed = await attempt(failed, 'control', () => inCall(site, watches, () => leftAlone(watches)));
      context.log('the same with flows/self-healing.json');
      healed = await attempt(failed, 'healing', async () => {
        await deployHealing(site, watches);
        return inCall(site, watches, () => heal(context, watches));
      });
    }
  } finally {
    watches.door.close();
    watches.indoor.close();
    await site.stop();
  }
  if (unhealed !== undefined && (unhealed === null || unhealed >= GOOD_MOS)) {
    failed.push(`without healing the call had a MOS of ${unhealed}: the network was not bad enough`);
  }
  if (healed !== undefined) failed.push(...faultsOf(healed));
  if (healed?.spoilt !== undefined && (healed.spoilt === null || healed.spoilt >= GOOD_MOS))
    failed.push('the network was not spoilt');
  const { before = null, spoilt = null, after = null } = healed ?? {};
  return {
    ok: failed.length === 0,
    failed,
    actions: healed?.actions ?? [],
    recoveredMs: healed?.recoveredMs ?? null,
    mos: { before, spoilt, after, unhealed: unhealed ?? null },
    idleActions: healed?.idleActions ?? null,
    backMs: healed?.backMs ?? null,
  };
}

interface Healed {
  readonly actions: readonly HealAction[];
  readonly recoveredMs: number | null;
  readonly before: number | null;
  readonly spoilt: number | null;
  readonly after: number | null;
  readonly idleActions: number;
  readonly backMs: number | null;
}

function faultsOf({ actions, recoveredMs, before, idleActions, backMs }: Healed): string[] {
  const faults: string[] = [];
  if (before === null || before < GOOD_MOS) faults.push(`on a good network the call had a MOS of ${before}`);
  if (idleActions > 0) faults.push(`${idleActions} actions while nothing was wrong`);
  if (actions.length === 0) faults.push('the flow did nothing');
  if (recoveredMs === null) faults.push('the call did not become good again');
  else if (recoveredMs > RECOVERS_WITHIN_MS) {
    faults.push(`the call was good ${recoveredMs} ms after the first action, not within ${RECOVERS_WITHIN_MS}`);
  }
  for (const [index, { atMs, action }] of actions.entries()) {
    const sinceMs = atMs - (actions[index - 1]?.atMs ?? Number.NEGATIVE_INFINITY);
    if (sinceMs > ONE_STEP_MS && sinceMs < LEAST_APART_MS)
      faults.push(`${action} came ${sinceMs} ms after another action`);
  }
  if (recoveredMs !== null && backMs === null) faults.push('the flow did not go back when the network was good again');
  return faults;
}

/** Both speak, without a pause. */
async function inCall<T>(site: Site, watches: Watches, step: () => Promise<T>): Promise<T> {
  const { sound } = site;
  await talk(site, watches);
  const tones = STATIONS.map((id) => holdTone({ device: sound.devices(id).feed, seconds: TONE_S, env: sound.env }));
  try {
    return await step();
  } finally {
    for (const tone of tones) tone.stop();
    const since = systemClock.nowMs();
    const ended = Promise.all([watches.door.callIs('ended', since), watches.indoor.callIs('ended', since)]);
    ended.catch(() => {});
    await watches.door.client.call('call.hangUp', {});
    await ended;
  }
}

async function leftAlone(watches: Watches): Promise<number | null> {
  await sleep(SETTLED_MS);
  const network = await ImpairedNetwork.start(SPOILT, await portsOf(watches));
  try {
    await sleep(UNHEALED_MS);
    return mosNow(watches);
  } finally {
    await network.stop();
  }
}

async function heal({ log }: ScenarioContext, watches: Watches): Promise<Healed> {
  const counted = await actionsOf(watches);
  await sleep(QUIET_MS);
  const before = mosNow(watches);
  const idleActions = total(await actionsOf(watches)) - total(counted);
  log('the network is spoilt');
  const network = await ImpairedNetwork.start(SPOILT, await portsOf(watches));
  const spoiltAtMs = systemClock.nowMs();
  const sinceMs = () => Math.round(systemClock.nowMs() - spoiltAtMs);
  const actions: HealAction[] = [];
  let [known, spoilt, recoveredAtMs, isStopped] = [await actionsOf(watches), before, null as number | null, false];
  /** @returns whether it came to that in time */
  const follow = async (withinMs: number, holds: () => boolean): Promise<boolean> => {
    const untilMs = systemClock.nowMs() + withinMs;
    while (systemClock.nowMs() < untilMs) {
      const now = await actionsOf(watches);
      for (const action of ['limit', 'path', 'restart-media']) {
        for (let count = known[action] ?? 0; count < (now[action] ?? 0); count++)
          actions.push({ action, atMs: sinceMs() });
      }
      known = now;
      if (holds()) return true;
      await sleep(LOOK_MS);
    }
    return false;
  };
  try {
    const acts = await follow(ACTS_WITHIN_MS, () => {
      spoilt = worse(spoilt, mosNow(watches));
      return actions.length > 0;
    });
    if (acts) log(`it acts: ${actions.map(({ action }) => action).join(', ')}`);
    // As a test of whether it comes at all, longer than it may take.
    if (acts) await follow(2 * RECOVERS_WITHIN_MS, () => isGood(watches, spoiltAtMs + (actions[0]?.atMs ?? 0)));
    recoveredAtMs = acts && isGood(watches, spoiltAtMs + (actions[0]?.atMs ?? 0)) ? sinceMs() : null;
    const after = mosNow(watches);
    log(`MOS ${after?.toFixed(2)}; the network is good again`);
    await network.stop();
    isStopped = true;
    const steps = actions.length;
    const goodAgainMs = sinceMs();
    const isBack = recoveredAtMs !== null && (await follow(BACK_WITHIN_MS, () => actions.length > steps));
    return {
      actions,
      recoveredMs: recoveredAtMs === null ? null : recoveredAtMs - (actions[0]?.atMs ?? 0),
      before,
      spoilt,
      after,
      idleActions,
      backMs: isBack ? sinceMs() - goodAgainMs : null,
    };
  } finally {
    if (!isStopped) await network.stop();
  }
}

/** Beside the flows that are there; the config node is one for all. */
async function deployHealing(site: Site, watches: Watches): Promise<void> {
  const text = readFileSync(join(packageRoot, `flows/${HEALING}.json`), 'utf8');
  const healing: FlowNodes = flowNodes.parse(JSON.parse(text));
  const editor = await Editor.signIn(site, 'door');
  const { rev, flows } = await editor.admin.getFlows();
  const ids = new Set(flows.map(({ id }) => id));
  const deployed = await editor.admin.deployFlows({
    rev,
    flows: [...flows, ...healing.filter(({ id }) => !ids.has(id))],
  });
  const fits = (now: { state: string; rev: string | null }) => now.state === 'running' && now.rev === deployed;
  await flowsAre(watches, 'door', { withinMs: 8_000, fits, text: `running with ${HEALING}` });
  await sleep(SETTLED_MS);
}

/** Where each end of the call is, as the other one knows. @throws AppError `no-call` */
async function portsOf(watches: Watches): Promise<Record<StationId, number>> {
  const portSeenBy = async (id: StationId): Promise<number> => {
    const remote = (await watches[id].client.call('station.status', {})).engine?.sessions[0]?.remote;
    if (remote === undefined || remote === null) throw new AppError('no-call', `${id} is in no call by UDP`);
    return remote.port;
  };
  return { door: await portSeenBy('indoor'), indoor: await portSeenBy('door') };
}

async function actionsOf(watches: Watches): Promise<Readonly<Record<string, number>>> {
  return (await flowsStatus(watches, 'door')).actions;
}

/** Of those that were done. */
function total(actions: Readonly<Record<string, number>>): number {
  return ['limit', 'path', 'restart-media'].reduce((sum, action) => sum + (actions[action] ?? 0), 0);
}

function mosOf(watches: Watches, since: number): number[] {
  return watches.door.allTold('quality.report', since).flatMap(({ params }) => {
    const { listening, remoteListening } = params.quality.mos;
    return listening === null || remoteListening === null ? [] : [Math.min(listening, remoteListening)];
  });
}

function mosNow(watches: Watches): number | null {
  return mosOf(watches, 0).at(-1) ?? null;
}

function isGood(watches: Watches, sinceMs: number): boolean {
  const last = mosOf(watches, sinceMs).slice(-GOOD_REPORTS);
  return last.length === GOOD_REPORTS && last.every((mos) => mos >= GOOD_MOS);
}

function worse(a: number | null, b: number | null): number | null {
  if (a === null || b === null) return a ?? b;
  return Math.min(a, b);
}
