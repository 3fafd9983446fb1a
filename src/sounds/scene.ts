import { FRAME_MS } from '../audio/frame.js';
import { Dice } from './dice.js';
import { type EventLabel, type MadeSound, madeTrack } from './made-sound.js';
import { inRoom, roomOf } from './room.js';
import { filter, peakOf, powerOf, SOUND_RATE_HZ, samplesOf, silence, toSamples } from './track.js';

export type SceneBackground = 'speech' | 'hum' | 'noise' | 'silence';

export interface SceneOptions {
  readonly seed: number;
  readonly seconds: number;
  /** What happens, and when it begins; null: nothing. */
  readonly event: EventLabel | 'speech' | 'trifle' | null;
  readonly eventAtS: number;
  readonly over: SceneBackground;
  /** Mean power of the event while it lasts over that of the background, dB; of `silence` as the background it says nothing. */
  readonly snrDb: number;
  /** Loudest sample of the event, or of the background where there is none; dB of full scale. */
  readonly peakDb: number;
  /** Where its parts come from, in place of `madeTrack`: a trainer uses some more than once. */
  readonly sounds?: (label: MadeSound, seed: number, seconds: number) => Promise<Float64Array>;
}

/** Where a sound can be heard: one frame of 10 ms after the other, 1 or 0. */
export interface SceneTruth {
  readonly label: EventLabel | 'speech';
  readonly audible: Uint8Array;
}

export interface Scene {
  /** 16 kHz mono. */
  readonly samples: Int16Array;
  readonly truth: readonly SceneTruth[];
}

const FRAME_SAMPLES = (SOUND_RATE_HZ * FRAME_MS) / 1000;
/** A sound is heard while it is no further below its loudest frame, and below what else there is. */
const AUDIBLE_BELOW_PEAK_DB = 25;
const AUDIBLE_BELOW_REST_DB = 8;
const PAUSE_BETWEEN_SENTENCES_S = 0.6;

/**
 * An event over a background, in a room (three in five), by a microphone whose frequency response and hiss the seed gives too.
 * @throws AppError `speech-absent` where speech is wanted and espeak-ng is not installed
 */
export async function sceneOf(options: SceneOptions): Promise<Scene> {
  const { seed, seconds, event, over, snrDb, peakDb, sounds = madeTrack } = options;
  const dice = new Dice(seed, 'scene');
  const room = dice.chance(0.6) ? roomOf(dice) : null;
  const within = (track: Float64Array): Float64Array => (room === null ? track : inRoom(track, room));
  const happening = silence(seconds);
  if (event !== null) place(happening, within(await sounds(event, seed, seconds)), options.eventAtS);
  const voices = silence(seconds);
  if (over === 'speech') {
    for (let atS = dice.between(-0.5, 0.3), n = 0; atS < seconds; n++) {
      const spoken = within(await sounds('speech', seed + 31 * n, seconds));
      place(voices, spoken, atS);
      atS += spoken.length / SOUND_RATE_HZ + dice.between(0, PAUSE_BETWEEN_SENTENCES_S);
    }
  }
  const around = dice.pick(['hum', 'noise', 'noise'] as const);
  const rest = await sounds(over === 'speech' ? around : over, seed, seconds);

  const eventScale = event === null ? 0 : amplitude(peakDb) / Math.max(1e-6, peakOf(happening));
  const eventDb = decibels(loudPower(happening) * eventScale ** 2);
  const louder = over === 'speech' ? voices : rest;
  const backgroundScale =
    over === 'silence'
      ? 1
      : event === null
        ? amplitude(peakDb) / Math.max(1e-6, peakOf(louder))
        : amplitude(eventDb - snrDb - decibels(loudPower(louder)));
  const hissDb = dice.between(-85, -62);
  const voiceDb = decibels(loudPower(voices) * backgroundScale ** 2);
  const restScale =
    over === 'speech'
      ? amplitude(Math.max(-75, voiceDb - dice.between(8, 35)) - decibels(powerOf(rest)))
      : backgroundScale;

  const parts = {
    event: scaled(happening, eventScale),
    voices: scaled(voices, backgroundScale),
    rest: scaled(rest, restScale),
  };
  const whole = parts.event.map(
    (sample, i) => sample + (parts.voices[i] as number) + (parts.rest[i] ?? 0) + 1.7 * amplitude(hissDb) * dice.noise(),
  );
  if (dice.chance(0.4)) filter(whole, 'low', dice.ratio(3_800, 7_600));
  if (dice.chance(0.4)) filter(whole, 'high', dice.ratio(60, 300));
  const levels = {
    event: frameLevelsDb(parts.event),
    voices: frameLevelsDb(parts.voices),
    rest: frameLevelsDb(parts.rest).map((level) => Math.max(level, hissDb)),
  };
  const truth: SceneTruth[] = [];
  if (event !== null && event !== 'trifle') {
    truth.push({ label: event, audible: audible(levels.event, louderOf(levels.voices, levels.rest)) });
  }
  if (over === 'speech')
    truth.push({ label: 'speech', audible: audible(levels.voices, louderOf(levels.event, levels.rest)) });
  return { samples: toSamples(whole), truth };
}

function place(into: Float64Array, track: Float64Array, atS: number): void {
  const at = samplesOf(atS);
  for (let i = Math.max(0, -at); i < track.length && at + i < into.length; i++) {
    into[at + i] = (into[at + i] as number) + (track[i] as number);
  }
}

function scaled(track: Float64Array, scale: number): Float64Array {
  const out = new Float64Array(track.length);
  for (let i = 0; i < track.length; i++) out[i] = (track[i] as number) * scale;
  return out;
}

function framePowers(track: Float64Array): Float64Array {
  return Float64Array.from({ length: Math.floor(track.length / FRAME_SAMPLES) }, (_, frame) =>
    powerOf(track.subarray(frame * FRAME_SAMPLES, (frame + 1) * FRAME_SAMPLES)),
  );
}

function frameLevelsDb(track: Float64Array): Float64Array {
  return framePowers(track).map(decibels);
}

/** Mean power of the frames in which something is, rather than of the pauses: those within 20 dB of the loudest. */
function loudPower(track: Float64Array): number {
  const powers = framePowers(track);
  const least = powers.reduce((most, one) => Math.max(most, one), 0) / 100;
  const loud = powers.filter((power) => power > 0 && power >= least);
  return loud.length === 0 ? 0 : loud.reduce((sum, one) => sum + one, 0) / loud.length;
}

function louderOf(one: Float64Array, other: Float64Array): Float64Array {
  return one.map((level, i) => Math.max(level, other[i] ?? level));
}

function audible(levelsDb: Float64Array, restDb: Float64Array): Uint8Array {
  const loudestDb = levelsDb.reduce((most, one) => Math.max(most, one), -100);
  return Uint8Array.from(levelsDb, (level, i) =>
    level > loudestDb - AUDIBLE_BELOW_PEAK_DB && level > (restDb[i] as number) - AUDIBLE_BELOW_REST_DB && level > -90
      ? 1
      : 0,
  );
}

function amplitude(db: number): number {
  return 10 ** (db / 20);
}

function decibels(power: number): number {
  return 10 * Math.log10(Math.max(1e-12, power));
}
