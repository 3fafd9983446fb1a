import { test } from 'tap';
import { configSchema } from '../src/config/schema.js';
import { DAYS, eventsOf, makeDay, planDay } from '../src/lab/edge-day.js';
import { alertFigures, savedPct } from '../src/lab/edge-figures.js';
import { streamedBytes } from '../src/lab/edge-stream.js';
import { LAB_RATE_HZ } from '../src/lab/speech.js';
import { EVENT_LABELS, SEEDS } from '../src/sounds/made-sound.js';

test("the lab's day has each kind of event twice, between what is none, of seeds that are its own", async (t) => {
  const seeds = new Set<number>();
  for (const day of [0, 1, DAYS - 1]) {
    const plan = planDay(day);
    t.same(planDay(day), plan, 'the same again');
    const labels = eventsOf(plan).map(({ label }) => label);
    for (const label of EVENT_LABELS) t.equal(labels.filter((one) => one === label).length, 2, label);
    t.ok(plan.filter(({ event }) => event === null || event === 'speech' || event === 'trifle').length >= 10);
    t.ok(plan.some(({ over }) => over === 'speech') && plan.some(({ over }) => over === 'noise'));
    for (const { seed } of plan) {
      t.ok(seed >= SEEDS.lab.first && seed <= SEEDS.lab.last && !seeds.has(seed), `${seed}`);
      seeds.add(seed);
    }
  }
  const made = await makeDay(planDay(0).filter(({ over, event }) => over === 'hum' && event === null));
  t.equal(made.samples.length, made.seconds * LAB_RATE_HZ);
  t.ok(Math.max(...made.samples.subarray(LAB_RATE_HZ, 2 * LAB_RATE_HZ)) > 1_000);
  t.equal(made.samples[0], 0, 'parts fade into one another');
});

test('alerts are held against what was played', async (t) => {
  const played = [
    { label: 'glass', atMs: 1_000 },
    { label: 'knock', atMs: 9_000 },
    { label: 'glass', atMs: 20_000 },
  ] as const;
  const alert = (label: string | null, atMs: number) => ({ label, atMs, bytes: 100 });
  t.same(alertFigures(played, [alert('glass', 1_900), alert('glass', 3_000), alert('knock', 9_700)]), {
    alerts: { glass: { played: 2, heard: 1 }, knock: { played: 1, heard: 1 } },
    falseAlerts: 0,
    missed: 1,
    latencyMs: { p50: 800, p95: 890, worst: 900 },
    alertBytes: 300,
  });
  const wrong = [alert('glass', 900), alert('knock', 1_500), alert('glass', 6_000), alert(null, 1_500)];
  t.match(alertFigures(played, wrong), { falseAlerts: 4, missed: 3, latencyMs: { p50: null, p95: null, worst: null } });
  t.match(alertFigures([], []), { alerts: {}, falseAlerts: 0, missed: 0, alertBytes: 0 });
  t.equal(savedPct(52_685, 360_834), 85.4);
  t.equal(savedPct(200, 100), -100, 'more than all is no saving');
  t.equal(savedPct(5, 0), 0);
});

test('what streaming takes is encoded in earnest: speech more than silence, with DTX less', async (t) => {
  const { opus } = configSchema.parse({
    station: { id: 'door', name: 'Door', site: 'home' },
    board: 'none',
    audio: { capture: 'none', playback: 'none' },
    rtp: { address: '127.0.0.1' },
    mqtt: { url: 'mqtts://127.0.0.1:1', ca: 'none', cert: 'none', key: 'none' },
    state: 'none',
    run: 'none',
  });
  const buzz = Int16Array.from({ length: 32_000 }, (_, i) => 6_000 * Math.sin(i * i * 1e-5));
  const silence = new Int16Array(32_000);
  const [spoken, silent, silentWhole] = [
    await streamedBytes(buzz, 16_000, opus),
    await streamedBytes(silence, 16_000, opus),
    await streamedBytes(silence, 16_000, { ...opus, dtx: false }),
  ];
  t.ok(silent < silentWhole && silentWhole < spoken, `${silent} < ${silentWhole} < ${spoken}`);
  t.ok(silentWhole > 100 * 40, 'a hundred packets, each with the headers of IP, UDP and RTP');
});
