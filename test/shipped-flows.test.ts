import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import { flowNodes } from '../src/adapters/node-red/admin-api.js';
import { AppError } from '../src/core/errors.js';
import type { StationHealth } from '../src/protocol/flows-api.js';
import { FlowBench } from './support/flow-bench.js';
import { until } from './support/site.js';
import { QUALITY } from './support/station-doubles.js';
import { TapDouble } from './support/tap-double.js';

const root = resolve(import.meta.dirname, '../..');
const flowsOf = (file: string) => [...flowNodes.parse(JSON.parse(readFileSync(join(root, file), 'utf8')))];

const HEALTH: StationHealth = {
  media: 'up',
  capture: 'up',
  playback: 'up',
  captureXruns: 0,
  playbackXruns: 0,
  broker: 'up',
  siteBroker: null,
  otherSites: null,
  inference: null,
};

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
        clip: { contentType: 'audio/ogg; codecs=opus', data: /^T2dnUw/, durationMs: 100 },
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

  await t.test('self-healing', async (t) => {
    const nodes = flowsOf('flows/self-healing.json');
    const tab = nodes.find(({ type }) => type === 'tab') as { env?: { name: string; value: string }[] } | undefined;
    t.match(Object.fromEntries((tab?.env ?? []).map(({ name, value }) => [name, value])), {
      MOS_LIMIT: '3.6',
      GOOD_MOS: '4',
      BAD_SECONDS: '3',
      COOL_DOWN_SECONDS: '5',
    });
    const hurry: Record<string, string> = { BAD_SECONDS: '0.03', GOOD_SECONDS: '0.05', COOL_DOWN_SECONDS: '0.06' };
    const env = tab?.env?.map((one) => ({ ...one, value: hurry[one.name] ?? one.value }));
    await deploy(
      nodes.map((node) => (node.type === 'tab' ? { ...node, env } : node)),
      [],
    );
    await until(() =>
      ['heal0000quality00all', 'heal00000health0all0'].every((id) => bench.status(id)?.fill === 'green'),
    );
    station.asked.length = 0;
    const said = (name: string) => station.of(name).map((params) => Object.values(params)[0]);
    const tell = (mos: number, remote: number, path: 'udp' | 'mqtt' = 'udp') =>
      station.notify('quality.report', {
        callId: 'call-0001',
        path,
        quality: { ...QUALITY, mos: { ...QUALITY.mos, listening: mos, remoteListening: remote } },
      });
    const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    /** The same, again and again, until it has come to that. */
    const tellUntil = async (report: () => void, holds: () => boolean): Promise<void> => {
      while (!holds()) {
        report();
        await pause(10);
      }
    };
    for (let second = 0; second < 20; second++) tell(4.3, 4.2);
    await until(() => bench.from('heal0000quality00all').length === 20);
    tell(2, 4.2);
    for (let second = 0; second < 20; second++) tell(4.3, 4.2);
    await until(() => bench.from('heal0000quality00all').length === 41);
    await pause(100);
    t.same([said('call.limit'), said('call.path'), said('service.restart')], [[], [], []], 'a bad second is nothing');

    await tellUntil(
      () => tell(4.3, 2.2),
      () => said('call.limit').length > 0,
    );
    t.same(said('call.limit'), [32_000], 'the far end counts as well: less bits');
    await tellUntil(
      () => tell(4.3, 2.2),
      () => said('call.path').length > 0 && said('call.limit').length > 1,
    );
    t.same([said('call.limit'), said('call.path')], [[32_000, null], ['mqtt']], 'what did not help is taken back');
    await tellUntil(
      () => tell(2.2, 2.2, 'mqtt'),
      () => said('service.restart').length > 0,
    );
    await pause(80);
    for (let second = 0; second < 10; second++) tell(2.2, 2.2, 'mqtt');
    await tellUntil(
      () => tell(4.3, 4.3, 'mqtt'),
      () => said('call.path').length > 1,
    );
    t.same([said('call.path'), said('service.restart')], [['mqtt', 'auto'], ['media']], 'good again: back, once');
    await until(() => station.of('alert.raise').length === 4);
    const reports = station.of('alert.raise').map(({ kind, text }) => `${kind} ${String(text).replace(/^.*: /, '')}`);
    const deeds = ['less bits', 'the other path', 'media is restarted', 'good again, back'];
    t.same(
      reports,
      deeds.map((deed) => `quality ${deed}`),
      'and each is reported',
    );

    station.callIs('ended');
    await until(() => bench.from('heal0000event0ended0').length > 0);
    station.asked.length = 0;
    const well = { ...HEALTH, captureXruns: 0, playbackXruns: 0 };
    station.notify('health', { ...well, playbackXruns: 300 });
    station.notify('health', well);
    await pause(80);
    t.same(said('service.restart'), [], 'it had counted them before, and the card was opened anew');
    station.notify('health', { ...well, captureXruns: 12, playbackXruns: 12 });
    await until(() => said('service.restart').length > 0);
    t.same(said('service.restart'), ['media'], 'cards that stutter');
    station.refuses.set('service.restart', new AppError('too-soon', 'done less than 30 s ago'));
    await pause(80);
    station.notify('health', well);
    station.notify('health', { ...well, captureXruns: 99 });
    await until(() => bench.status('heal0000recover0media')?.fill === 'red');
    await until(() => bench.status('heal0000000000debug0')?.text?.includes('done less than 30') === true);
    station.refuses.delete('service.restart');
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
