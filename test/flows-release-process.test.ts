import { test } from 'tap';
import { FlowsBench, flowsThat } from './support/flows-bench.js';

test('a release of flows is taken up beside a call; one that ends its process is left, and edits by hand come back', {
  timeout: 120_000,
}, async (t) => {
  const bench = await FlowsBench.start(t);
  const good = await bench.install('1.0.0', flowsThat('return null;', 'Good'));
  t.match(good, { state: 'succeeded', reason: null, kind: 'flows' });
  const { flows, rev } = await bench.api.getFlows();
  t.match(flows, [{ label: 'Good' }]);
  const edited = flows.map((node) => (node.type === 'tab' ? { ...node, label: 'Edited' } : node));
  const broker = { id: 'broker', type: 'mqtt-broker', name: '', broker: '127.0.0.1', port: '1', autoConnect: false };
  const secret = { ...broker, credentials: { user: 'installer', password: 'secret' } };
  await bench.api.deployFlows({ flows: [...edited, secret], rev });
  const crashing = await bench.install('1.1.0', flowsThat("Promise.reject(new Error('gone')); return null;"));
  t.match(crashing, { state: 'failed', reason: /the flows process ended unasked|did not answer any more/ });
  t.match((await bench.api.getFlows()).flows, [{ label: 'Edited' }]);
  t.equal(await bench.installed(), '1.0.0');
  const { credentials } = await bench.api.getAll();
  t.ok((credentials?.$.length ?? 0) > 60, 'the secrets of their nodes are kept for the next start');
});
