import type { Architecture, Manifest, ReleaseKind } from './manifest.js';
import { isBelowFloor, otherSlot, SEED_VERSION, type SlotName, type SlotState } from './slots.js';
import { compareVersions } from './version.js';

/** What a job is told to be about: the steps of fleets. */
export const JOB_STEPS = ['download', 'verify', 'install', 'restart', 'confirm', 'rollback'] as const;
export type JobStep = (typeof JOB_STEPS)[number];

/**
 * One thing to be done. Each may be begun again after any power cut, and then comes to the same end; what makes it so stands with it.
 * Whoever carries them out plans anew after each interruption: the plan is made of what is on the disk, not of how far one had come.
 */
export type UpdateStep =
  /** The release can't be for this station. Turns the job to `rejected`; touches nothing. */
  | { readonly do: 'reject'; readonly job: 'download'; readonly code: RefusalCode; readonly reason: string }
  /** The release was tried and went back by itself. Turns the job's end to `failed`; then plan anew. */
  | { readonly do: 'fail'; readonly job: 'rollback'; readonly reason: string }
  /** What runs now is written into the slot as a release of its own, and is what there is to go back to; begun again it is written anew. */
  | { readonly do: 'seed'; readonly job: 'install'; readonly slot: SlotName }
  /** Asks the disk (`spaceFault`). Reads only. */
  | {
      readonly do: 'check-space';
      readonly job: 'download';
      readonly fetchBytes: number;
      readonly unpackBytes: number;
    }
  /** Brings each chunk that is neither in the slot that runs nor fetched yet. A chunk counts as fetched when it was renamed into place. */
  | { readonly do: 'fetch'; readonly job: 'download'; readonly bytes: number }
  /** Every chunk is there and has its hash. One that hasn't is removed, and the step fails. Reads only, else. */
  | { readonly do: 'verify'; readonly job: 'verify' }
  /** `previous` is pointed at the slot that runs, the slot's manifest unlinked, then all else: gone is gone. From here on there is no second release to go back to but the one that runs. */
  | { readonly do: 'clear'; readonly job: 'install'; readonly slot: SlotName }
  /** Writes the files, each checked by its hash as it is written; begun again it overwrites. The chunks stay until `clean`. */
  | { readonly do: 'unpack'; readonly job: 'install'; readonly slot: SlotName; readonly bytes: number }
  /** Each file and folder of the slot is synced. */
  | { readonly do: 'sync'; readonly job: 'install'; readonly slot: SlotName }
  /** The manifest is written into the slot: it is whole. After a cut before this, the slot is cleared and unpacked again. */
  | { readonly do: 'seal'; readonly job: 'install'; readonly slot: SlotName }
  /** Who takes the release up looks through it, and says in words why it can't be. Reads only. */
  | { readonly do: 'check-content'; readonly job: 'install'; readonly slot: SlotName }
  /** No call, no ringing, no open door, within the quiet hours if there are any; gives up at the job's deadline. Reads only. */
  | { readonly do: 'wait-for-quiet'; readonly job: 'install' }
  /** `previous`, then `trying` are written, then the link is replaced by rename: a cut before that leaves the old release, and the step is done again. */
  | {
      readonly do: 'switch';
      readonly job: 'install';
      readonly slot: SlotName;
      readonly from: SlotName;
      /** Not while anybody would be disturbed: then plan anew. */
      readonly isDisturbing: boolean;
    }
  /** Orders the supervisor; whoever carries it out may be ended by it. Done when the processes that run are those of `slot`. */
  | { readonly do: 'restart'; readonly job: 'restart'; readonly slot: SlotName; readonly what: Restarted }
  /** Waits for every proof; then `trying` is unlinked. A proof is asked for again after a cut. */
  | { readonly do: 'confirm'; readonly job: 'confirm'; readonly slot: SlotName; readonly proofs: readonly Proof[] }
  /** Nothing older is taken from now on. A step of its own, so that a cut after the one before does not leave it out. */
  | { readonly do: 'raise-floor'; readonly job: 'confirm'; readonly version: string }
  /** Removes what was fetched, and what was kept for the way back. */
  | { readonly do: 'clean'; readonly job: 'confirm' }
  /** `gaveUp` is written, where there is a failure; then the link is replaced; then `trying` is unlinked. Each is the same a second time. */
  | {
      readonly do: 'switch-back';
      readonly job: 'rollback';
      readonly slot: SlotName;
      readonly from: SlotName;
      /** Null where somebody cancelled it: the release may be tried again. */
      readonly failure: string | null;
    }
  /** The old release's processes are ready. If they are not, that is told, and there is no more to be done. */
  | { readonly do: 'await-ready'; readonly job: 'rollback'; readonly slot: SlotName };

