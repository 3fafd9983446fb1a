import { systemClock } from '../core/clock.js';
import { duringCall, type Ear, waitUntil, watching } from './held-call.js';
import { attempt, inTime, type ScenarioContext, sleep, startScenarioSite } from './scenario.js';
import type { Site } from './site.js';
import type { StationId } from './site-config.js';
import type { VirtualSound } from './virtual-sound.js';

export interface UnplugResult {
  /** From the card's return until sound came without a gap. */
  readonly silenceMs: number | null;
  readonly detectedAfterMs: number | null;
  /** The whole silence, from the loss of the card on. */
  readonly outageMs: number | null;
  /** At one of its two ends the call was no longer answered when sound was back. */
  readonly callEnded: boolean | null;
}

type Fault = (sound: VirtualSound, station: StationId) => Promise<void>;

interface Case {
  readonly card: 'capture' | 'playback';
  readonly begin: Fault;
  readonly end: Fault;
  readonly lastsMs: number;
  /** Where what goes through this card is heard. */
  readonly heardAt: StationId;
}

/** Of the door station's cards. What hangs comes back as soon as the station has said that it does. */
const CASES = {
  mic: {
    card: 'capture',
    begin: (sound, id) => sound.unplugMicrophone(id),
    end: (sound, id) => sound.replugMicrophone(id),
    lastsMs: 3_000,
    heardAt: 'indoor',
  },
  speaker: {
    card: 'playback',
    begin: (sound, id) => sound.unplugSpeaker(id),
    end: (sound, id) => sound.replugSpeaker(id),
    lastsMs: 3_000,
    heardAt: 'door',
  },
  hung: {
    card: 'capture',
    begin: (sound, id) => sound.hangMicrophone(id),
    end: (sound, id) => sound.replugMicrophone(id),
    lastsMs: 0,
    heardAt: 'indoor',
  },
  hungSpeaker: {
    card: 'playback',
    begin: (sound, id) => sound.hangSpeaker(id),
    end: (sound, id) => sound.replugSpeaker(id),
    lastsMs: 0,
    heardAt: 'door',
  },
} as const satisfies Record<string, Case>;
type CaseName = keyof typeof CASES;
const names = Object.keys(CASES) as CaseName[];

export interface UnplugsResult extends Readonly<Record<CaseName, UnplugResult>> {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /** The longest silence with nothing unplugged: what this machine's own hiccups cost. */
  readonly controlSilenceMs: number | null;
}

const STATION: StationId = 'door';
const MOST_SILENCE_MS = 2_000;
/** Less was no loss of the card. */
const LEAST_OUTAGE_MS = 500;
const DETECTED_WITHIN_MS = 5_000;
const CONTROL_MS = 3_000;

const none: UnplugResult = { silenceMs: null, detectedAfterMs: null, outageMs: null, callEnded: null };

/** A card is unplugged or hangs, each time in a call of its own, and returns: sound must be back, and the call stay. */
export async function runUnplugScenario(context: ScenarioContext): Promise<UnplugsResult> {
  const failed: string[] = [];
  const site = await startScenarioSite(context);
  const results = Object.fromEntries(names.map((name) => [name, none])) as Record<CaseName, UnplugResult>;
  let control: { readonly silenceMs: number } | undefined;
  try {
    context.log('a call with nothing unplugged');
    control = await attempt(failed, 'control', () => duringCall(site, STATION, () => sleep(CONTROL_MS)));
    for (const name of control === undefined ? [] : names) {
      context.log(`${name} in mid-call`);
      const result = await attempt(failed, name, () => loseInCall(site, CASES[name]));
      if (result === undefined) continue;
      results[name] = result;
      failed.push(...faultsOf(name, result));
    }
  } finally {
    await site.stop();
  }
  return { ok: failed.length === 0, failed, controlSilenceMs: control?.silenceMs ?? null, ...results };
}

function faultsOf(name: CaseName, { silenceMs, outageMs, callEnded }: UnplugResult): string[] {
  const faults = callEnded === true ? [`${name}: the call has ended`] : [];
  if (silenceMs === null || silenceMs > MOST_SILENCE_MS) {
    faults.push(`${name}: ${silenceMs} ms without sound after the card's return, more than ${MOST_SILENCE_MS}`);
  }
  if (outageMs === null || outageMs < LEAST_OUTAGE_MS) {
    faults.push(`${name}: only ${outageMs} ms were silent: the card was not lost`);
  }
  return faults;
}

async function loseInCall(site: Site, { card, begin, end, lastsMs, heardAt }: Case): Promise<UnplugResult> {
  let measured: Omit<UnplugResult, 'callEnded'> = none;
  const { callEnded } = await duringCall(site, STATION, async (ears) => {
    const ear: Ear = ears[heardAt];
    const lostAt = ear.mark();
    const lostAtMs = systemClock.nowMs();
    await begin(site.sound, STATION);
    let back: number;
    try {
      await inTime(isDown(site, card), DETECTED_WITHIN_MS, 'the station says that the card is down');
      measured = { ...none, detectedAfterMs: Math.round(systemClock.nowMs() - lostAtMs) };
      await sleep(lastsMs);
    } finally {
      back = ear.mark();
      await end(site.sound, STATION);
    }
    await ear.hearsAgain();
    measured = { ...measured, silenceMs: ear.silenceMs(back), outageMs: ear.silenceMs(lostAt) };
  });
  return { ...measured, callEnded };
}

function isDown(site: Site, card: Case['card']): Promise<void> {
  return watching(site, (watches) =>
    waitUntil(async () => {
      const { engine } = await watches[STATION].client.call('station.status', {});
      return engine?.[card].state === 'down';
    }),
  );
}
