import { test } from 'tap';
import { EVENT_LABELS, type MadeSound, SEEDS, synthesise } from '../src/sounds/made-sound.js';
import { sceneOf } from '../src/sounds/scene.js';

const RATE_HZ = 16_000;

test('made sounds are the same for the same seed, others for another, and within full scale', async (t) => {
  const labels: MadeSound[] = [...EVENT_LABELS, 'speech', 'trifle', 'hum', 'noise', 'silence'];
  for (const label of labels) {
    const [one, again, other] = await Promise.all([
      synthesise(label, 7, 1),
      synthesise(label, 7, 1),
      synthesise(label, 8, 1),
    ]);
    t.ok(Buffer.from(one.buffer).equals(Buffer.from(again.buffer)), `${label}: the same`);
    t.notOk(Buffer.from(one.buffer).equals(Buffer.from(other.buffer)), `${label}: another`);
    const peak = one.reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
    t.ok(label === 'silence' ? peak < 20 : Math.abs(peak - 0.7 * 32_767) < 2, `${label}: its peak is ${peak}`);
    t.ok(one.length >= RATE_HZ / 4 && one.length <= 10 * RATE_HZ, `${label}: ${one.length} samples`);
  }
  const ranges = Object.values(SEEDS);
  t.ok(
    ranges.every(({ first, last }, i) => first <= last && first > (ranges[i - 1]?.last ?? -1)),
    'no seed has two uses',
  );
});

test('a scene has its event where it was put, as far above the background as was asked', async (t) => {
  const quiet = { seconds: 3, eventAtS: 1, snrDb: 20, peakDb: -10 } as const;
  for (const event of EVENT_LABELS) {
    const { samples, truth } = await sceneOf({ ...quiet, seed: 11, event, over: 'noise' });
    t.equal(samples.length, 3 * RATE_HZ);
    t.equal(truth.length, 1);
    const audible = truth[0]?.audible ?? new Uint8Array(0);
    t.equal(truth[0]?.label, event);
    t.equal(audible.length, 300);
    const first = audible.indexOf(1);
    t.ok(first >= 99 && first < 115, `${event}: heard from ${first * 10} ms on`);
    const power = (fromS: number, toS: number): number =>
      samples.subarray(fromS * RATE_HZ, toS * RATE_HZ).reduce((sum, one) => sum + one * one, 0) / (toS - fromS);
    t.ok(power(1, 1.3) > 5 * power(0.2, 0.9), `${event}: louder than what was before`);
  }
  const spoken = await sceneOf({ ...quiet, seed: 12, event: 'glass', over: 'speech', snrDb: 0 });
  t.same(
    spoken.truth.map(({ label }) => label),
    ['glass', 'speech'],
  );
  t.ok(
    spoken.truth.every(({ audible }) => audible.includes(1)),
    'both are heard',
  );
  const nothing = await sceneOf({ ...quiet, seed: 13, event: null, over: 'silence' });
  t.same(nothing.truth, []);
  t.ok(nothing.samples.every((sample) => Math.abs(sample) < 330));
});
