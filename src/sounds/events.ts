import type { Dice } from './dice.js';
import { filter, ring, SOUND_RATE_HZ, samplesOf, silence } from './track.js';

/** Ding-dong: two notes (now and then one to four) of a struck bar or tube, or of a chip that imitates it. */
export function chime(dice: Dice): Float64Array {
  const notes = dice.pick([1, 2, 2, 2, 2, 3, 4]);
  const spacingS = dice.between(0.25, 0.8);
  const decayS = dice.ratio(0.7, 2.5);
  const partials = dice.pick([
    [1, 2, 3, 4.2],
    [1, 2.76, 5.4],
    [1, 2, 4.1],
    [1, 3, 5],
  ]);
  const weights = partials.map((_, i) => dice.ratio(0.3, 1) / (1 + i * dice.between(0.7, 2)));
  const track = silence(notes * spacingS + Math.min(1.6, decayS));
  let pitchHz = dice.ratio(420, 1_300);
  for (let note = 0; note < notes; note++) {
    const loudness = dice.between(0.7, 1);
    for (const [i, partial] of partials.entries()) {
      ring(track, {
        fromS: note * spacingS,
        pitchHz: pitchHz * partial * dice.between(0.998, 1.002),
        amplitude: loudness * (weights[i] as number),
        decayS: decayS / (1 + 0.6 * i),
        attackS: dice.between(0.001, 0.006),
      });
    }
    const interval = dice.pick([5 / 4, 4 / 3, 3 / 2, 6 / 5, 9 / 8]);
    pitchHz = dice.chance(0.75) ? pitchHz / interval : pitchHz * interval;
  }
  return track;
}

/** Two tones in turn, a siren that sweeps, or a beeper; for seconds. */
export function alarm(dice: Dice): Float64Array {
  const track = silence(dice.between(3, 6));
  const kind = dice.pick(['two-tone', 'yelp', 'wail', 'beeper', 'smoke', 'horn'] as const);
  const lowHz = dice.ratio(kind === 'horn' ? 420 : 700, 1_700);
  const highHz = lowHz * dice.between(1.15, 2.2);
  const beepHz = dice.ratio(1_900, 4_200);
  const periodS = { 'two-tone': dice.ratio(0.25, 1.1), yelp: dice.ratio(0.16, 0.5), wail: dice.ratio(1.5, 4) };
  const beepS = kind === 'smoke' ? 0.5 : dice.ratio(0.06, 0.3);
  const pauseS = kind === 'smoke' ? 0.5 : beepS * dice.between(0.6, 1.4);
  const harmonics = dice.pick([[1], [1, 0, 0.33], [1, 0.5, 0.33, 0.25], [1, 0.2, 0.1]]);
  let phase = 0;
  let level = 0;
  for (let i = 0; i < track.length; i++) {
    const s = i / SOUND_RATE_HZ;
    let pitchHz = beepHz;
    let on = 1;
    if (kind === 'two-tone') pitchHz = s % periodS['two-tone'] < periodS['two-tone'] / 2 ? lowHz : highHz;
    else if (kind === 'yelp' || kind === 'wail') {
      const at = (s % periodS[kind]) / periodS[kind];
      pitchHz = lowHz * (highHz / lowHz) ** (kind === 'yelp' ? at : at < 0.5 ? 2 * at : 2 - 2 * at);
    } else if (kind === 'horn') pitchHz = lowHz;
    else if (kind === 'smoke') on = s % 4 < 3 && s % 1 < beepS ? 1 : 0;
    else on = s % (beepS + pauseS) < beepS ? 1 : 0;
    if (kind === 'horn') on = s % 1.2 < 0.9 ? 1 : 0;
    level += (on - level) * 0.01;
    phase += (2 * Math.PI * pitchHz) / SOUND_RATE_HZ;
    let sample = 0;
    for (const [n, weight] of harmonics.entries()) {
      if (weight > 0 && pitchHz * (n + 1) < 7_600) sample += weight * Math.sin(phase * (n + 1));
    }
    track[i] = level * sample;
  }
  return track;
}

