import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import { AdminApi } from '../src/adapters/node-red/admin-api.js';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { readText } from '../src/adapters/sockets/text-page.js';
import { readPalette } from '../src/flows/palette-catalogue.js';
import { FLOWS_SOCKET, flowsNotifications, flowsRequests } from '../src/protocol/flows-api.js';
import { stationRequests } from '../src/protocol/station-api.js';
import { FlowsPost } from './support/flows-post.js';
import { until } from './support/site.js';

test('flows take presses, light, call; the editor wants its password; edits do not overwrite each other', async (t) => {
  const post = await FlowsPost.start(t);
  // The press that proved that flows watch has begun a call already.
  await until(() => post.board.switched.includes('status on'));
  t.match(await post.calls(), [{ state: /inviting|ringing-out|ended/, peerName: 'Kitchen' }]);
  await until(async () => (await post.calls()).at(-1)?.state === 'ended');
  await until(() => !post.board.lights.status);
  t.equal((await post.calls()).length, 1, 'one press, one call');

  const anonymous = await fetch(`${(await post.signIn()).url}/flows`);
  t.equal(anonymous.status, 401);
  t.equal((await post.signIn('wrong')).status, 403);
  const { url, token } = await post.signIn();
  const admin = new AdminApi({ url, token });
  await t.rejects(new AdminApi({ url, token: 'guessed' }).getFlows(), { code: 'flows-refused' });
  const nodes = await fetch(`${url}/nodes`, {
    headers: { authorization: `Bearer ${token}`, accept: 'application/json' },
  });
  const sets = (await nodes.json()) as { module: string; types: string[]; err?: string }[];
  const ours = sets.filter(({ module }) => module === '@entryphone/node-red');
  t.equal(ours.length, readPalette().nodes.length);
  t.same(
    ours.filter(({ err }) => err !== undefined),
    [],
  );
  t.notOk(
    sets.some(({ types }) => types.includes('exec')),
    'flows run no programs',
  );

  const { flows, rev } = await admin.getFlows();
  const renamed = flows.map((node) => (node.type === 'tab' ? { ...node, label: 'Renamed' } : node));
  const next = await admin.deployFlows({ flows: renamed, rev });
  await t.rejects(admin.deployFlows({ flows, rev }), { code: 'flows-conflict' });
  t.match(await admin.getFlows(), { rev: next, flows: [{ label: 'Renamed' }] });
  await until(async () => (await post.status()).rev === next);

  const refused: string[] = [];
  const told: { name: string; params: object }[] = [];
  const client = await connectRpc({
    path: join(post.dir, 'run', FLOWS_SOCKET),
    requests: { ...flowsRequests, ...stationRequests },
    notifications: flowsNotifications,
    timeoutMs: 5_000,
    onNotification: (name, params) => told.push({ name, params }),
    onClose: () => {},
  });
  t.teardown(() => client.close());
  await client.call('station.status', {}).catch((error) => refused.push(error.code));
  await client.call('led.set', { led: 'microphone', lit: false }).catch((error) => refused.push(error.code));
  await client.call('led.set', { led: 'nowhere', lit: true }).catch((error) => refused.push(error.code));
  await client.call('call.mute', { muted: true }).catch((error) => refused.push(error.code));
  t.same(refused, ['unknown-method', 'led-not-yours', 'led-unknown', 'no-call']);
  await client.call('call.volume', { percent: 30 });
  await until(() => post.engine?.volumes.at(-1) === 30);
  t.match(await client.call('station.describe', {}), { station: 'door', leds: ['call', 'status'], call: null });
  await client.call('health.subscribe', { on: true });
  await until(() => told.some(({ name }) => name === 'health'));
  t.match(told.find(({ name }) => name === 'health')?.params, {
    media: 'up',
    capture: 'closed',
    broker: 'up',
    siteBroker: 'up',
    otherSites: null,
  });

  const page = { url: '/metrics', timeoutMs: 5_000, mostBytes: 262_144 };
  let figures = '';
  // Where the machine is busy the flows' own answer may come too late for one page of them.
  await until(async () => {
    figures = await readText({ path: join(post.dir, 'run/station-metrics.sock'), ...page });
    return figures.includes('entryphone_station_flows_up 1\n');
  });
  t.match(figures, /^entryphone_station_flows_heartbeats_total [1-9]\d*$/m);
  t.match(figures, 'entryphone_flows_state{state="running",safe_mode="false"} 1\n');
  t.match(figures, new RegExp(`^entryphone_flows_nodes ${flows.filter(({ type }) => type !== 'tab').length}$`, 'm'));
  t.match(figures, 'entryphone_flows_starts_total 2\n');
});

test('a flow that never ends, then a damaged file: presses ring, the call is left alone, flows come back', async (t) => {
  const post = await FlowsPost.start(t);
  await until(async () => (await post.calls()).at(-1)?.state === 'ended');
  const good = join(post.dir, 'state/flows-good.json');
  await until(() => readable(good));
  const { url, token } = await post.signIn();
  const admin = new AdminApi({ url, token });
  const { flows, rev } = await admin.getFlows();
  const bell = flows.find(({ type, button }) => type === 'entryphone-button' && button === 'bell');
  const loop = {
    id: 'loop',
    type: 'function',
    z: bell?.z,
    x: 1,
    y: 1,
    func: 'while (true) {}',
    outputs: 0,
    wires: [],
    libs: [],
  };
  await admin.deployFlows({
    flows: [...flows.map((node) => (node === bell ? { ...node, wires: [['loop']] } : node)), loop],
    rev,
  });
  const hung = (await post.status()).pid ?? 0;
  const { pulses } = post.board;
  const ofStation = { path: join(post.dir, 'run/station-metrics.sock'), url: '/metrics' };
  const isUp = async () =>
    /^entryphone_station_flows_up (\d)$/m.exec(
      await readText({ ...ofStation, timeoutMs: 5_000, mostBytes: 262_144 }),
    )?.[1];
  await until(async () => (await post.status()).state === 'running');
  const before = pulses.length;
  const { acknowledged = 0 } = (await post.status()).presses;
  await until(async () => {
    if (((await post.status()).presses.acknowledged ?? 0) > acknowledged) return true;
    post.board.press('bell');
    return false;
  });
  post.board.press('bell');
  await until(() => pulses.length > before);
  t.pass('the next press does what is configured');
  await until(async () => (await isUp()) === '0');
  const again = await changed(post, hung);
  await until(async () => (await isUp()) === '1');
  t.match(again, { hangs: 1, crashes: 0, fault: { code: 'hung' } });
  t.throws(() => process.kill(hung, 0), { code: 'ESRCH' }, 'deaf to SIGTERM, it was killed');

  writeFileSync(join(post.dir, 'state/flows/flows.json'), '[{"id": "half');
  process.kill(again.pid ?? 0, 'SIGKILL');
  const restored = await changed(post, again.pid ?? 0);
  t.match(restored, { state: 'running', crashes: 1 });
  await until(async () => (await post.status()).restores === 1);
  t.match(JSON.parse(readFileSync(join(post.dir, 'state/flows/flows.json'), 'utf8')), [{ type: 'tab' }]);
  t.match(readFileSync(join(post.dir, 'state/flows/flows.json.damaged'), 'utf8'), 'half');
});

/** Waits for flows that run in another process than `pid`. */
async function changed(post: FlowsPost, pid: number) {
  await until(async () => {
    const status = await post.status();
    return status.state === 'running' && status.pid !== null && status.pid !== pid;
  });
  return post.status();
}

function readable(file: string): boolean {
  try {
    return readFileSync(file).length > 0;
  } catch {
    return false;
  }
}
