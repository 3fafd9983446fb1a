import { readFileSync } from 'node:fs';
import { test } from 'tap';
import { resample } from '../src/audio/resample.js';
import { readWav } from '../src/audio/wav.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { CoolDown } from '../src/palette/alert/cool-down.js';
import { HeardFilter } from '../src/palette/heard-part.js';
import type { HeardDecision, HearingView } from '../src/protocol/hearing.js';
import { FlowBench } from './support/flow-bench.js';
import { until } from './support/site.js';
import { TapDouble } from './support/tap-double.js';

const model = { name: 'sounds', version: '1', sha256: 'ab'.repeat(32) };
const decision = (change: Partial<HeardDecision> = {}): HeardDecision => ({
  kind: 'sound',
  label: 'glass',
  edge: 'start',
  atMs: 1_700_000_000_000,
  score: 0.9,
  model,
  ...change,
});

test('decisions that a node passes on; a cool-down for each kind', (t) => {
  const filter = new HeardFilter('sound', { labels: ' glass，alarm,, ', minScore: '0.5' });
  const passes = (change: Partial<HeardDecision> = {}) => filter.passes(decision(change));
  t.equal(passes({ edge: 'end' }), false, 'an end without its start');
  t.equal(passes({ score: 0.49 }), false);
  t.equal(passes(), true);
  t.equal(passes({ edge: 'end', score: 0 }), true);
  t.equal(passes({ edge: 'end', score: 0 }), false);
  t.equal(passes({ label: 'knock' }), false);
  t.equal(passes({ kind: 'keyword' }), false);
  t.same(filter.unknown(['glass']), ['alarm']);
  const all = new HeardFilter('sound', {});
  t.equal(all.passes(decision({ label: 'knock', score: 0 })), true);
  t.same(all.unknown([]), []);

  const clock = new ManualClock();
  const coolDown = new CoolDown(10_000, clock);
  t.same([coolDown.admits('a'), coolDown.admits('b'), coolDown.admits('a')], [true, true, false]);
  clock.advance(9_999);
  t.equal(coolDown.admits('a'), false);
  clock.advance(1);
  t.equal(coolDown.admits('a'), true);
  coolDown.forget('a');
  t.equal(coolDown.admits('a'), true);
  for (let n = 0; n < 1_000; n++) coolDown.admits(`${n}`);
  t.equal(coolDown.admits('a'), true, 'it remembers a thousand');
  t.same([new CoolDown(0, clock).admits('a')], [true]);
  t.end();
});