export const STEP_NAMES = [
  ...['reject', 'fail', 'seed', 'check-space', 'fetch', 'verify', 'clear', 'unpack', 'sync', 'seal', 'check-content'],
  ...['wait-for-quiet', 'switch', 'restart', 'confirm', 'raise-floor', 'clean', 'switch-back', 'await-ready'],
] as readonly UpdateStep['do'][];

/** Which processes take up a release of a kind. */
export type Restarted = 'everything' | 'flows' | 'inference';

/** What a release has to show before it stays. */
export type Proof = 'processes-ready' | 'broker-reached' | 'self-test' | 'test-call' | 'flows-run' | 'inference-ready';

/** What is asked to be installed: the parts of a manifest that decide. */
export type DesiredRelease = Pick<
  Manifest,
  'kind' | 'version' | 'architecture' | 'hash' | 'requires' | 'minFrom' | 'sizeBytes'
> & {
  /** Try also a release that failed here before. */
  readonly mayRetry?: boolean;
};

/** What is so at this moment. */
export interface UpdateFacts {
  readonly architecture: Exclude<Architecture, 'any'>;
  readonly board: string;
  /** `process.versions.modules`. */
  readonly nodeAbi: number;
  /** The version of the firmware that runs. */
  readonly firmware: string;
  /** Where the link leads. */
  readonly current: SlotName;
  /** The slot that the processes of this kind were started from; null where they are not up. */
  readonly running: SlotName | null;
  /** They are ready, all of them. */
  readonly isReady: boolean;
  /** Of the chunks that are neither in the current slot nor fetched, as they are sent. */
  readonly lackingBytes: number;
  /** Something that was fetched, or kept for the way back, is still there. */
  readonly hasFetched: boolean;
  /** This job has switched already (its journal says so). */
  readonly hasSwitched: boolean;
  /** This job is to end without the release (its journal says so). */
  readonly ending: Ending | null;
}

/** How a job ends that does not succeed, once the release before is back. */
export interface Ending {
  readonly state: 'failed' | 'timed_out' | 'canceled';
  /** In words. */
  readonly reason: string;
}

export type RefusalCode =
  | 'wrong-architecture'
  | 'wrong-board'
  | 'wrong-node-abi'
  | 'firmware-too-old'
  | 'older-release'
  | 'version-taken'
  | 'too-far-behind'
  | 'failed-before';

export interface Refusal {
  readonly code: RefusalCode;
  readonly reason: string;
}

interface KindPlan {
  readonly what: Restarted;
  readonly proofs: readonly Proof[];
  /** It comes up beside a call. */
  readonly isQuiet: boolean;
  /** Its slots are below a folder of their own, and hold nothing before the first job: what ran until then is put there. */
  readonly isSeeded: boolean;
}

/** What a kind's release restarts and has to show. Flows and models come up beside a call; the rest has to wait for its end. */
const OF_KIND: Readonly<Record<ReleaseKind, KindPlan>> = {
  firmware: {
    what: 'everything',
    proofs: ['processes-ready', 'broker-reached', 'self-test', 'test-call'],
    isQuiet: false,
    isSeeded: false,
  },
  config: {
    what: 'everything',
    proofs: ['processes-ready', 'broker-reached', 'self-test', 'test-call'],
    isQuiet: false,
    isSeeded: true,
  },
  flows: { what: 'flows', proofs: ['flows-run'], isQuiet: true, isSeeded: true },
  models: { what: 'inference', proofs: ['inference-ready'], isQuiet: true, isSeeded: true },
};

