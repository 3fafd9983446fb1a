import { test } from 'tap';
import { rankCorrelation } from '../bench/quality/calibration.js';
import { LISTENING_RATE_HZ } from '../bench/quality/listening.js';
import { scoreOf } from '../bench/quality/score.js';
import { resample } from '../src/audio/resample.js';
import { seededRandom } from '../src/core/seeded-random.js';
import { driftOutcome, runDriftScenario } from '../src/lab/drift-scenario.js';
import { arrivalsOf, networkTraces, TRACE_PACKET_MS } from '../src/lab/network-traces.js';
import { humanSpeech, LAB_RATE_HZ } from '../src/lab/speech.js';

test('traces are the same for the same seed, and plausible', async (t) => {
  const traces = networkTraces(7);
  const texts = [traces, networkTraces(7), networkTraces(8)].map((one) => JSON.stringify(one));
  t.ok(texts[0] === texts[1]);
  t.ok(texts[0] !== texts[2]);
  t.equal(new Set(traces.map(({ name }) => name)).size, 10);
  for (const trace of traces) {
    const { name, packets } = trace;
    t.ok(packets.length * TRACE_PACKET_MS >= 60_000, `${name} is a minute long at least`);
    t.ok(
      packets.every(({ sentMs, arrivedMs }) => arrivedMs === null || (arrivedMs > sentMs && arrivedMs < sentMs + 500)),
      `${name}: nothing comes before it was sent, or half a second later`,
    );
    const arrivals = arrivalsOf(trace);
    t.ok(arrivals.length > 0.9 * packets.length, `${name}: most arrive`);
    t.ok(
      arrivals.every(({ arrivedMs }, i) => arrivedMs >= (arrivals[i - 1]?.arrivedMs ?? 0)),
      `${name}: in the order of arrival`,
    );
  }
  const overtaken = (name: string) => {
    const arrivals = arrivalsOf(traces.find((trace) => trace.name === name) ?? { name, about: '', packets: [] });
    return arrivals.filter(({ number }, i) => number < (arrivals[i - 1]?.number ?? 0)).length;
  };
  t.ok(overtaken('reordering') > 100);
  t.equal(overtaken('wifi-stalls'), 0, 'a radio link keeps the order');
});

test('an hour between clocks 200 ppm apart ends with the delay that it began with', async (t) => {
  const outcome = await runDriftScenario({ log: () => {} }, 3_600);
  t.same(outcome.failed, []);
  t.equal(outcome.ok, true);
  for (const { simulatedS, mostDelayMs, concealedMs, lostMs } of [outcome.quickSpeaker, outcome.slowSpeaker]) {
    t.equal(simulatedS, 3_600);
    t.ok(mostDelayMs < 60, `at most ${mostDelayMs} ms`);
    // 200 ppm of an hour are 720 ms: they are stretched, not concealed.
    t.ok(concealedMs < lostMs + 300, `concealed ${concealedMs} ms where ${lostMs} ms were lost`);
  }
  const { quickSpeaker, slowSpeaker } = outcome;
  const grown = driftOutcome({ ...quickSpeaker, delayEndMs: quickSpeaker.delayStartMs + 6 }, slowSpeaker);
  t.equal(grown.ok, false, 'a delay that grew is told');
  t.match(grown.failed, [/200 ppm/]);
});

test('the model of listening hears what people hear', async (t) => {
  const speech = resample(await humanSpeech(['Front_Left.wav', 'Rear_Right.wav']), {
    fromHz: LAB_RATE_HZ,
    toHz: LISTENING_RATE_HZ,
  });
  const random = seededRandom(5);
  const noisy = (amplitude: number) => speech.map((sample) => sample + (random() - 0.5) * amplitude);
  const holes = (everyMs: number) => {
    const every = (everyMs * LISTENING_RATE_HZ) / 1000;
    return speech.map((sample, i) => (i % every < 0.02 * LISTENING_RATE_HZ ? 0 : sample));
  };
  const late = new Int16Array(speech.length + 4_000);
  late.set(speech, 3_000);
  t.ok(scoreOf(speech, speech) > 4.35, 'the same');
  t.ok(scoreOf(speech, late) > 4.35, 'the same, later');
  t.ok(
    scoreOf(
      speech,
      speech.map((sample) => sample / 3),
    ) > 4.3,
    'the same, softer',
  );
  const noise = [30, 300, 3_000].map((amplitude) => scoreOf(speech, noisy(amplitude)));
  t.same(
    [...noise].sort((a, b) => b - a),
    noise,
    `the more noise the worse: ${noise}`,
  );
  const gaps = [2_000, 400, 100].map((everyMs) => scoreOf(speech, holes(everyMs)));
  t.same(
    [...gaps].sort((a, b) => b - a),
    gaps,
    `the more holes the worse: ${gaps}`,
  );
  t.ok((gaps[2] ?? 5) < 2, 'a fifth missing is bad');
  t.ok(scoreOf(speech, new Int16Array(speech.length)) < 2, 'silence');
  t.ok(scoreOf(speech, new Int16Array(0)) < 2, 'nothing at all');
  t.equal(rankCorrelation([1, 2, 3, 3], [10, 20, 30, 30]), 1);
  t.equal(rankCorrelation([1, 2, 3], [3, 2, 1]), -1);
});
