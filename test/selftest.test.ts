import { test } from 'tap';
import { resample } from '../src/audio/resample.js';
import { measureLoop } from '../src/media/loop-verdict.js';
import { findSweep } from '../src/media/signal-finder.js';
import { OnceSource, sweep, testSignal } from '../src/media/test-signal.js';
import { judge, type SelfTestCheck } from '../src/protocol/selftest.js';
import { seededRandom } from './support/random.js';

const RATE_HZ = 16_000;
const LIMITS = { signalDbfs: -20, leastLevelDb: -40 };
const FROM = 300 * 16;
const LENGTH = 1_600 * 16;

function noise(dbfs: number, seed: number, length = LENGTH): Int16Array {
  const random = seededRandom(seed);
  // Uniform in ±a has the power a² / 3.
  const amplitude = 32_768 * Math.sqrt(3) * 10 ** (dbfs / 20);
  return Int16Array.from({ length }, () => Math.round((2 * random() - 1) * amplitude));
}

/** What a microphone hears: its background, and from `delayMs` on the signal, made by `path`. */
function heardBy(path: (sample: number) => number, options: { delayMs: number; background?: Int16Array }): Int16Array {
  const heard = Int16Array.from(options.background ?? new Int16Array(LENGTH));
  const at = FROM + options.delayMs * 16;
  for (const [i, sample] of testSignal(RATE_HZ).entries()) {
    heard[at + i] = Math.max(-32_768, Math.min(32_767, (heard[at + i] ?? 0) + Math.round(path(sample))));
  }
  return heard;
}

const measured = (heard: Int16Array) => measureLoop(heard, { ...LIMITS, from: FROM });

test('the signal is found in what the microphone heard: level, delay, distortion, and what is wrong with it', async (t) => {
  for (const delayMs of [0, 37, 180, 400]) {
    const result = measured(heardBy((sample) => sample * 0.1, { delayMs, background: noise(-60, 7) }));
    t.equal(result.verdict, 'heard');
    t.ok(Math.abs((result.delayMs ?? 0) - delayMs) <= 1, `${result.delayMs} ms for ${delayMs}`);
    t.ok(Math.abs((result.levelDb ?? 0) + 20) < 1, `${result.levelDb} dB`);
    t.ok((result.distortionPct ?? 99) < 5, `${result.distortionPct} %`);
    t.ok(Math.abs((result.backgroundDbfs ?? 0) + 60) < 1);
  }
  const loud = measured(heardBy((sample) => sample * 0.1, { delayMs: 50, background: noise(-40, 8) }));
  t.equal(loud.verdict, 'heard', `beside noise as loud as it: ${loud.correlation}`);
  const inverted = measured(heardBy((sample) => -0.3 * sample, { delayMs: 20 }));
  t.match(inverted, { verdict: 'heard', backgroundDbfs: null }, 'a loudspeaker with its wires exchanged is heard too');

  t.equal(measured(heardBy((sample) => sample * 0.002, { delayMs: 50 })).verdict, 'too-quiet');
  const cut = measured(heardBy((sample) => Math.max(-300, Math.min(300, sample)), { delayMs: 50 }));
  t.equal(cut.verdict, 'distorted', `${cut.distortionPct} %`);
  const clipped = measured(heardBy((sample) => sample * 20, { delayMs: 50 }));
  t.equal(clipped.verdict, 'clipped');
  t.ok(clipped.clippedSamples > 1_000);
});

test('what is not the signal is not heard', async (t) => {
  t.match(measured(new Int16Array(LENGTH)), {
    verdict: 'not-heard',
    correlation: 0,
    levelDb: null,
    backgroundDbfs: null,
  });
  t.match(measured(new Int16Array(100)), { verdict: 'not-heard' });
  t.match(measured(new Int16Array(0)), { verdict: 'not-heard' });
  let most = 0;
  for (let seed = 1; seed <= 20; seed++) most = Math.max(most, measured(noise(-20, seed)).correlation);
  const tone = Int16Array.from({ length: LENGTH }, (_, i) => 8_000 * Math.sin((2 * Math.PI * 800 * i) / RATE_HZ));
  most = Math.max(most, measured(tone).correlation);
  t.ok(most < 0.1, `${most} at most`);
  t.equal(findSweep(sweep(RATE_HZ).subarray(0, 6_000), { from: 0, dbfs: -20 }), null, 'half of it is not it');
});

test('a station at 48 kHz plays the same signal, in whole frames, once', async (t) => {
  const whole = testSignal(48_000);
  const source = new OnceSource(whole, 48_000);
  const frames: number[] = [];
  t.equal(source.startedAtMs, null);
  for (let frame = source.pull(5); frame !== null; frame = source.pull(6)) frames.push(...frame);
  t.equal(source.startedAtMs, 5);
  t.equal(source.taken, 1);
  t.equal(frames.length, 85 * 480);
  const heard = new Int16Array(LENGTH);
  heard.set(resample(Int16Array.from(frames), { fromHz: 48_000, toHz: RATE_HZ }), FROM + 160);
  t.match(measured(heard), { verdict: 'heard' });
});

test('a station is well if nothing failed and what counts was tried', async (t) => {
  const check = (
    name: SelfTestCheck['name'],
    outcome: SelfTestCheck['outcome'],
    reason: string = outcome,
  ): SelfTestCheck => ({
    name,
    outcome,
    reason,
    text: '',
    remedy: null,
    figures: {},
  });
  const well = [check('broker', 'pass'), check('sound', 'pass'), check('call', 'pass')];
  t.match(judge(well), { ok: true, verdict: 'pass', failed: [] });
  t.match(judge([...well, check('relay', 'skipped', 'no-contact')]), { ok: true });
  t.match(judge([...well, check('relay', 'fail', 'relay-stuck')]), { verdict: 'fail', failed: ['relay: relay-stuck'] });
  const interrupted = [well[0], well[1], check('call', 'skipped', 'interrupted')].filter((one) => one !== undefined);
  t.match(judge(interrupted), { ok: false, verdict: 'undecided', failed: ['call: interrupted'] });
  t.match(judge(interrupted, ['sound']), { ok: true });
  t.match(judge([]), { verdict: 'undecided', failed: ['broker: not-tried', 'sound: not-tried', 'call: not-tried'] });
});
