import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import { flowNodes } from '../src/adapters/node-red/admin-api.js';
import { AppError } from '../src/core/errors.js';
import { FlowBench } from './support/flow-bench.js';
import { until } from './support/site.js';
import { TapDouble } from './support/tap-double.js';

const root = resolve(import.meta.dirname, '../..');
const flowsOf = (file: string) => [...flowNodes.parse(JSON.parse(readFileSync(join(root, file), 'utf8')))];

test('each flow that ships does what it says', async (t) => {
  const bench = await FlowBench.start(t);
  const { station } = bench;
  const press = (button: string) => station.notify('button.pressed', { button, pressId: randomUUID(), kind: 'press' });
  /** What the station was asked to do, in order; asks them anew from here on. */
  const asked = async (count: number): Promise<string[]> => {
    const deeds = () => station.asked.filter(({ name }) => !/^(button\.watch|led\.set|.*\.subscribe)$/.test(name));
    await until(() => deeds().length >= count);
    const told = deeds().map(({ name, params }) => (name === 'call.place' ? `${name} ${params.target}` : name));
    station.asked.length = 0;
    return told;
  };
  const lit = async (expected: boolean): Promise<void> => {
    await until(() => station.of('led.set').at(-1)?.lit === expected);
    station.asked.length = 0;
  };
  const deploy = async (nodes: readonly Record<string, unknown>[], buttons: readonly string[]): Promise<void> => {
    station.call = null;
    await bench.deployAsIs(nodes);
    const watched = () => (station.of('button.watch').at(-1)?.presses ?? []) as string[];
    await until(() => buttons.every((button) => watched().includes(button)));
    station.asked.length = 0;
  };

  await t.test('door station', async (t) => {
    await deploy(flowsOf('flows/door-station.json'), ['bell', 'open']);
    press('bell');
    t.same(await asked(2), ['press.acknowledge', 'call.place Kitchen']);
    station.callIs('ringing-out', { direction: 'out' });
    await lit(true);
    press('bell');
    t.same(await asked(1), ['press.acknowledge'], 'a second press does nothing');
    press('open');
    t.same(await asked(2), ['press.acknowledge', 'call.hangUp']);
    station.callIs('ended', { direction: 'out', reason: 'hung-up' });
    await lit(false);
    press('open');
    t.same(await asked(1), ['press.acknowledge']);
  });

  await t.test('indoor station', async (t) => {
    await deploy(flowsOf('flows/indoor-station.json'), ['bell', 'open']);
    station.callIs('ringing-in');
    await lit(true);
    press('bell');
    t.same(await asked(2), ['press.acknowledge', 'call.answer']);
    station.callIs('answered');
    await lit(false);
    press('open');
    t.same(await asked(2), ['press.acknowledge', 'door.open']);
    press('bell');
    t.same(await asked(2), ['press.acknowledge', 'call.hangUp']);
  });

  await t.test('help point', async (t) => {
    const nodes = flowsOf('flows/help-point.json');
    t.equal(nodes.filter(({ type }) => type === 'delay').length, 1);
    const hurried = nodes.map((node) =>
      node.type === 'delay' ? { ...node, timeout: '20', timeoutUnits: 'milliseconds' } : node,
    );
    await deploy(hurried, ['bell']);
    station.callIs('ringing-in');
    t.same(await asked(1), ['call.answer'], 'nobody there need lift a hand');
    station.callIs('answered');
    await lit(true);
    press('bell');
    t.same(await asked(1), ['press.acknowledge'], 'help is there');
    station.callIs('ended', { reason: 'peer-lost' });
    await lit(false);

    for (const reason of ['no-answer', 'unreachable']) {
      press('bell');
      t.same(await asked(2), ['press.acknowledge', 'call.place Kitchen']);
      for (let again = 0; again < 2; again++) {
        station.callIs('ended', { direction: 'out', reason });
        t.same(await asked(1), ['call.place Kitchen'], `again after ${reason}`);
      }
      station.callIs('ended', { direction: 'out', reason });
      await lit(false);
    }
    press('bell');
    t.same(await asked(2), ['press.acknowledge', 'call.place Kitchen'], 'a press counts anew');
    station.callIs('answered', { direction: 'out' });
    await lit(true);
    station.callIs('ended', { direction: 'out', reason: 'hung-up' });
    await lit(false);
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.same(station.of('call.place'), [], 'neither after the third, nor after a call that was hung up');
  });

  const model = { name: 'sounds', version: '1', sha256: 'ab'.repeat(32) };
  const hears = (label: string, edge: 'start' | 'end' = 'start', score = 0.98) =>
    station.notify('hearing.decided', { kind: 'sound', label, edge, atMs: 1_700_000_000_000, score, model });
  const runs = (...labels: string[]) => {
    const loaded = { ...model, kind: 'sound' as const, labels };
    station.hearing = { state: 'running', isEnabled: true, isHearing: true, models: [loaded], refused: [] };
  };
  const listens = () => until(() => station.of('hearing.subscribe').at(-1)?.on === true);

  await t.test('help point: a cry calls', async (t) => {
    runs('cry');
    await deploy(flowsOf('flows/help-point.json'), ['bell']);
    hears('glass');
    hears('cry', 'start', 0.2);
    hears('cry');
    t.same((await asked(2)).sort(), ['alert.raise', 'call.place Kitchen']);
    station.callIs('answered', { direction: 'out' });
    await lit(true);
    hears('cry', 'end');
    hears('cry');
    station.callIs('ended', { direction: 'out', reason: 'hung-up' });
    await lit(false);
    t.same(station.of('call.place'), [], 'not while help is there');
  });

  await t.test(
    'edge alert: what is heard is told, with a clip where that is granted; all else is dropped',
    async (t) => {
      runs('glass', 'alarm', 'knock', 'cry', 'chime', 'speech');
      const nodes = flowsOf('flows/edge-alert.json');
      await bench.deployAsIs(nodes);
      const port = () => Number(station.of('audio.tap').at(-1)?.port ?? 0);
      await until(() => port() > 0);
      await listens();
      const tap = new TapDouble(t);
      const record = 'edge000record00clip0';
      await until(() => bench.status(record)?.text === 'ready');
      for (const label of ['speech', 'hum', 'voice']) hears(label);
      hears('glass', 'start', 0.1);
      hears('glass');
      await until(() => bench.status(record)?.text === 'records');
      await tap.send(port(), { ms: 400, level: 900 });
      const alerts = () => station.of('alert.raise') as { kind: string; text: string; clip?: { durationMs: number } }[];
      await until(() => alerts().length === 1);
      t.match(alerts()[0], {
        kind: 'sound',
        text: 'The station hears: glass',
        detection: { kind: 'sound', label: 'glass', score: 0.98, atMs: 1_700_000_000_000, model },
        clip: { contentType: 'audio/ogg; codecs=opus', data: /^T2dnUw/, durationMs: 300 },
      });
      await until(() => station.of('led.set').at(-1)?.lit === true);
      hears('glass', 'end');
      hears('glass');
      await until(() => bench.status('edge0000alert0sound0')?.text === '1 held back');
      t.equal(alerts().length, 1, 'held back');

      const refusal = new AppError('tap-not-granted', 'not granted here');
      station.refuses.set('audio.tap', refusal);
      await bench.deployAsIs(nodes);
      await listens();
      await until(() => bench.status(record)?.text === refusal.message);
      hears('alarm');
      await until(() => alerts().length === 1);
      station.refuses.clear();
      t.match(alerts()[0], { text: 'The station hears: alarm', detection: { label: 'alarm', model } });
      t.equal(alerts()[0]?.clip, undefined);
    },
  );

  await t.test('quiet hours: the bell rings nowhere, and that somebody rang is told', async (t) => {
    const between = (from: string, to: string) => {
      const env = [
        { name: 'QUIET_FROM', value: from, type: 'str' },
        { name: 'QUIET_UNTIL', value: to, type: 'str' },
      ];
      return flowsOf('flows/quiet-hours.json').map((node) => (node.type === 'tab' ? { ...node, env } : node));
    };
    const [tab] = flowsOf('flows/quiet-hours.json');
    t.match(tab?.env, [{ value: '22:00' }, { value: '07:00' }]);
    const minute = new Date().getHours() * 60 + new Date().getMinutes();
    const clock = (at: number) =>
      `${Math.floor(((at + 1_440) % 1_440) / 60)}:${String((at + 1_440) % 60).padStart(2, '0')}`;
    // Quiet now, over midnight or not; then quiet in some hours alone.
    for (const [from, to] of [
      ['0:00', '24:00'],
      [clock(minute - 60), clock(minute + 60)],
    ] as const) {
      await deploy(between(from, to), ['bell', 'open']);
      press('bell');
      await until(() => station.of('alert.raise').length === 1 && station.of('led.set').at(-1)?.lit === true);
      t.match(station.of('alert.raise'), [{ kind: 'visitor', text: 'Somebody rang in the quiet hours' }]);
      t.same(station.of('call.place'), [], `${from} to ${to}`);
    }
    await deploy(between(clock(minute + 120), clock(minute + 180)), ['bell', 'open']);
    press('bell');
    t.same(await asked(2), ['press.acknowledge', 'call.place Kitchen']);
    await deploy(between('late', '07:00'), ['bell', 'open']);
    press('bell');
    await until(() => bench.status('quiet00000000000debug')?.text?.includes('QUIET_FROM is late') === true);
  });

  await t.test('examples are deployed as they are', async (t) => {
    const dir = 'src/palette/examples';
    for (const file of readdirSync(join(root, dir))) {
      await bench.deployAsIs(flowsOf(join(dir, file)));
      t.same(
        bench.statuses.filter(({ status }) => /no station|make no sense/.test(status.text ?? '')),
        [],
        file,
      );
    }
  });
});