/**
 * What is left to do so that `desired` runs and is confirmed, or, where the job is to end without it, so that the release before runs.
 * Nothing: it is so. Pure: made of the slots' state and the facts alone, so that after a power cut it goes on from where the disk is.
 */
export function planUpdate(state: SlotState, desired: DesiredRelease, facts: UpdateFacts): UpdateStep[] {
  const { current } = facts;
  const target = otherSlot(current);
  const [here, there] = [state.slots[current], state.slots[target]];
  const isThere = here.is === 'whole' && here.hash === desired.hash;
  // Whatever was asked for since: nothing leads back from a release that is confirmed.
  if (isThere && here.isConfirmed) {
    const isFloorLower = state.floor === null || compareVersions(state.floor, here.version) < 0;
    return [...(isFloorLower ? [raising(here.version)] : []), ...cleaning(facts)];
  }
  if (facts.ending !== null) return planReturn(state, desired, facts, facts.ending);
  if (isThere) {
    return [...restartUnlessRunning(desired.kind, facts, current), ...provingSteps(desired, current)];
  }
  const failed = [here, there].find((slot) => slot.is === 'failed' && slot.hash === desired.hash);
  if (failed?.is === 'failed') {
    if (facts.hasSwitched) return [{ do: 'fail', job: 'rollback', reason: failed.reason }];
    if (desired.mayRetry !== true) {
      return [rejection({ code: 'failed-before', reason: `it failed here before: ${failed.reason}` })];
    }
  }
  const refusal = refusalOf(state, desired, facts);
  if (refusal !== undefined) return [rejection(refusal)];
  const isUnpacked = there.is === 'whole' && there.hash === desired.hash;
  const { what, isQuiet, isSeeded } = OF_KIND[desired.kind];
  const isBare = here.is === 'empty' || here.is === 'filling';
  return [
    ...(isSeeded && isBare ? [{ do: 'seed', job: 'install', slot: current } as const] : []),
    ...(isUnpacked ? [] : unpackingSteps(desired, facts, target)),
    ...(isSeeded ? [{ do: 'check-content', job: 'install', slot: target } as const] : []),
    ...waitingSteps(desired.kind),
    { do: 'switch', job: 'install', slot: target, from: current, isDisturbing: !isQuiet },
    { do: 'restart', job: 'restart', slot: target, what },
    ...provingSteps(desired, target),
  ];
}

/** Why a release may not be installed here; undefined where it may. Room on the disk is asked later, when it matters. */
export function refusalOf(state: SlotState, desired: DesiredRelease, facts: UpdateFacts): Refusal | undefined {
  const { kind, version, architecture, requires, minFrom } = desired;
  if (architecture !== 'any' && architecture !== facts.architecture) {
    return { code: 'wrong-architecture', reason: `it is for ${architecture}, this station is ${facts.architecture}` };
  }
  if (requires.boards.length > 0 && !requires.boards.includes(facts.board)) {
    return { code: 'wrong-board', reason: `it is for ${requires.boards.join(', ')}, this board is ${facts.board}` };
  }
  if (kind !== 'firmware' && requires.nodeAbi !== undefined && requires.nodeAbi !== facts.nodeAbi) {
    return { code: 'wrong-node-abi', reason: `it needs Node.js ABI ${requires.nodeAbi}, here is ${facts.nodeAbi}` };
  }
  if (requires.firmware !== undefined && compareVersions(facts.firmware, requires.firmware) < 0) {
    return { code: 'firmware-too-old', reason: `it needs firmware ${requires.firmware}, here is ${facts.firmware}` };
  }
  if (isBelowFloor(state, version)) {
    return { code: 'older-release', reason: `${version} is older than ${state.floor}, which was confirmed here` };
  }
  const here = state.slots[facts.current];
  const unseeded = OF_KIND[kind].isSeeded ? SEED_VERSION : undefined;
  const installed = here.is === 'whole' ? here.version : unseeded;
  if (installed === version || state.floor === version) {
    return { code: 'version-taken', reason: `another release of version ${version} was confirmed here` };
  }
  if (minFrom !== undefined && installed !== undefined && compareVersions(installed, minFrom) < 0) {
    return { code: 'too-far-behind', reason: `it updates from ${minFrom} on, here is ${installed}` };
  }
  return undefined;
}

