import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { FlowNodes, FlowsAtRev } from '../adapters/node-red/admin-api.js';
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
import { buttonLine } from './site-control.js';
import { Editor, type FlowsStatus, flowsAre, flowsStatus } from './site-flows.js';
import { DeviceRecorder } from './sound-device.js';
import { LAB_RATE_HZ } from './speech.js';

export interface FlowsFaultResult {
  /** The longest silence of a held tone, from the door's microphone to the indoor speaker, while the flows broke and came back. */
  readonly callSilenceMs: number | null;
  /** Whether a press at the door rang indoors while they were broken. */
  readonly pressRang: boolean;
  /** From the fault until flows ran again. */
  readonly flowsBackMs: number | null;
}

const FAULTS = ['loop', 'reject', 'corrupt', 'unloadable'] as const;
type Fault = (typeof FAULTS)[number];
export interface FlowsResult extends Readonly<Record<Fault, FlowsFaultResult>> {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /** The same measure with nothing broken: what this machine's own hiccups cost. */
  readonly controlSilenceMs: number | null;
}

const MOST_SILENCE_MS = 40;
/** A loop costs 3.5 s to be seen, 10 s of being deaf to SIGTERM, and a start; a rejection three starts and safe mode. */
const BACK_WITHIN_MS: Readonly<Record<Fault, number>> = {
  loop: 25_000,
  reject: 25_000,
  corrupt: 15_000,
  unloadable: 8_000,
};
const RINGS_WITHIN_MS = 2_500;
const TAIL_MS = 500;
const CONTROL_MS = 10_000;
/** By then the nodes of a deployment have their connections. */
const SETTLED_MS = 1_500;

/** What one fault does, and how it is seen that flows have come back from it. */
interface FaultPlan {
  /** Deployed beforehand, and not to be noticed yet. */
  readonly beforehand?: (flows: FlowNodes) => FlowNodes;
  inflict(part: FaultPart): Promise<void>;
  isBack(before: FlowsStatus, now: FlowsStatus): boolean;
}

interface FaultPart {
  readonly site: Site;
  readonly editor: Editor;
  /** The door's flows as they were before all faults, with their present revision. */
  readonly good: FlowsAtRev;
  readonly pid: number;
}

const isRestored = (before: FlowsStatus, now: FlowsStatus) => now.restores > before.restores;

const plans: Readonly<Record<Fault, FaultPlan>> = {
  loop: {
    beforehand: (flows) => withFunction(flows, 'while (true) {}', false),
    inflict: async ({ editor }) => {
      await editor.inject('lab-inject');
    },
    isBack: (before, now) => now.hangs > before.hangs && now.pid !== before.pid,
  },
  reject: {
    inflict: async ({ editor, good }) => {
      const func = "Promise.reject(new Error('nobody awaits this'));";
      await editor.admin.deployFlows({ rev: good.rev, flows: withFunction(good.flows, func, true) });
    },
    isBack: isRestored,
  },
  corrupt: {
    inflict: async ({ site, good, pid }) => {
      const text = JSON.stringify(good.flows);
      writeFileSync(join(site.plan.dir, 'door/state/flows/flows.json'), text.slice(0, text.length / 2));
      process.kill(pid, 'SIGKILL');
    },
    isBack: isRestored,
  },
  unloadable: {
    inflict: async ({ editor, good }) => {
      const lost = { id: 'lab-lost', type: 'node-that-is-nowhere', z: tabOf(good.flows), x: 1, y: 1, wires: [] };
      await editor.admin.deployFlows({ rev: good.rev, flows: [...good.flows, lost] });
    },
    isBack: isRestored,
  },
};

/**
 * The door station's flows are broken in four ways, each first in mid-call and then with a visitor at the door. Nothing of it
 * may be heard, every press must ring, and flows must come back without anybody's help.
 */
export async function runFlowsScenario(context: ScenarioContext): Promise<FlowsResult> {
  const failed: string[] = [];
  const site = await startScenarioSite(context, { flows: true });
  const watches = await watchBoth(site);
  let control: number | undefined;
  const results = Object.fromEntries(FAULTS.map((fault) => [fault, none])) as Record<Fault, FlowsFaultResult>;
  try {
    context.log('waiting for the flows of both stations');
    const ready = await attempt(failed, 'flows', () => flowsReady(site, watches));
    if (ready !== undefined) {
      context.log('a call with nothing broken, for comparison');
      control = await attempt(failed, 'control', () => silenceWhile(site, watches, () => sleep(CONTROL_MS)));
      for (const fault of FAULTS) {
        context.log(`${fault}: in mid-call`);
        const inCall = await attempt(failed, `${fault} in mid-call`, () => breakInCall(site, watches, fault));
        context.log(`${fault}: with a visitor at the door`);
        const rang = await attempt(failed, `${fault} at the door`, () => breakBeforePress(site, watches, fault));
        results[fault] = {
          callSilenceMs: inCall?.silenceMs ?? null,
          pressRang: rang ?? false,
          flowsBackMs: inCall?.backMs ?? null,
        };
        failed.push(...faultsOf(fault, results[fault]));
      }
    }
  } finally {
    watches.door.close();
    watches.indoor.close();
    await site.stop();
  }
  return { ok: failed.length === 0, failed, controlSilenceMs: control ?? null, ...results };
}

const none: FlowsFaultResult = { callSilenceMs: null, pressRang: false, flowsBackMs: null };

