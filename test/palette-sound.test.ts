import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { AppError } from '../src/core/errors.js';
import { FlowBench } from './support/flow-bench.js';
import { readOgg } from './support/ogg.js';
import { until } from './support/site.js';
import { TapDouble } from './support/tap-double.js';

const NOT_GRANTED = new AppError('tap-not-granted', 'This station does not let flows hear its sound', {
  remedy: 'Set taps.flows: true',
});

test('nodes that hear and record, as Node-RED runs them', async (t) => {
  const bench = await FlowBench.start(t);
  const { station } = bench;
  const tap = new TapDouble(t);
  /** The port where this source's tap is open, once it is. */
  const portOf = async (source: string): Promise<number> => {
    const last = () => station.of('audio.tap').findLast((tap) => tap.source === source);
    await until(() => last() !== undefined);
    return Number(last()?.port);
  };
  /** Sound comes, and the node beside has heard it. */
  const hear = async (source: string, ms: number, value: number, lost: readonly number[] = []): Promise<void> => {
    const before = bench.from('witness').length;
    const sent = await tap.send(await portOf(source), { ms, level: value, lost });
    await until(() => bench.from('witness').length === before + sent);
  };
  /** Hears by the same tap as the node beside it: what it has heard the other has too. */
  const witness = { id: 'witness', type: 'entryphone-listen', source: 'microphone', output: 'pcm', chunkMs: 20 };
  const record = {
    id: 'record',
    type: 'entryphone-record',
    source: 'microphone',
    mode: 'clip',
    preRollS: 1,
    lengthS: 0,
    into: 'buffer',
    file: '',
    fileType: 'str',
    mostKb: 44,
    bitrateKbps: 24,
  };
  type Told = {
    payload: Buffer;
    contentType: string;
    recording: { durationMs: number; lostMs: number; endedBy: string };
  };

  await t.test('listen hands on PCM in pieces, with what was lost; a level takes no tap', async (t) => {
    await bench.deploy([
      witness,
      { id: 'pcm', type: 'entryphone-listen', source: 'microphone', output: 'pcm', chunkMs: 40 },
      { id: 'level', type: 'entryphone-listen', source: 'microphone' },
      { id: 'wrong', type: 'entryphone-listen', source: 'microphone', output: 'pcm', chunkMs: 5 },
    ]);
    await hear('microphone', 200, 0x1234, [1, 2]);
    await until(() => bench.from('pcm').length === 4);
    const [first, second] = bench.from('pcm');
    t.match(first, { topic: 'microphone', rateHz: 16_000, lostMs: 40 });
    t.same(first?.payload, Buffer.from('3412'.repeat(640), 'hex'), 'little-endian, 40 ms');
    t.match(second, { lostMs: 0 });
    await until(() => bench.status('pcm')?.text === '40 ms lost');
    t.equal(station.of('audio.tap').length, 1);
    t.match(bench.status('wrong'), { fill: 'red' });
    station.notify('level', { microphoneDbfs: -20, speakerDbfs: null });
    await until(() => bench.from('level').length === 1);
    const port = await portOf('microphone');
    await bench.deploy([record]);
    await until(() => station.of('audio.tap').length > 0);
    t.not(await portOf('microphone'), port, 'each deployment opens its own');
  });

  await t.test('a clip has what came before the message, and keeps what the message said', async (t) => {
    await bench.deploy([witness, record]);
    await hear('microphone', 1_600, 500);
    t.equal(await bench.input('record', { topic: 'glass', detection: { label: 'glass' } }), null);
    const [told] = bench.from('record') as Told[];
    t.match(told, { topic: 'glass', detection: { label: 'glass' }, contentType: 'audio/ogg; codecs=opus' });
    t.match(told?.recording, { durationMs: 1_000, endedBy: 'length', lostMs: 0 });
    const { pages, packets } = readOgg(told?.payload ?? Buffer.alloc(0));
    t.equal(pages.at(-1)?.granules, 48_312n);
    t.equal(packets.length, 2 + 51);
    await until(() => /^1\.0 s, \d KB$/.test(bench.status('record')?.text ?? ''));
  });

  await t.test('start, stop and toggle; a file below the flows folder; the tap is open only meanwhile', async (t) => {
    const file = { into: 'file', file: 'name', fileType: 'msg' };
    const node = { ...record, ...file, mode: 'switch', preRollS: 0, lengthS: 60 };
    await bench.deploy([node]);
    await until(() => bench.status('record')?.text === 'ready');
    t.same(station.of('audio.tap'), []);
    bench.give('record', { payload: 'start', name: 'silence' });
    await until(() => bench.status('record')?.text === 'records');
    bench.give('record', { payload: 'stop' });
    await until(() => station.of('audio.untap').length === 1);
    await bench.deploy([witness, node]);
    for (const payload of ['begin', 3, null, undefined, {}]) {
      t.match(await bench.input('record', { payload }), /start, stop, toggle, true or false is expected/);
    }
    t.equal(await bench.input('record', { payload: 'stop' }), null, 'what is stopped stays so');
    const recording = bench.input('record', { payload: 'toggle', name: 'hall/visitor' });
    await until(() => bench.status('record')?.text === 'records');
    await hear('microphone', 400, 500);
    bench.give('record', { payload: true });
    bench.give('record', { payload: 'toggle' });
    t.equal(await recording, null);
    await until(() => bench.from('record').length === 1);
    const [told] = bench.from('record');
    t.equal(told?.payload, join(bench.dir, 'recordings/hall/visitor.opus'));
    t.match(told?.recording, { endedBy: 'stopped' });
    t.ok(readOgg(readFileSync(String(told?.payload))).packets.length > 20);
    for (const [name, told] of [
      ['../../flows', /names no file below recordings/],
      ['hall/visitor', /is there already/],
      [7, /as text, not as number/],
    ] as const) {
      t.match(await bench.input('record', { payload: 'start', name }), told);
    }
    t.same(readdirSync(join(bench.dir, 'recordings'), { recursive: true }).sort(), ['hall', 'hall/visitor.opus']);
  });

  await t.test('what is not granted, not heard or makes no sense is said', async (t) => {
    station.refuses.set('audio.tap', NOT_GRANTED);
    await bench.deploy([
      record,
      { ...record, id: 'odd', preRollS: 99 },
      { ...record, id: 'nothing', preRollS: 0 },
      { id: 'pcm', type: 'entryphone-listen', source: 'speaker', output: 'pcm', chunkMs: 100 },
    ]);
    for (const id of ['record', 'pcm']) {
      await until(() => bench.status(id)?.text === 'This station does not let flows hear its sound');
      t.match(bench.status(id), { fill: 'red' });
    }
    t.equal(
      await bench.input('record', {}),
      'This station does not let flows hear its sound. Set taps.flows: true',
      'with the remedy',
    );
    for (const id of ['odd', 'nothing']) t.equal(await bench.input(id, {}), 'the settings of this node make no sense');
    station.refuses.clear();
    await bench.deploy([{ ...record, lengthS: 0.1 }]);
    await portOf('microphone');
    t.match(await bench.input('record', {}), 'nothing was heard');
    t.equal(bench.from('record').length, 0);
  });

  await t.test('a flow that is redeployed in the middle of a recording ends it, and keeps its file', async (t) => {
    await bench.deploy([witness, { ...record, into: 'file', file: 'cut', mode: 'clip', preRollS: 0, lengthS: 600 }]);
    await until(() => bench.status('record')?.text === 'ready');
    bench.give('record', {});
    await until(() => bench.status('record')?.text === 'records');
    await hear('microphone', 400, 500);
    await bench.deploy([{ id: 'led', type: 'entryphone-led', led: 'status', lit: 'true', litType: 'bool' }]);
    const file = join(bench.dir, 'recordings/cut.opus');
    await until(() => existsSync(file));
    t.ok(readOgg(readFileSync(file)).packets.length > 10);
  });
});