/** What no release takes: a station that can't write down how far a job is can't end it either. */
const LEFT_FREE_BYTES = 16_000_000;

/** What is wrong with the room on the disk; undefined where it will do. The slot that gets the release is emptied before. */
export function spaceFault(
  step: { readonly fetchBytes: number; readonly unpackBytes: number },
  disk: { readonly freeBytes: number; readonly inOtherSlotBytes: number },
): string | undefined {
  const { fetchBytes, unpackBytes } = step;
  const { freeBytes, inOtherSlotBytes } = disk;
  const needsBytes = LEFT_FREE_BYTES + Math.max(fetchBytes, fetchBytes + unpackBytes - inOtherSlotBytes);
  if (needsBytes <= freeBytes) return undefined;
  return `it needs ${megabytes(needsBytes)} MB more on the disk, ${megabytes(freeBytes)} MB are free`;
}

/** Back to the release before, from wherever the job had come to; then what was fetched is removed. */
function planReturn(state: SlotState, desired: DesiredRelease, facts: UpdateFacts, ending: Ending): UpdateStep[] {
  const { current } = facts;
  const here = state.slots[current];
  const back = otherSlot(current);
  const isOnTrial = here.is !== 'empty' && here.hash === desired.hash;
  if (isOnTrial && state.slots[back].is === 'whole') {
    const failure = ending.state === 'failed' ? ending.reason : null;
    return [
      { do: 'switch-back', job: 'rollback', slot: back, from: current, failure },
      { do: 'restart', job: 'restart', slot: back, what: OF_KIND[desired.kind].what },
      { do: 'await-ready', job: 'rollback', slot: back },
      ...cleaning(facts),
    ];
  }
  const { what } = OF_KIND[desired.kind];
  const isUp = facts.running === current;
  return [
    ...(isUp ? [] : [{ do: 'restart', job: 'restart', slot: current, what } as const]),
    ...(isUp && facts.isReady ? [] : [{ do: 'await-ready', job: 'rollback', slot: current } as const]),
    ...cleaning(facts),
  ];
}

function unpackingSteps(desired: DesiredRelease, facts: UpdateFacts, slot: SlotName): UpdateStep[] {
  return [
    {
      do: 'check-space',
      job: 'download',
      fetchBytes: facts.lackingBytes,
      unpackBytes: Math.max(desired.requires.freeBytes, desired.sizeBytes),
    },
    { do: 'fetch', job: 'download', bytes: facts.lackingBytes },
    { do: 'verify', job: 'verify' },
    { do: 'clear', job: 'install', slot },
    { do: 'unpack', job: 'install', slot, bytes: desired.sizeBytes },
    { do: 'sync', job: 'install', slot },
    { do: 'seal', job: 'install', slot },
  ];
}

function waitingSteps(kind: ReleaseKind): UpdateStep[] {
  return OF_KIND[kind].isQuiet ? [] : [{ do: 'wait-for-quiet', job: 'install' }];
}

function restartUnlessRunning(kind: ReleaseKind, facts: UpdateFacts, slot: SlotName): UpdateStep[] {
  if (facts.running === slot) return [];
  // Where the old processes still run, they may be in a call.
  const waiting = facts.running === null ? [] : waitingSteps(kind);
  return [...waiting, { do: 'restart', job: 'restart', slot, what: OF_KIND[kind].what }];
}

function provingSteps({ kind, version }: DesiredRelease, slot: SlotName): UpdateStep[] {
  return [
    { do: 'confirm', job: 'confirm', slot, proofs: OF_KIND[kind].proofs },
    raising(version),
    { do: 'clean', job: 'confirm' },
  ];
}

function raising(version: string): UpdateStep {
  return { do: 'raise-floor', job: 'confirm', version };
}

function cleaning(facts: UpdateFacts): UpdateStep[] {
  return facts.hasFetched ? [{ do: 'clean', job: 'confirm' }] : [];
}

function rejection({ code, reason }: Refusal): UpdateStep {
  return { do: 'reject', job: 'download', code, reason };
}

function megabytes(bytes: number): number {
  return Math.ceil(bytes / 1_000_000);
}