test('nodes that are told what is heard, and alerts, as Node-RED runs them', async (t) => {
  const bench = await FlowBench.start(t);
  const { station } = bench;

  await t.test(
    'a sound, a word, a voice: who waits for it is told, with the model; a status says what is amiss',
    async (t) => {
      station.hearing = { state: 'absent', isEnabled: false, isHearing: false, models: [], refused: [] };
      await bench.deploy([
        { id: 'glass', type: 'entryphone-sound-event', labels: 'glass', minScore: 0.5 },
        { id: 'siren', type: 'entryphone-sound-event', labels: 'siren', minScore: 0 },
        { id: 'word', type: 'entryphone-keyword', labels: '', minScore: 0 },
        { id: 'voice', type: 'entryphone-voice', by: 'station', hangoverMs: 300 },
      ]);
      const shows = (id: string, text: string) => until(() => bench.status(id)?.text === text);
      await shows('glass', 'inference is off (inference.enabled)');
      const loaded = { ...model, kind: 'sound' as const, labels: ['glass'] };
      const running: HearingView = {
        state: 'running',
        isEnabled: true,
        isHearing: true,
        models: [loaded],
        refused: [],
      };
      station.notify('hearing.changed', running);
      await shows('glass', 'hears');
      await shows('siren', 'no model knows siren');
      await shows('word', 'no model');
      await shows('voice', 'hears');
      const refused = [{ card: 'door.card.yaml', reason: 'its rate is 8000 Hz' }];
      station.notify('hearing.changed', { ...running, refused });
      await shows('glass', 'door.card.yaml refused: its rate is 8000 Hz');
      station.notify('hearing.decided', decision());
      station.notify('hearing.decided', decision({ kind: 'keyword', label: 'help', score: 0.7 }));
      station.notify('hearing.decided', decision({ kind: 'voice', label: 'voice', score: 0.58, model: null }));
      await until(() => ['glass', 'word', 'voice'].every((id) => bench.from(id).length === 1));
      const [told] = bench.from('glass');
      const payload = {
        kind: 'sound',
        label: 'glass',
        edge: 'start',
        score: 0.9,
        at: '2023-11-14T22:13:20.000Z',
        model,
      };
      t.match(told, { topic: 'glass', payload, detection: payload });
      await shows('glass', 'glass 0.90');
      await shows('voice', 'voice 0.58');
      t.equal(bench.from('siren').length, 0);
      station.notify('hearing.decided', decision({ edge: 'end', score: 0.1 }));
      await until(() => bench.from('glass', 1).length === 1);
      t.match(bench.from('glass', 1), [{ payload: { edge: 'end' } }]);
      t.equal(bench.from('glass').length, 1);
      station.notify('hearing.changed', { ...running, state: 'absent', isHearing: false, models: [] });
      await shows('glass', 'inference is away');
    },
  );

  await t.test('a node hears a voice by itself where no inference runs', async (t) => {
    await bench.deploy([{ id: 'voice', type: 'entryphone-voice', by: 'node', hangoverMs: 300 }]);
    await until(() => station.of('audio.tap').length === 1);
    const tap = new TapDouble(t);
    const port = Number(station.of('audio.tap')[0]?.port);
    const { samples } = readWav(readFileSync('/usr/share/sounds/alsa/Front_Center.wav'));
    for (const sound of [new Int16Array(16_000), resample(samples, { fromHz: 48_000, toHz: 16_000 })]) {
      await tap.say(port, sound);
    }
    await until(() => bench.from('voice').length > 0);
    t.match(bench.from('voice')[0], { topic: 'voice', payload: { kind: 'voice', edge: 'start', model: null } });
    await tap.say(port, new Int16Array(16_000));
    await until(() => bench.from('voice', 1).length === bench.from('voice').length);
    t.ok(bench.from('voice').every(({ payload }) => (payload as { score: number }).score <= 1));
    t.equal(station.of('hearing.subscribe').at(-1)?.on, false, 'it asks for no inference');
  });

  await t.test('an alert: what was heard and how it sounded; held back, refused, or of the wrong shape', async (t) => {
    const node = { type: 'entryphone-alert', kind: 'sound', text: 'topic', textType: 'msg', withClip: true };
    await bench.deploy([
      { ...node, id: 'alert', coolDownS: 3_600 },
      { ...node, id: 'bare', withClip: false, coolDownS: 0 },
      { ...node, id: 'odd', kind: 'No/#', coolDownS: 0 },
    ]);
    await until(() => bench.status('alert')?.fill === 'green');
    const detection = decision();
    const clip = Buffer.from('OggS and so on');
    const whole = {
      topic: 'glass',
      payload: clip,
      contentType: 'audio/ogg; codecs=opus',
      recording: { durationMs: 2_300 },
    };
    t.equal(await bench.input('alert', { ...whole, detection }), null);
    t.match(station.of('alert.raise'), [
      { kind: 'sound', text: 'glass', detection: { label: 'glass', score: 0.9, model }, clip: { durationMs: 2_300 } },
    ]);
    t.match(bench.from('alert'), [{ topic: 'glass', payload: { id: /^[0-9a-f-]{36}$/ } }]);
    t.equal(await bench.input('alert', { ...whole, detection }), null);
    t.match(bench.from('alert', 1), [{ payload: clip }]);
    t.equal(await bench.input('alert', { topic: 'siren', detection: decision({ label: 'siren' }) }), null);
    t.equal(await bench.input('bare', whole), null);
    t.match(station.of('alert.raise').slice(1), [{ detection: { label: 'siren' } }, { text: 'glass' }]);
    t.same(
      station.of('alert.raise').map((one) => 'clip' in one),
      [true, false, false],
    );
    for (const [message, told] of [
      [{}, /a text of 1 to 500 characters is expected, not undefined/],
      [{ topic: 'x'.repeat(501) }, /a text of 1 to 500/],
      [{ topic: 7 }, /not number/],
      [{ topic: 'x', detection: 'glass' }, /msg.detection is not what was heard/],
      [{ topic: 'x', detection: { ...detection, score: 'much' } }, /score/],
      [{ topic: 'x', payload: Buffer.alloc(45_057) }, /the clip has 45 KB; at most 44 KB/],
    ] as const) {
      t.match(await bench.input('alert', message), told);
    }
    t.match(await bench.input('odd', { topic: 'x' }), 'letters, digits and dashes are expected');
    t.equal(station.of('alert.raise').length, 3, 'the station was not bothered');
    const remedy = 'Give the flow a cool-down';
    station.refuses.set('alert.raise', new AppError('too-many-alerts', 'more than 12 alerts in a minute', { remedy }));
    t.equal(await bench.input('alert', { topic: 'fire' }), `more than 12 alerts in a minute. ${remedy}`);
    station.refuses.clear();
    t.equal(await bench.input('alert', { topic: 'fire' }), null);
    t.equal(bench.from('alert').length, 3, 'what was refused does not hold back the next');
  });
});