/** A blow, the pane's burst, and a cascade of splinters: dozens of inharmonic partials that start and die by themselves. */
export function glass(dice: Dice): Float64Array {
  const track = silence(dice.between(1, 1.9));
  const burst = silence(0.4);
  const burstS = dice.ratio(0.012, 0.06);
  for (let i = 0; i < burst.length; i++) {
    burst[i] = dice.noise() * Math.min(1, i / 16) * Math.exp(-i / (burstS * SOUND_RATE_HZ));
  }
  filter(burst, 'high', dice.ratio(500, 2_500));
  const loudness = dice.between(0.5, 1.1);
  for (let i = 0; i < burst.length; i++) track[i] = loudness * (burst[i] as number);
  if (dice.chance(0.6)) {
    ring(track, { fromS: 0, pitchHz: dice.between(90, 400), amplitude: dice.between(0.1, 0.6), decayS: 0.12 });
  }
  const pane = dice.whole(12, 30);
  for (let i = 0; i < pane; i++) {
    ring(track, {
      fromS: dice.between(0, 0.03),
      pitchHz: dice.ratio(1_800, 7_700),
      amplitude: dice.ratio(0.03, 0.2),
      decayS: dice.ratio(0.1, 0.6),
      phase: dice.between(0, 6.28),
    });
  }
  const splinters = dice.whole(15, 55);
  const fallS = dice.between(0.18, 0.45);
  for (let splinter = 0; splinter < splinters; splinter++) {
    const fromS = 0.02 - fallS * Math.log(1 - dice.share());
    const strength = dice.ratio(0.08, 0.6) * Math.exp(-fromS);
    const modes = dice.whole(2, 5);
    for (let mode = 0; mode < modes; mode++) {
      ring(track, {
        fromS,
        pitchHz: dice.ratio(2_200, 7_800),
        amplitude: strength * dice.between(0.3, 1),
        decayS: dice.ratio(0.03, 0.3),
        attackS: 0.0004,
      });
    }
    click(track, dice, fromS, strength * 0.5, 0.002);
  }
  return track;
}

/** Knuckles on a door: two to five thumps, evenly but for a person's unevenness. */
export function knock(dice: Dice): Float64Array {
  const thumps = dice.whole(2, 5);
  const spacingS = dice.ratio(0.13, 0.38);
  const track = silence(thumps * spacingS * 1.15 + 0.3);
  const door = Array.from({ length: dice.whole(3, 6) }, () => ({
    pitchHz: dice.ratio(80, 900),
    amplitude: dice.ratio(0.2, 1),
    decayS: dice.ratio(0.06, 0.22),
  }));
  let fromS = 0.005;
  for (let thump = 0; thump < thumps; thump++) {
    const strength = dice.between(0.6, 1);
    for (const { pitchHz, amplitude, decayS } of door) {
      ring(track, { fromS, pitchHz: pitchHz * dice.between(0.97, 1.03), amplitude: strength * amplitude, decayS });
    }
    click(track, dice, fromS, strength * dice.between(0.2, 0.9), 0.004);
    fromS += spacingS * dice.between(0.88, 1.12);
  }
  return track;
}

/** A very short burst of noise that begins at `fromS`: one hard thing meets another. */
export function click(track: Float64Array, dice: Dice, fromS: number, amplitude: number, decayS: number): void {
  const from = samplesOf(fromS);
  const length = Math.min(track.length - from, samplesOf(decayS * 6));
  for (let i = 0; i < length; i++) {
    const at = from + i;
    track[at] = (track[at] as number) + amplitude * dice.noise() * Math.exp(-i / (decayS * SOUND_RATE_HZ));
  }
}

/** A scream: a voice far up, rough (Arnal et al. 2015: its loudness flutters at 30 to 150 Hz), with the resonances of a wide mouth. */
export function scream(dice: Dice): Float64Array {
  const seconds = dice.between(0.8, 1.8);
  const track = silence(seconds);
  const topHz = dice.ratio(480, 1_150);
  const startHz = topHz * dice.between(0.55, 0.9);
  const endHz = topHz * dice.between(0.5, 0.85);
  const roughHz = dice.between(35, 110);
  const roughness = dice.between(0.15, 0.6);
  const vibratoHz = dice.between(4, 8);
  const breath = dice.between(0.05, 0.3);
  let phase = 0;
  for (let i = 0; i < track.length; i++) {
    const at = i / track.length;
    const glide =
      at < 0.25 ? startHz + ((topHz - startHz) * at) / 0.25 : topHz + ((endHz - topHz) * (at - 0.25)) / 0.75;
    const s = i / SOUND_RATE_HZ;
    phase +=
      (2 * Math.PI * glide * (1 + 0.02 * Math.sin(2 * Math.PI * vibratoHz * s) + 0.004 * dice.noise())) / SOUND_RATE_HZ;
    let voice = 0;
    for (let n = 1; n <= 12 && n * glide < 7_600; n++) voice += Math.cos(phase * n) / n ** 0.7;
    const flutter = 1 - roughness * (0.5 + 0.5 * Math.sin(2 * Math.PI * roughHz * s));
    const envelope = Math.min(1, at / 0.08, (1 - at) / 0.2);
    track[i] = envelope * flutter * (voice + breath * 4 * dice.noise());
  }
  const mouth = [dice.between(750, 1_100), dice.between(1_300, 1_900), dice.between(2_700, 3_400)];
  const spoken = mouth.map((hz) => filter(track.slice(), 'band', hz, dice.between(2, 4)));
  return track.map((sample, i) => spoken.reduce((sum, one) => sum + (one[i] as number), 0.25 * sample));
}
