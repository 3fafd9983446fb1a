import { test } from 'tap';
import type { UpdateJournal } from '../../src/fleet/update-journal.js';
import { FlowsBench, flowsThat } from '../support/flows-bench.js';
import { until } from '../support/site.js';

/** Of the job, from its order on. */
async function timed(t: { comment(text: string): void }, what: string, job: () => Promise<UpdateJournal>) {
  const beganMs = performance.now();
  const end = await job();
  t.comment(`${what}: ${end.state} after ${Math.round(performance.now() - beganMs)} ms, ${end.reason ?? ''}`);
  return end;
}

test('releases of flows that hang, end their process at each start, or late, with Node-RED; and a station that ends meanwhile', {
  timeout: 600_000,
}, async (t) => {
  const bench = await FlowsBench.start(t);
  const before = await bench.api.getFlows();
  const isBack = async (what: string) => {
    const { flows } = await bench.api.getFlows();
    t.same(flows, before.flows, what);
    t.equal(await bench.installed(), '0.0.0');
    await until(() => bench.status.state === 'running');
    t.notOk(bench.status.isSafeMode);
  };
  const hangs = await timed(t, 'hangs', () => bench.install('1.0.0', flowsThat('while (true) {}')));
  t.match(hangs, { state: 'failed', reason: /the flows hang|did not answer any more/ });
  await isBack('after one that hangs');

  const atOnce = flowsThat('return null;').map((node) =>
    node.id === 'act' ? { ...node, initialize: "Promise.reject(new Error('gone'));" } : node,
  );
  const crashes = await timed(t, 'crashes at each start', () => bench.install('1.1.0', atOnce));
  t.match(crashes, { state: 'failed', reason: /ended unasked|did not answer any more/ });
  await isBack('after one that ends its process at each start');

  const late = flowsThat("setTimeout(() => { Promise.reject(new Error('gone')); }, 700); return null;");
  const ended = await timed(t, 'crashes late', () => bench.install('1.2.0', late));
  t.match(ended, { state: 'failed', reason: /ended unasked/ });
  await isBack('after one that ends its process late');

  await bench.order('1.3.0', flowsThat('return null;', 'Good'));
  await until(() => bench.steps.includes('confirm'));
  await bench.startStation();
  const good = await timed(t, 'good, the station ends on trial', () => bench.ended());
  t.match(good, { state: 'succeeded' });
  t.match((await bench.api.getFlows()).flows, [{ label: 'Good' }]);

  await bench.order('1.4.0', flowsThat('while (true) {}'));
  await until(() => bench.steps.includes('switch-back'));
  await bench.startStation();
  const left = await timed(t, 'hangs, the station ends on the way back', () => bench.ended());
  t.match(left, { state: 'failed', reason: /the flows hang|did not answer any more/ });
  t.match((await bench.api.getFlows()).flows, [{ label: 'Good' }]);
});
