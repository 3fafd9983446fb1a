import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { resample } from '../audio/resample.js';
import { DRIFT_RATE_HZ, type DriftFigures, type DriftOptions } from './drift-day.js';
import type { ScenarioContext } from './scenario.js';
import { humanSpeech, LAB_RATE_HZ } from './speech.js';

export interface DriftOutcome {
  readonly ok: boolean;
  readonly failed: readonly string[];
  /** Of the clock that fares worse. */
  readonly delayStartMs: number;
  readonly delayEndMs: number;
  readonly heapStartMb: number;
  readonly heapEndMb: number;
  readonly quickSpeaker: DriftFigures;
  readonly slowSpeaker: DriftFigures;
}

const DAY_S = 86_400;
const PPM = 200;
const SEED = 2_026;
/** Equal delays differ by no more. */
const MOST_CHANGE_MS = 5;
const MOST_GROWTH_MB = 1;

/** A day of a call, by a clock of its own: once with a speaker that is 200 ppm quicker than the microphone, once slower. */
export async function runDriftScenario({ log }: Pick<ScenarioContext, 'log'>, seconds = DAY_S): Promise<DriftOutcome> {
  const speech = resample(await humanSpeech(), { fromHz: LAB_RATE_HZ, toHz: DRIFT_RATE_HZ });
  log(`${seconds / 3_600} hours, with clocks ${PPM} ppm apart`);
  const [quickSpeaker, slowSpeaker] = await Promise.all(
    [PPM, -PPM].map((speakerPpm) => inThread({ speakerPpm, seconds, speech, seed: SEED })),
  );
  return driftOutcome(quickSpeaker as DriftFigures, slowSpeaker as DriftFigures);
}

/** What is to be said of the two days. */
export function driftOutcome(quickSpeaker: DriftFigures, slowSpeaker: DriftFigures): DriftOutcome {
  const failed: string[] = [];
  const change = ({ delayStartMs, delayEndMs }: DriftFigures) => Math.abs(delayEndMs - delayStartMs);
  for (const day of [quickSpeaker, slowSpeaker]) {
    const what = `the speaker ${day.speakerPpm} ppm quicker`;
    if (!(change(day) <= MOST_CHANGE_MS))
      failed.push(`${what}: the delay went from ${day.delayStartMs} to ${day.delayEndMs} ms`);
    const grown = day.heapEndMb - day.heapStartMb;
    if (!(grown <= MOST_GROWTH_MB)) failed.push(`${what}: memory grew by ${grown} MiB`);
  }
  const { delayStartMs, delayEndMs, heapStartMb, heapEndMb } =
    change(quickSpeaker) > change(slowSpeaker) ? quickSpeaker : slowSpeaker;
  return {
    ok: failed.length === 0,
    failed,
    delayStartMs,
    delayEndMs,
    heapStartMb,
    heapEndMb,
    quickSpeaker,
    slowSpeaker,
  };
}

async function inThread(options: DriftOptions): Promise<DriftFigures> {
  const worker = new Worker(new URL('./drift-worker.js', import.meta.url), { workerData: options });
  const [figures] = (await once(worker, 'message')) as [DriftFigures];
  return figures;
}
