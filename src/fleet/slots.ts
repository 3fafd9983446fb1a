import { compareVersions, newerVersion } from './version.js';

/**
 * Two places for each kind of release, and what is known of them. `adapters/slots` composes it of what is on the disk:
 *
 *   <slots>/a, b        a release each; whole when its manifest.json is there, which is written last and unlinked first
 *   <slots>/current     a symbolic link to a or b, replaced by rename: the only word on what is started
 *   <slots>/previous    the last one that was confirmed: where a trial goes back to
 *   <slots>/trying      which slot is on trial, and how often it was started; the launcher (`device/launcher.sh`) alone counts
 *   <slots>/back        why the launcher went back; taken up by `gaveUp`, then removed
 *   <slots>/state.json  the rest of `SlotState`: what failed here, and the floor
 *
 * Flows, configuration and models have the same below a folder of their own (`<slots>/flows`, …), without the launcher: their trial
 * ends with the station's word. What ran before the first release of such a kind stands in slot a as its version `SEED_VERSION`.
 */
export type SlotName = 'a' | 'b';

/** Of what a station had of a kind before any release of it. */
export const SEED_VERSION = '0.0.0';

export type SlotContent =
  | { readonly is: 'empty' }
  /** Being written; whatever stands there is worth nothing. */
  | { readonly is: 'filling'; readonly hash: string }
  /** Every file is there, checked and synced. */
  | { readonly is: 'whole'; readonly version: string; readonly hash: string; readonly isConfirmed: boolean }
  /** It did not prove itself here: not tried again, unless that is asked for. */
  | { readonly is: 'failed'; readonly version: string; readonly hash: string; readonly reason: string };

/** A release that runs and is not confirmed yet. */
export interface Trial {
  readonly slot: SlotName;
  /** Where it goes back to. */
  readonly from: SlotName;
  /** How often it was started. */
  readonly starts: number;
}

export interface SlotState {
  readonly v: 1;
  readonly slots: Readonly<Record<SlotName, SlotContent>>;
  readonly trial: Trial | null;
  /** The newest version that was ever confirmed here: nothing older is taken, whoever signed it. */
  readonly floor: string | null;
}

export const otherSlot = (slot: SlotName): SlotName => (slot === 'a' ? 'b' : 'a');

/** Of a station whose first release was put into slot a by hand; of another kind, what the firmware came with. */
export function firstState(release: { readonly version: string; readonly hash: string }): SlotState {
  return {
    v: 1,
    slots: { a: { is: 'whole', ...release, isConfirmed: true }, b: { is: 'empty' } },
    trial: null,
    floor: release.version,
  };
}

/** The step `clear`: the slot is worth nothing from here on. */
export function filling(state: SlotState, slot: SlotName, hash: string): SlotState {
  return withSlot(state, slot, { is: 'filling', hash });
}

/** The step `seal`. */
export function sealed(state: SlotState, slot: SlotName, release: { version: string; hash: string }): SlotState {
  return withSlot(state, slot, { is: 'whole', version: release.version, hash: release.hash, isConfirmed: false });
}

/** The step `switch`, before the link is replaced: no start of a new release is uncounted. A trial of a slot that is not current means nothing. */
export function onTrial(state: SlotState, slot: SlotName, from: SlotName): SlotState {
  const there = state.trial;
  if (there !== null && there.slot === slot && there.from === from) return state;
  return { ...state, trial: { slot, from, starts: 0 } };
}

/** The steps `confirm`, when all has passed, and `raise-floor`. */
export function confirmed(state: SlotState, slot: SlotName): SlotState {
  const content = state.slots[slot];
  if (content.is !== 'whole') return state;
  const floor = state.floor === null ? content.version : newerVersion(state.floor, content.version);
  return { ...withSlot(state, slot, { ...content, isConfirmed: true }), trial: null, floor };
}

/** The step `switch-back`, or the launcher: the release is not tried again. */
export function gaveUp(state: SlotState, slot: SlotName, reason: string): SlotState {
  const content = state.slots[slot];
  const trial = state.trial?.slot === slot ? null : state.trial;
  if (content.is !== 'whole') return { ...state, trial };
  const { version, hash } = content;
  return { ...withSlot(state, slot, { is: 'failed', version, hash, reason: reason.slice(0, 200) }), trial };
}

/** Whether a version is below the floor: an older release, which is refused. */
export function isBelowFloor(state: SlotState, version: string): boolean {
  return state.floor !== null && compareVersions(version, state.floor) < 0;
}

function withSlot(state: SlotState, slot: SlotName, content: SlotContent): SlotState {
  return { ...state, slots: { ...state.slots, [slot]: content } };
}
