import { test } from 'tap';
import { loadModel } from '../src/adapters/onnx/onnx-model.js';
import { ManualClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { seededRandom } from '../src/core/seeded-random.js';
import { SoundGate } from '../src/inference/sound-gate.js';
import { Ears } from '../src/listener/ears.js';
import type { HeardDecision } from '../src/protocol/hearing.js';
import type { L16Sound } from '../src/rtp/l16.js';
import { tinyModel } from './support/tiny-model.js';
import { FRAME, quiet, RATE_HZ, tones } from './support/tones.js';

/** Packets as a tap brings them. */
function* packets(samples: Int16Array, fromMs = 0): Generator<L16Sound> {
  for (let at = 0; at + 2 * FRAME <= samples.length; at += 2 * FRAME) {
    const endsAtMs = fromMs + (1000 * (at + 2 * FRAME)) / RATE_HZ;
    yield { samples: samples.subarray(at, at + 2 * FRAME), endsAtMs, lostPackets: 0, isAfterGap: at === 0 };
  }
}

test('ears decide, ask no model of nothing, and take gaps, silence and models that fail', async (t) => {
  const clock = new ManualClock();
  const decided: HeardDecision[] = [];
  const failed: string[] = [];
  const faults = { isFailing: false };
  const loaded = await loadModel(tinyModel());
  const ears = new Ears({
    models: [
      {
        card: loaded.card,
        run: (window) => (faults.isFailing ? Promise.reject(new Error('out of order')) : loaded.run(window)),
        close: () => loaded.close(),
      },
    ],
    clock,
    logger: silentLogger,
    listener: {
      decided: (one) => decided.push(one),
      failed: ({ card: { name } }, reason) => failed.push(`${name}: ${reason}`),
    },
  });
  const play = async (samples: Int16Array) => {
    for (const packet of packets(samples, clock.nowMs())) {
      clock.advance(20);
      ears.sound(packet, clock.nowMs() + 3);
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    }
  };
  await play(tones(...quiet(4), 1_000, 2_000, ...quiet(3)));
  const { sha256 } = loaded.card;
  const words = () => decided.filter(({ kind }) => kind === 'keyword');
  t.match(words(), [
    { label: 'two-tone', edge: 'start', model: { name: 'two-tone', version: '1.0.0', sha256 } },
    { label: 'two-tone', edge: 'end' },
  ]);
  t.equal(words()[0]?.atMs, 1_700_000_000_000 + 4_200 + 3, 'on the clock of the world, when the sound had been');
  t.ok((words()[0]?.score ?? 0) > 0.7);
  const { modelRuns, skippedRuns, receivedFrames, inferredFrames } = ears.figures;
  t.same([receivedFrames, inferredFrames], [720, 720]);
  t.ok(skippedRuns > 40 && modelRuns < 100, `asked ${modelRuns} times, spared ${skippedRuns}`);

  decided.length = 0;
  await play(tones(1_000));
  ears.sound(
    { samples: tones(2_000).subarray(0, 320), endsAtMs: 9_999_999, lostPackets: 7, isAfterGap: true },
    clock.nowMs(),
  );
  await play(tones(2_000, ...quiet(1)));
  t.same(words(), [], 'half a word, and after a gap the other half, is none');
  t.equal(ears.figures.lostFrames, 14);

  await play(tones(...quiet(1), 1_000, 2_000));
  t.match(words(), [{ edge: 'start' }]);
  ears.silence();
  ears.silence();
  t.match(words(), [{ edge: 'start' }, { edge: 'end' }], 'what was on ends with the stream, once');

  faults.isFailing = true;
  await play(tones(1_000, 0, 1_000, 0, 1_000, 0));
  t.same(failed, ['two-tone: out of order']);
  t.equal(ears.refused.get('model-failed'), 5, 'asked no more after five failures');
  await ears.close();
});

test('the gate opens for what stands out, be it a faint clink in a rumble, and not for steady noise', async (t) => {
  const random = seededRandom(9);
  const gate = new SoundGate();
  let last = 0;
  const rumble = (clink: number, at: number) =>
    Int16Array.from({ length: FRAME }, (_, i) => {
      last = 0.98 * last + 40 * (random() - 0.5);
      return 20 * last + clink * Math.sin(2.2 * (at * FRAME + i));
    });
  const sinceSound = (clink: number, from: number, to: number) => {
    let least = Number.POSITIVE_INFINITY;
    for (let n = from; n < to; n++) {
      gate.push(rumble(clink, n));
      least = Math.min(least, gate.framesSinceSound);
    }
    return least;
  };
  t.equal(sinceSound(0, 0, 100), 0, 'at first everything is worth a look');
  sinceSound(0, 100, 400);
  t.ok(sinceSound(0, 400, 600) > 20, 'a steady rumble is not');
  t.equal(sinceSound(300, 600, 605), 0, 'a clink is');
  const night = new SoundGate();
  for (let n = 0; n < 50; n++) night.push(new Int16Array(FRAME));
  t.equal(night.framesSinceSound, Number.POSITIVE_INFINITY, 'silence never is');
});
