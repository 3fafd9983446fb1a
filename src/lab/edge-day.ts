import { resample } from '../audio/resample.js';
import { EVENT_LABELS, type EventLabel, SEEDS } from '../sounds/made-sound.js';
import { type SceneBackground, type SceneOptions, sceneOf } from '../sounds/scene.js';
import { SOUND_RATE_HZ } from '../sounds/track.js';
import { LAB_RATE_HZ } from './speech.js';

/** Each kind of event is heard so often in a day. */
const ROUNDS = 2;
const PART_S = 4;
/** Within its part. */
export const EVENT_AT_S = 1.5;
/** From one part to the next: backgrounds come and go, they do not set in like an event. */
const FADE_S = 1;

/** What is there where nothing happens that anybody must know of. */
const FILLERS: readonly Pick<SceneOptions, 'event' | 'over'>[] = [
  { event: null, over: 'speech' },
  { event: 'trifle', over: 'noise' },
  { event: null, over: 'noise' },
  { event: 'speech', over: 'noise' },
  { event: null, over: 'hum' },
];
/** What events happen over, and by how much they stand out, dB. */
const AROUND: readonly { readonly over: SceneBackground; readonly snrDb: number }[] = [
  { over: 'noise', snrDb: 18 },
  { over: 'hum', snrDb: 24 },
  { over: 'noise', snrDb: 22 },
  { over: 'silence', snrDb: 30 },
  { over: 'speech', snrDb: 20 },
];

export type DayPart = Pick<SceneOptions, 'seed' | 'event' | 'over' | 'snrDb' | 'peakDb'>;

export interface DayEvent {
  readonly label: EventLabel;
  /** When its first sample is played, in seconds of the day. */
  readonly atS: number;
}

export interface EdgeDay {
  /** At the lab's rate. */
  readonly samples: Int16Array;
  readonly events: readonly DayEvent[];
  readonly seconds: number;
}

/** How many days there are whose sounds nobody was trained on. */
export const DAYS = 900;

/**
 * The lab's day: every kind of event twice, over noise, hum, speech and near silence, and as much time in which nothing happens but
 * speech, noise, hum and trifles. @param day 0 … `DAYS` - 1: which sounds of each kind
 */
export function planDay(day: number): DayPart[] {
  const first = SEEDS.lab.first + 100 * day;
  return Array.from({ length: ROUNDS }, (_, round) =>
    EVENT_LABELS.flatMap((event, i) => {
      const n = round * EVENT_LABELS.length + i;
      const around = AROUND[(i + 2 * round) % AROUND.length] as (typeof AROUND)[number];
      const filler = FILLERS[(i + round) % FILLERS.length] as (typeof FILLERS)[number];
      return [
        { seed: first + 2 * n, ...filler, snrDb: 20, peakDb: -12 },
        { seed: first + 2 * n + 1, event, ...around, peakDb: -8 },
      ];
    }),
  ).flat();
}

/** When each event of a plan begins. */
export function eventsOf(plan: readonly DayPart[]): DayEvent[] {
  return plan.flatMap(({ event }, n) => (isEvent(event) ? [{ label: event, atS: n * PART_S + EVENT_AT_S }] : []));
}

/** @throws AppError `speech-absent` where espeak-ng is not installed */
export async function makeDay(plan: readonly DayPart[]): Promise<EdgeDay> {
  const [length, fade] = [PART_S * SOUND_RATE_HZ, FADE_S * SOUND_RATE_HZ];
  const samples = new Int16Array(plan.length * length);
  for (const [n, part] of plan.entries()) {
    const scene = await sceneOf({ ...part, seconds: PART_S + FADE_S, eventAtS: EVENT_AT_S });
    const from = n * length;
    for (let i = 0; i < length + fade && from + i < samples.length; i++) {
      const share = Math.min(1, i / fade, (length + fade - i) / fade);
      samples[from + i] = Math.round((samples[from + i] as number) + share * (scene.samples[i] as number));
    }
  }
  return {
    samples: resample(samples, { fromHz: SOUND_RATE_HZ, toHz: LAB_RATE_HZ }),
    events: eventsOf(plan),
    seconds: plan.length * PART_S,
  };
}

function isEvent(event: DayPart['event']): event is EventLabel {
  return event !== null && (EVENT_LABELS as readonly string[]).includes(event);
}
