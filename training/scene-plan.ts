import { Dice } from '../src/sounds/dice.js';
import { EVENT_LABELS, type MadeSound, madeTrack, SEEDS } from '../src/sounds/made-sound.js';
import type { SceneBackground, SceneOptions } from '../src/sounds/scene.js';

export const SCENE_S = 4;
/** Loudest sample of what happens, dB of full scale, and how far it stands above what is around. */
const PEAKS_DB = [-32, -3] as const;
const SNRS_DB = [0, 30] as const;

/** What a scene of this seed has to train on: an event in two of three, over speech in one of three. */
export function plannedScene(seed: number): SceneOptions {
  const dice = new Dice(seed, 'plan');
  const drawn = dice.share();
  const event = drawn < 0.64 ? dice.pick(EVENT_LABELS) : drawn < 0.74 ? 'speech' : drawn < 0.87 ? 'trifle' : null;
  const around: readonly SceneBackground[] =
    event === 'speech'
      ? ['noise', 'noise', 'hum', 'silence', 'silence']
      : ['speech', 'speech', 'speech', 'noise', 'noise', 'noise', 'hum', 'silence', 'silence'];
  return {
    seed,
    seconds: SCENE_S,
    event,
    eventAtS: dice.between(0.9, 2.2),
    over: dice.pick(around),
    snrDb: dice.between(...SNRS_DB),
    peakDb: dice.between(...PEAKS_DB),
  };
}

/**
 * Sounds for scenes, whose sentences and cries come from so many at most and are kept: espeak-ng takes the longest of all. All others
 * are made anew for each seed.
 */
export function sharedVoices(range: { readonly first: number }, voices: number): NonNullable<SceneOptions['sounds']> {
  const kept = new Map<string, Promise<Float64Array>>();
  return (label: MadeSound, seed: number, seconds: number) => {
    if (label !== 'speech' && label !== 'cry') return madeTrack(label, seed, seconds);
    const voice = range.first + ((Math.imul(seed, 7) >>> 0) % voices);
    const key = `${label} ${voice}`;
    const track = kept.get(key) ?? madeTrack(label, voice, seconds);
    kept.set(key, track);
    return track;
  };
}

/** The seeds of one use, from its first on. */
export function seedsOf(use: keyof typeof SEEDS, count: number, skip = 0): number[] {
  const { first, last } = SEEDS[use];
  if (first + skip + count - 1 > last) throw new RangeError(`${count} seeds are more than ${use} has`);
  return Array.from({ length: count }, (_, i) => first + skip + i);
}
