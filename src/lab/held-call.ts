import { systemClock } from '../core/clock.js';
import { holdTone, longestSilenceMs, toneHeard } from './held-tone.js';
import { sleep, talk, type Watches, watchBoth } from './scenario.js';
import type { Site } from './site.js';
import { STATIONS, type StationId } from './site-config.js';
import { DeviceRecorder } from './sound-device.js';
import { LAB_RATE_HZ } from './speech.js';

const CALL_MOST_S = 75;

/**
 * What is heard and becomes of a call while this is done. The station `hangsUp` at the end of it: the other must hear of it.
 * @param what gets the ears at both stations' speakers: a tone is held both ways
 */
export async function duringCall(
  site: Site,
  hangsUp: StationId,
  what: (ears: Readonly<Record<StationId, Ear>>) => Promise<void>,
): Promise<{ readonly callEnded: boolean; readonly silenceMs: number }> {
  const { callId } = await watching(site, (watches) => talk(site, watches));
  const ears: Ear[] = [];
  try {
    const indoor = await Ear.open(site, 'door', 'indoor');
    ears.push(indoor);
    const door = await Ear.open(site, 'indoor', 'door');
    ears.push(door);
    await what({ door, indoor });
    const silenceMs = Math.max(...ears.map((ear) => ear.silenceMs()));
    const callEnded = !(await watching(site, (watches) => isTalking(watches, callId)));
    return { callEnded, silenceMs };
  } finally {
    for (const ear of ears) await ear.close();
    await watching(site, (watches) => hangUp(watches, hangsUp));
  }
}

/** A tone into the microphone of one station, recorded at the speaker of the other. */
export class Ear {
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

  /** Now, for `silenceMs`. */
  mark(): number {
    return this.#recorder.soFar().length;
  }

  /** The longest silence from then on (since the tone was heard first) until now. */
  silenceMs(from = this.#from): number {
    return longestSilenceMs(this.#recorder.soFar().subarray(from), LAB_RATE_HZ);
  }

  /** Resolves when the tone is heard again, for half a second without a gap. @throws AppError `too-late` */
  async hearsAgain(): Promise<void> {
    await toneHeard(this.#recorder);
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

async function hangUp(watches: Watches, id: StationId): Promise<void> {
  const since = systemClock.nowMs();
  const ended = Promise.all(STATIONS.map((one) => watches[one].callIs('ended', since)));
  ended.catch(() => {});
  await watches[id].client.call('call.hangUp', {});
  await ended;
}

export async function waitUntil(holds: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await holds())) await sleep(50);
}

/** Connections of its own, since a station that is killed takes those to it along. */
export async function watching<T>(site: Site, step: (watches: Watches) => Promise<T>): Promise<T> {
  const watches = await watchBoth(site);
  try {
    return await step(watches);
  } finally {
    watches.door.close();
    watches.indoor.close();
  }
}
