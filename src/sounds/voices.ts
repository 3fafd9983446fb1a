import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { resample } from '../audio/resample.js';
import { readWav } from '../audio/wav.js';
import { AppError } from '../core/errors.js';
import type { Dice } from './dice.js';
import { filter, levelled, SOUND_RATE_HZ, toTrack } from './track.js';

const LANGUAGES = ['en-us', 'en-gb', 'en-gb-scotland', 'de', 'fr-fr', 'es', 'it', 'nl', 'pl', 'pt-br', 'sv'];
const VARIANTS = [
  ...['m1', 'm2', 'm3', 'm4', 'm5', 'm6', 'm7', 'm8', 'f1', 'f2', 'f3', 'f4', 'f5'],
  ...['klatt', 'klatt2', 'croak', 'Annie', 'steph', 'linda', 'Alicia', 'max', 'john', 'david', 'grandma', 'Michael'],
];
const WORDS = (
  'good morning hello this is the porter please open door a parcel for third floor my name and I have letter who are you ' +
  'where can we leave it thanks wait moment somebody will come down lift broken today again because of water nobody was at home ' +
  'yesterday evening neighbour says that key lies under stone would like to speak with doctor office closed until nine tomorrow ' +
  'children play in yard bicycle stands there seven eight eleven forty delivery restaurant noodles number street help ask window ' +
  'garden music quiet station train late rain snow summer house kitchen bread coffee yes no perhaps certainly never always'
).split(' ');
const CHINESE =
  '你好请开门我是送快递的三楼没有人在家谢谢等一下电梯坏了今天明天早上下午医生孩子钥匙水果面条七八九十街道名字';

const CRIES: readonly (readonly [string, string])[] = [
  ['en-us', 'Help!'],
  ['en-gb', 'Help me!'],
  ['en-us', 'Help! Help!'],
  ['en-gb', 'Somebody help!'],
  ['de', 'Hilfe!'],
  ['fr-fr', 'Au secours!'],
  ['es', 'Socorro!'],
  ['it', 'Aiuto!'],
  ['nl', 'Help!'],
  ['cmn', '救命!'],
  ['cmn', '救命啊!'],
];

/** Somebody says a few words, in the voice, at the speed and pitch that the dice give. @throws AppError `speech-absent` */
export async function sentence(dice: Dice): Promise<Float64Array> {
  const isChinese = dice.chance(0.12);
  const words = dice.whole(4, 12);
  const text = isChinese
    ? Array.from({ length: words }, () => dice.pick([...CHINESE])).join('')
    : Array.from({ length: words }, () => dice.pick(WORDS)).join(' ');
  const spoken = await espeak(text, {
    voice: `${isChinese ? 'cmn' : dice.pick(LANGUAGES)}+${dice.pick(VARIANTS)}`,
    wordsPerMinute: dice.whole(115, 215),
    pitch: dice.whole(20, 80),
  });
  return shifted(spoken, dice.ratio(0.9, 1.12));
}

/**
 * A call for help, shouted: high, slow, its overtones raised as those of a shout are (Traunmüller and Eriksson 2000), and overdriven.
 * @throws AppError `speech-absent`
 */
export async function callForHelp(dice: Dice): Promise<Float64Array> {
  const [language, text] = dice.pick(CRIES);
  const spoken = await espeak(text, {
    voice: `${language}+${dice.pick(VARIANTS)}`,
    wordsPerMinute: dice.whole(85, 130),
    pitch: dice.whole(85, 99),
  });
  const shouted = levelled(shifted(spoken, dice.ratio(1.25, 1.75)), 1);
  const overtones = filter(shouted.slice(), 'high', dice.ratio(900, 1_600));
  const [raised, drive] = [dice.between(1.5, 4), dice.between(1.5, 4)];
  return shouted.map((sample, i) => Math.tanh(drive * (sample + raised * (overtones[i] as number))));
}

async function espeak(
  text: string,
  { voice, wordsPerMinute, pitch }: { voice: string; wordsPerMinute: number; pitch: number },
): Promise<Float64Array> {
  const run = promisify(execFile);
  const { stdout } = await run(
    'espeak-ng',
    ['--stdout', '-v', voice, '-s', `${wordsPerMinute}`, '-p', `${pitch}`, text],
    { encoding: 'buffer', maxBuffer: 16 * 1024 * 1024 },
  ).catch((cause: unknown) => {
    throw new AppError('speech-absent', 'espeak-ng did not speak', { remedy: 'Install espeak-ng', cause });
  });
  const { samples, rateHz } = readWav(stdout);
  return trimmed(toTrack(resample(samples, { fromHz: rateHz, toHz: SOUND_RATE_HZ })));
}

/** Higher and shorter by `ratio`, as a tape that runs faster. */
function shifted(track: Float64Array, ratio: number): Float64Array {
  const out = new Float64Array(Math.floor((track.length - 1) / ratio));
  for (let i = 0; i < out.length; i++) {
    const at = Math.floor(i * ratio);
    const part = i * ratio - at;
    out[i] = (track[at] as number) * (1 - part) + (track[at + 1] as number) * part;
  }
  return out;
}

/** Without the silence before and after. */
function trimmed(track: Float64Array): Float64Array {
  const isLoud = (sample: number): boolean => Math.abs(sample) > 0.005;
  const from = track.findIndex(isLoud);
  return from < 0 ? track : track.slice(from, track.findLastIndex(isLoud) + 1);
}
