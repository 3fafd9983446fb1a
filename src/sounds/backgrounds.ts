import type { Dice } from './dice.js';
import { click } from './events.js';
import { filter, peakOf, powerOf, ring, SOUND_RATE_HZ, samplesOf, silence } from './track.js';

/** The mains' harmonics, of a transformer, a fan or a bad cable. */
export function hum(dice: Dice, seconds: number): Float64Array {
  const track = silence(seconds);
  const mainsHz = dice.pick([50, 60]) * dice.between(0.998, 1.002);
  const harmonics = Array.from({ length: dice.whole(4, 20) }, (_, i) => ({
    step: (2 * Math.PI * mainsHz * (i + 1)) / SOUND_RATE_HZ,
    amplitude: dice.ratio(0.2, 1) / (1 + i) ** dice.between(0.5, 1.2),
    phase: dice.between(0, 6.28),
  }));
  const hiss = dice.ratio(0.005, 0.2);
  for (let i = 0; i < track.length; i++) {
    let sample = hiss * dice.noise();
    for (const { step, amplitude, phase } of harmonics) sample += amplitude * Math.sin(phase + step * i);
    track[i] = sample;
  }
  return track;
}

/** What is outdoors, and in a stairwell: noise of a colour, rain, wind, traffic, a fan. */
export function noise(dice: Dice, seconds: number): Float64Array {
  switch (dice.pick(['white', 'pink', 'brown', 'band', 'rain', 'wind', 'traffic', 'fan'] as const)) {
    case 'white':
      return silence(seconds).map(() => dice.noise());
    case 'pink':
      return coloured(dice, seconds, 0.5);
    case 'brown':
      return coloured(dice, seconds, 1);
    case 'band':
      return filter(
        coloured(dice, seconds, dice.between(0, 0.5)),
        'band',
        dice.ratio(200, 4_000),
        dice.between(0.4, 2),
      );
    case 'rain':
      return rain(dice, seconds);
    case 'wind':
      return wind(dice, seconds);
    case 'traffic':
      return traffic(dice, seconds);
    case 'fan': {
      const blades = hum(dice, seconds);
      return mixed(coloured(dice, seconds, 0.4), blades, dice.between(0.05, 0.5));
    }
  }
}

/** Noise whose power falls with the frequency to the power of `2 × slope`: first-order sections, an octave and a half apart. */
function coloured(dice: Dice, seconds: number, slope: number): Float64Array {
  const track = silence(seconds);
  const poles = [0.98, 0.93, 0.8, 0.5, 0.1];
  const states = poles.map(() => 0);
  let brown = 0;
  for (let i = 0; i < track.length; i++) {
    const white = dice.noise();
    brown += 0.01 * (white * 6 - brown);
    let pink = 0;
    for (let p = 0; p < poles.length; p++) {
      const pole = poles[p] as number;
      const state = pole * (states[p] as number) + (1 - pole) * white * (1 / Math.sqrt(1 - pole));
      states[p] = state;
      pink += state;
    }
    track[i] = slope > 0.75 ? brown * 3 : slope < 0.05 ? white : (1 - slope) * white * 0.3 + slope * pink;
  }
  return track;
}

function rain(dice: Dice, seconds: number): Float64Array {
  const track = filter(coloured(dice, seconds, 0.1), 'high', 1_000);
  const drops = Math.round(seconds * dice.ratio(20, 300));
  for (let drop = 0; drop < drops; drop++) {
    const fromS = dice.between(0, seconds);
    if (dice.chance(0.5)) click(track, dice, fromS, dice.ratio(0.1, 1.5), dice.ratio(0.0005, 0.004));
    else
      ring(track, {
        fromS,
        pitchHz: dice.ratio(800, 5_000),
        amplitude: dice.ratio(0.1, 0.8),
        decayS: dice.ratio(0.008, 0.03),
      });
  }
  return track;
}

/** Low noise that swells within seconds. */
function wind(dice: Dice, seconds: number): Float64Array {
  const track = filter(coloured(dice, seconds, 1), 'low', dice.ratio(300, 1_500));
  const gusts = [0, 1, 2].map(() => ({ hz: dice.ratio(0.15, 2.5), phase: dice.between(0, 6.28) }));
  for (let i = 0; i < track.length; i++) {
    let gust = 0;
    for (const { hz, phase } of gusts) gust += Math.sin(phase + (2 * Math.PI * hz * i) / SOUND_RATE_HZ);
    track[i] = (track[i] as number) * Math.exp(gust * 0.6);
  }
  return track;
}

