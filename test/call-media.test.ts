import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { ManualClock } from '../src/core/clock.js';
import { FLOWS_SOCKET, flowsNotifications, flowsRequests } from '../src/protocol/flows-api.js';
import { PEER_LOST_AFTER_MS, PeerWatch } from '../src/station/peer-watch.js';
import { Site, until } from './support/site.js';
import { configFile, Post } from './support/station-post.js';

/** Door and panel talk, each with a media process that could use MQTT. */
async function talking(t: Test): Promise<{ door: Post; panel: Post; callId: string }> {
  const dir = mkdtempSync(join(tmpdir(), 'ep-call-media-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const site = await Site.start();
  t.teardown(() => site.stop());
  const post = (id: string, target: string): Promise<Post> => {
    const pki = site.host.credentialsOf(id);
    const more = `
buttons: { bell: { do: ${target} }, open: { do: hang-up } }
media: { identity: { cert: "${pki.cert}", key: "${pki.key}" } }`;
    return Post.start(t, configFile(join(dir, id), id, `mqtts://127.0.0.1:${site.port}`, pki, more), join(dir, id));
  };
  const door = await post('door', 'call, target: panel');
  const panel = await post('panel', 'answer-or-hang-up');
  await Promise.all([door.online(), panel.online()]);
  await until(async () => {
    if (door.call === undefined || door.call.state === 'ended') door.board.press('bell');
    await new Promise((resolve) => setTimeout(resolve, 50));
    return panel.call?.state === 'ringing-in';
  });
  panel.board.press('bell');
  await Promise.all([door.is('answered'), panel.is('answered')]);
  await until(() => door.engine.started.length === 1 && panel.engine.started.length === 1);
  return { door, panel, callId: door.call?.callId ?? '' };
}

test('a call moves to MQTT and back as its media says, and the peer is told', async (t) => {
  const { door, panel, callId } = await talking(t);
  for (const { engine } of [door, panel]) t.match(engine.started[0], { path: 'udp', provePath: true });

  door.engine.moved(callId, 'mqtt');
  await until(() => panel.engine.started.length === 2);
  t.match(panel.engine.started[1], { path: 'mqtt', provePath: true, remote: panel.engine.started[0]?.remote });
  t.match(door.engine.started.at(-1), { path: 'mqtt' });

  panel.engine.moved(callId, 'mqtt');
  await until(() => door.engine.started.at(-1)?.path === 'mqtt' && door.engine.started.length === 3);

  panel.engine.moved(callId, 'udp');
  await until(() => door.engine.started.length === 4);
  t.match(door.engine.started.at(-1), { path: 'mqtt' }, "the peer's return moves nobody");
  t.match(panel.engine.started.at(-1), { path: 'udp' }, 'nor does its own description call it back');
  door.engine.moved(callId, 'udp');
  await until(() => panel.engine.started.length === 5);
  t.match(panel.engine.started.at(-1), { path: 'udp' });
  t.match(door.engine.started.at(-1), { path: 'udp' });

  door.engine.moved('call-of-nobody', 'mqtt');
  door.board.press('open');
  await Promise.all([door.is('ended'), panel.is('ended')]);
  t.equal(door.call?.reason, 'hung-up', 'and nobody hung up before');
});

test('a machine that is too slow for Opus has the call go on in G.711, both ways, and back', async (t) => {
  const { door, panel, callId } = await talking(t);
  const codecs = () => [door, panel].map(({ engine }) => engine.started.at(-1)?.codec);
  t.same(codecs(), ['opus', 'opus']);
  door.engine.slow(true);
  await until(() => codecs().every((codec) => codec === 'pcmu'));
  t.match(panel.engine.started.at(-1), { sessionId: callId, red: null, telephoneEvent: { send: 101, receive: 101 } });
  panel.engine.slow(true);
  door.engine.slow(false);
  panel.engine.slow(false);
  await until(() => codecs().every((codec) => codec === 'opus'));
  t.match(door.engine.started.at(-1), { red: { send: 97, receive: 97 } });
  t.same([door.call?.state, panel.call?.state], ['answered', 'answered']);
});

test('digits go to the peer of the call, and are told to people and flows there', async (t) => {
  const { door, panel, callId } = await talking(t);
  t.same(await door.api.call('call.dtmf', { digits: '12#' }), { callId });
  t.same(door.engine.digits, ['12# 100']);
  await t.rejects(door.api.call('call.dtmf', { digits: 'open sesame' }), { message: /digits/ });
  const flowsTold: { name: string; params: unknown }[] = [];
  const flows = await connectRpc({
    path: join(panel.dir, 'run', FLOWS_SOCKET),
    requests: flowsRequests,
    notifications: flowsNotifications,
    timeoutMs: 5_000,
    onNotification: (name, params) => flowsTold.push({ name, params }),
    onClose: () => {},
  });
  await flows.call('station.describe', {});
  t.same(await flows.call('call.dtmf', { digits: '7', durationMs: 200 }), { callId });
  t.same(panel.engine.digits, ['7 200']);

  panel.engine.digit('call-of-nobody', '9');
  panel.engine.digit(callId, '5');
  const told = { name: 'call.dtmf', params: { callId, digit: '5', durationMs: 100 } };
  await until(() => panel.told.some(({ name }) => name === 'call.dtmf') && flowsTold.length > 0);
  t.same(
    panel.told.filter(({ name }) => name === 'call.dtmf'),
    [told],
  );
  t.same(flowsTold, [told]);
  flows.close();
  door.board.press('open');
  await panel.is('ended');
  await t.rejects(panel.api.call('call.dtmf', { digits: '1' }), { code: 'no-call' });
});

test('a peer is lost when its media is silent and it can not be reached either', async (t) => {
  const clock = new ManualClock();
  let lost = 0;
  const watch = new PeerWatch({
    clock,
    onLost: () => {
      lost += 1;
    },
  });
  watch.silent(true);
  clock.advance(PEER_LOST_AFTER_MS * 3);
  t.equal(lost, 0, 'silence alone ends nothing');
  watch.silent(false);
  watch.peerOnline(false);
  clock.advance(PEER_LOST_AFTER_MS * 3);
  t.equal(lost, 0, 'nor does being offline');
  watch.silent(true);
  clock.advance(PEER_LOST_AFTER_MS - 1);
  watch.silent(false);
  clock.advance(PEER_LOST_AFTER_MS);
  t.equal(lost, 0, 'it came back in time');
  watch.silent(true);
  clock.advance(PEER_LOST_AFTER_MS);
  t.equal(lost, 1);
  watch.reset();
  watch.linkConnected(false);
  watch.silent(true);
  clock.advance(PEER_LOST_AFTER_MS);
  t.equal(lost, 2, 'our own link is down: nobody can say that the peer is there');
});