function faultsOf(fault: Fault, { callSilenceMs, pressRang, flowsBackMs }: FlowsFaultResult): string[] {
  const faults: string[] = [];
  if (callSilenceMs !== null && callSilenceMs > MOST_SILENCE_MS) {
    faults.push(`${fault}: ${callSilenceMs} ms of the call were silent`);
  }
  if (!pressRang) faults.push(`${fault}: the press did not ring`);
  if (flowsBackMs !== null && flowsBackMs > BACK_WITHIN_MS[fault]) {
    faults.push(`${fault}: flows were back after ${flowsBackMs} ms, not within ${BACK_WITHIN_MS[fault]}`);
  }
  return faults;
}

/** Both run, and the door's have been kept as good ones. */
async function flowsReady(site: Site, watches: Watches): Promise<true> {
  const running = { withinMs: 30_000, fits: isRunning, text: 'running' };
  await Promise.all([flowsAre(watches, 'door', running), flowsAre(watches, 'indoor', running)]);
  const kept = join(site.plan.dir, 'door/state/flows-good.json');
  await flowsAre(watches, 'door', { withinMs: 30_000, fits: () => existsSync(kept), text: 'kept as good' });
  return true;
}

function isRunning({ state }: FlowsStatus): boolean {
  return state === 'running';
}

async function breakInCall(
  site: Site,
  watches: Watches,
  fault: Fault,
): Promise<{ readonly silenceMs: number; readonly backMs: number }> {
  let backMs = 0;
  const silenceMs = await silenceWhile(site, watches, async () => {
    ({ backMs } = await breakFlows(site, watches, fault));
  });
  return { silenceMs, backMs };
}

/** @returns the longest silence of a tone that the door's microphone is given while this is done, in a call of its own */
async function silenceWhile(site: Site, watches: Watches, what: () => Promise<void>): Promise<number> {
  await talk(site, watches);
  const { sound } = site;
  const recorder = await DeviceRecorder.start({
    device: sound.devices('indoor').loop,
    rateHz: LAB_RATE_HZ,
    clock: systemClock,
    env: sound.env,
    mostSeconds: 90,
  });
  const tone = holdTone({ device: sound.devices('door').feed, seconds: 90, env: sound.env });
  try {
    const from = await toneHeard(recorder);
    await what();
    await sleep(TAIL_MS);
    const heard = recorder.soFar().subarray(from);
    const callIsUp = (await watches.door.client.call('station.status', {})).calls.at(-1)?.state === 'answered';
    if (!callIsUp) throw new AppError('call-lost', 'the call has ended');
    return longestSilenceMs(heard, LAB_RATE_HZ);
  } finally {
    tone.stop();
    await recorder.stop();
    await hangUp(watches);
  }
}

/** @returns whether the press rang indoors while the flows were broken; waits until they are back */
async function breakBeforePress(site: Site, watches: Watches, fault: Fault): Promise<boolean> {
  let isRinging = false;
  await breakFlows(site, watches, fault, async () => {
    const since = systemClock.nowMs();
    await site.boards.door.press(buttonLine(site, 'door', 'bell'));
    isRinging = await watches.indoor.callIs('ringing-in', since, RINGS_WITHIN_MS).then(
      () => true,
      () => false,
    );
  });
  await hangUp(watches);
  return isRinging;
}

async function breakFlows(
  site: Site,
  watches: Watches,
  fault: Fault,
  meanwhile: () => Promise<void> = async () => {},
): Promise<{ readonly backMs: number }> {
  const editor = await Editor.signIn(site, 'door');
  const before = await flowsStatus(watches, 'door');
  const good = await editor.admin.getFlows();
  const part = { site, editor, good: { rev: good.rev, flows: withoutLab(good.flows) }, pid: before.pid ?? 0 };
  const { beforehand, inflict, isBack } = plans[fault];
  if (beforehand !== undefined) {
    const rev = await editor.admin.deployFlows({ rev: good.rev, flows: beforehand(part.good.flows) });
    const runs = (now: FlowsStatus) => isRunning(now) && now.rev === rev;
    await flowsAre(watches, 'door', { withinMs: 5_000, fits: runs, text: 'deployed' });
    await sleep(SETTLED_MS);
  }
  await inTime(inflict(part), 8_000, `${fault} is deployed`);
  const sinceMs = systemClock.nowMs();
  await meanwhile();
  await flowsAre(watches, 'door', {
    withinMs: 2 * BACK_WITHIN_MS[fault],
    fits: (now) => isRunning(now) && isBack(before, now),
    text: 'back',
  });
  return { backMs: Math.round(systemClock.nowMs() - sinceMs) };
}

async function hangUp({ door, indoor }: Watches): Promise<void> {
  const since = systemClock.nowMs();
  const ended = Promise.all([door.callIs('ended', since), indoor.callIs('ended', since)]);
  await door.client.call('call.hangUp', {});
  await ended;
}

/** An inject node, by hand or at each start, before a function. */
function withFunction(flows: FlowNodes, func: string, once: boolean): FlowNodes {
  const z = tabOf(flows);
  const inject = {
    id: 'lab-inject',
    type: 'inject',
    z,
    x: 1,
    y: 1,
    wires: [['lab-function']],
    props: [],
    once,
    onceDelay: 0.1,
  };
  const node = { id: 'lab-function', type: 'function', z, x: 2, y: 1, wires: [], func, outputs: 0, libs: [] };
  return [...flows, inject, node];
}

function withoutLab(flows: FlowNodes): FlowNodes {
  return flows.filter(({ id }) => !id.startsWith('lab-'));
}

function tabOf(flows: FlowNodes): string {
  return flows.find(({ type }) => type === 'tab')?.id ?? '';
}
