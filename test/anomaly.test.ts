import { test } from 'tap';
import {
  type AnomalyWatch,
  LevelShiftWatch,
  type Reading,
  ThresholdWatch,
  TrendWatch,
} from '../src/palette/anomaly/anomaly-watch.js';
import { seededNormal } from './support/random.js';

/** Feeds values a second apart. @returns the readings */
function feed(watch: AnomalyWatch, values: Iterable<number>, fromMs = 0): Reading[] {
  return [...values].map((value, second) => watch.take(value, fromMs + second * 1_000));
}

/** How often it said that something is wrong. */
function alarms(readings: readonly Reading[]): number {
  return readings.filter(({ isWrong }, at) => isWrong && readings[at - 1]?.isWrong !== true).length;
}

function* noise(count: number, level: number, sigma: number, seed: number): Generator<number> {
  const random = seededNormal(seed);
  for (let at = 0; at < count; at++) yield level + sigma * random();
}

test('a threshold has hysteresis on its good side, above as below', async (t) => {
  const hot = new ThresholdWatch({ limit: 70, side: 'above', hysteresis: 5 });
  t.same(
    feed(hot, [69, 70, 70.1, 69, 65.1, 65, 66, 71]).map(({ isWrong }) => isWrong),
    [false, false, true, true, true, false, false, true],
  );
  const poor = new ThresholdWatch({ limit: 3.6, side: 'below', hysteresis: 0 });
  t.same(
    feed(poor, [3.6, 3.5, 3.6, 4]).map(({ isWrong }) => isWrong),
    [false, true, false, false],
  );
});

test('another level is found in a few values and is over when it is; noise and single values are none', async (t) => {
  const options = { learn: 60, alarm: 8, side: 'either', least: 0 } as const;
  for (let seed = 1; seed <= 10; seed++) {
    const watch = new LevelShiftWatch(options);
    t.equal(alarms(feed(watch, noise(20_000, 20, 2, seed))), 0, 'noise is no shift');
    t.equal(
      feed(watch, [1e15, -1e15, 26, 14]).filter(({ isWrong }) => isWrong).length,
      0,
      'nor is one that is far out',
    );
    feed(watch, noise(100, 20, 2, seed + 200));
    const shifted = feed(watch, noise(100, 26, 2, seed + 100));
    const foundAt = shifted.findIndex(({ isWrong }) => isWrong);
    t.ok(foundAt >= 2 && foundAt < 15, `three deviations: found at value ${foundAt + 1}`);
    t.equal(shifted.at(-1)?.isWrong, true, 'and it does not get used to it');
    const back = feed(watch, noise(60, 20, 2, seed + 300));
    t.equal(back.at(-1)?.isWrong, false);
    t.ok(Math.abs((back.at(-1)?.baseline ?? 0) - 20) < 1);
  }

  const down = feed(new LevelShiftWatch({ ...options, side: 'above' }), [
    ...noise(100, 20, 2, 1),
    ...noise(100, 2, 2, 2),
  ]);
  t.equal(alarms(down), 0, 'the other side was not asked about');
  const learning = feed(new LevelShiftWatch({ ...options, learn: 10 }), noise(12, 5, 1, 3));
  t.same(
    learning.map((reading) => reading.learning),
    [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 0, 0],
  );
  const spoilt = new LevelShiftWatch({ ...options, learn: 20 });
  feed(spoilt, [...noise(16, 5, 1, 4), 500, 500, -500, 900]);
  t.ok(Math.abs((spoilt.take(5).baseline ?? 0) - 5) < 1, 'odd values among the first do not spoil what is usual');

  const still = new LevelShiftWatch({ ...options, learn: 10 });
  t.equal(alarms(feed(still, [...Array(50).fill(0), 1, 0, 0, 0, 1])), 0);
  t.equal(alarms(feed(still, [1, 1, 1, 1, 1])), 1, 'values that are always the same, and then others');
  const tolerant = new LevelShiftWatch({ ...options, learn: 10, least: 1 });
  t.equal(alarms(feed(tolerant, [...Array(50).fill(0), 1, 1, 1, 1, 1, 1])), 0, 'changes that do not matter');
});

test('a trend tells when the limit is reached, and is none where there is only noise', async (t) => {
  const options = { limit: 30, side: 'above', windowMs: 600_000, horizonMs: 900_000 } as const;
  for (let seed = 1; seed <= 5; seed++) {
    const rising = new TrendWatch(options);
    const random = seededNormal(seed);
    // From 20 on, a unit each 300 s, from the 2,000th second: 30 at second 5,000.
    const values = Array.from(
      { length: 6_000 },
      (_, second) => 20 + Math.max(0, second - 2_000) / 300 + 0.5 * random(),
    );
    const readings = feed(rising, values);
    const at = readings.findIndex(({ isWrong }) => isWrong);
    t.ok(at > 3_700 && at < 4_400, `said at ${at} s, due at 4,100`);
    t.equal(alarms(readings), 1, 'said once');
    for (const second of [4_200, 4_500, 4_800]) {
      const { limitInMs, slopePerS } = readings[second] ?? {};
      t.ok(Math.abs((limitInMs ?? 0) - (5_000 - second) * 1_000) < 250_000, `forecast at ${second} s: ${limitInMs} ms`);
      t.ok(Math.abs((slopePerS ?? 0) - 1 / 300) < 0.001);
    }
    t.match(readings[5_900], { isWrong: true, limitInMs: 0 });
    const falling = feed(rising, noise(1_200, 20, 0.5, seed), 6_000_000);
    t.match(falling.at(-1), { isWrong: false, limitInMs: null });
    t.equal(alarms(feed(new TrendWatch(options), noise(10_000, 20, 2, seed))), 0);
  }

  const away = new TrendWatch({ ...options, side: 'below', limit: 10 });
  t.equal(
    alarms(
      feed(
        away,
        Array.from({ length: 1_000 }, (_, second) => 20 + second),
      ),
    ),
    0,
    'it goes the other way',
  );
  const filling = new TrendWatch({ limit: 100, side: 'above', windowMs: 86_400_000, horizonMs: 8 * 86_400_000 });
  let last: Reading | undefined;
  for (let hour = 0; hour <= 24; hour++) last = filling.take(50 + hour / 4, hour * 3_600_000);
  t.match(last, { isWrong: true });
  t.equal(Math.round((last?.limitInMs ?? 0) / 3_600_000), 176, 'a disk: one value an hour, full in 176');
  t.match(filling.take(1, 90 * 86_400_000), { isWrong: true, learning: 9 }, 'after a long silence it says nothing new');
  const flat = feed(new TrendWatch(options), Array(1_000).fill(7));
  t.match(flat.at(-1), { isWrong: false, slopePerS: null, limitInMs: null, baseline: 7 });
  const wild = feed(
    new TrendWatch(options),
    Array.from({ length: 1_000 }, (_, at) => (at % 2 === 0 ? 1e15 : -1e15)),
  );
  t.ok(wild.every((reading) => Number.isFinite(reading.baseline ?? 0) && Number.isFinite(reading.limitInMs ?? 0)));
});