/** Tyres, and an engine whose speed drifts, that come and go. */
function traffic(dice: Dice, seconds: number): Float64Array {
  const track = mixed(coloured(dice, seconds, 1), coloured(dice, seconds, 0.4), dice.between(0.1, 0.6));
  const engineHz = dice.ratio(25, 90);
  const passes = { atS: dice.between(0, seconds), widthS: dice.between(0.6, 3), drift: dice.between(-0.05, 0.05) };
  const scale = Math.sqrt(powerOf(track));
  let phase = 0;
  for (let i = 0; i < track.length; i++) {
    const s = i / SOUND_RATE_HZ;
    const near = Math.exp(-(((s - passes.atS) / passes.widthS) ** 2));
    phase += (2 * Math.PI * engineHz * (1 + passes.drift * s)) / SOUND_RATE_HZ;
    let engine = 0;
    for (let n = 1; n <= 6; n++) engine += Math.sin(phase * n) / n;
    track[i] = (0.3 + near) * ((track[i] as number) + scale * 0.6 * near * engine);
  }
  return track;
}

/** What is short and harmless, and might be taken for something: one thump, steps, one beep, keys, a switch, a steady tone. */
export function trifle(dice: Dice): Float64Array {
  const kind = dice.pick(['thump', 'thump', 'steps', 'beep', 'keys', 'switch', 'tone', 'gust'] as const);
  const track = silence(kind === 'tone' ? dice.between(0.4, 2) : kind === 'steps' ? 2.6 : 1.2);
  if (kind === 'thump' || kind === 'steps') {
    const spacingS = dice.between(0.5, 0.75);
    const modes = Array.from(
      { length: 4 },
      () => [dice.ratio(50, 600), dice.ratio(0.1, 1), dice.ratio(0.05, 0.3)] as const,
    );
    for (let fromS = 0.01; fromS < (kind === 'thump' ? 0.02 : 2.3); fromS += spacingS * dice.between(0.95, 1.05)) {
      for (const [pitchHz, amplitude, decayS] of modes) ring(track, { fromS, pitchHz, amplitude, decayS });
      click(track, dice, fromS, dice.between(0.05, 0.9), dice.ratio(0.003, 0.03));
    }
  } else if (kind === 'beep' || kind === 'tone') {
    const pitchHz = kind === 'beep' ? dice.ratio(500, 4_000) : dice.ratio(180, 1_000);
    const lengthS = kind === 'beep' ? dice.between(0.04, 0.18) : track.length / SOUND_RATE_HZ;
    const step = (2 * Math.PI * pitchHz) / SOUND_RATE_HZ;
    const length = samplesOf(lengthS);
    for (let i = 0; i < length; i++) track[i] = Math.min(1, i / 80, (length - i) / 80) * Math.sin(step * i);
  } else if (kind === 'keys') {
    for (let fromS = 0.01; fromS < 1; fromS += dice.ratio(0.04, 0.2)) {
      const strength = dice.between(0.2, 1);
      for (let mode = dice.whole(2, 4); mode > 0; mode--) {
        ring(track, {
          fromS,
          pitchHz: dice.ratio(2_500, 7_000),
          amplitude: strength * dice.share(),
          decayS: dice.ratio(0.02, 0.12),
        });
      }
    }
  } else if (kind === 'switch') {
    for (let n = dice.whole(1, 2), fromS = 0.01; n > 0; n--, fromS += dice.between(0.05, 0.12)) {
      click(track, dice, fromS, dice.between(0.5, 1), dice.ratio(0.001, 0.006));
    }
  } else {
    for (let i = 0; i < track.length; i++) track[i] = dice.noise() * Math.sin((Math.PI * i) / track.length) ** 2;
    filter(track, 'low', dice.ratio(300, 5_000));
  }
  return track;
}

function mixed(one: Float64Array, other: Float64Array, share: number): Float64Array {
  const scale = (share * Math.sqrt(powerOf(one))) / Math.max(1e-9, Math.sqrt(powerOf(other)));
  return peakOf(other) === 0 ? one : one.map((sample, i) => sample + scale * (other[i] as number));
}
