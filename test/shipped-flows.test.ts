import { randomUUID } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import { flowNodes } from '../src/adapters/node-red/admin-api.js';
import { FlowBench } from './support/flow-bench.js';
import { until } from './support/site.js';

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
