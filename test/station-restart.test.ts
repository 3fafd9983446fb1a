import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import type { Publication } from '../src/adapters/mqtt/mqtt-link.js';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { placeCall, resumeCall, transition } from '../src/call/call.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { type CallView, stationNotifications, stationRequests } from '../src/protocol/station-api.js';
import { CallJournal, keep, takeUp } from '../src/station/call-journal.js';
import { Signalling } from '../src/station/signalling.js';
import { describedAt } from './support/descriptions.js';
import { Site, until } from './support/site.js';
import { EngineDouble } from './support/station-doubles.js';
import { configFile, Post } from './support/station-post.js';

const PROGRAM = resolve(import.meta.dirname, '../src/bin/station.js');

/** A station in a process of its own, so that it can be killed; its media process is a double that outlives it. */
class KillableStation {
  readonly dir: string;
  readonly engine: EngineDouble;
  #child: ChildProcess | undefined;

  constructor(t: Test, dir: string, engine: EngineDouble) {
    this.dir = dir;
    this.engine = engine;
    t.teardown(async () => {
      await this.kill();
      await engine.stop();
    });
  }

  /** Resolves when its local API answers. */
  async start() {
    this.#child = spawn(process.execPath, [PROGRAM, '--config', join(this.dir, 'station.yaml')], { stdio: 'ignore' });
    const connect = () =>
      connectRpc({
        path: join(this.dir, 'run/station.sock'),
        requests: stationRequests,
        notifications: stationNotifications,
        timeoutMs: 5_000,
        onNotification: () => {},
        onClose: () => {},
      });
    let api = await connect().catch(() => undefined);
    await until(async () => {
      api ??= await connect().catch(() => undefined);
      return api !== undefined;
    });
    if (api === undefined) throw new Error('not reached');
    return api;
  }

  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  }

  get journal(): string {
    return join(this.dir, 'state/call.json');
  }
}

test('what the switchboard is not there for yet is said again, in its order, as long as it is worth it', async (t) => {
  const clock = new ManualClock();
  const heard: string[] = [];
  let isThere = false;
  const link = {
    publish: async ({ body }: Publication) => {
      if (!isThere) throw new AppError('unheard', 'nobody listens');
      heard.push(JSON.parse(String(body)).type);
    },
  };
  const signalling = new Signalling({ link, site: 'home', station: 'door', clock });
  const passed = async (ms: number) => {
    for (let i = 0; i < ms / 50; i++) {
      clock.advance(50);
      await new Promise(setImmediate);
    }
  };
  const invite = signalling.send('call-0001', 'panel', { type: 'invite', fromName: 'Door', sdp: 'v=0', ringMs: 1_000 });
  const outcome = invite.then(
    () => 'sent',
    (error: AppError) => error.code,
  );
  await passed(2_000);
  t.equal(await outcome, 'unheard', 'a press fails fast');

  const sent = [signalling.send('call-0002', 'panel', { type: 'update', sdp: 'v=0' })];
  await passed(1_000);
  sent.push(signalling.send('call-0002', 'panel', { type: 'bye', reason: 'hung-up' }));
  await passed(1_000);
  t.same(heard, []);
  isThere = true;
  await passed(200);
  await Promise.all(sent);
  t.same(heard, ['update', 'bye']);
  await signalling.settled();
});

test('a station is killed in mid-call: the call goes on, unless it is over', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ep-restart-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const site = await Site.start();
  t.teardown(() => site.stop());
  const url = `mqtts://127.0.0.1:${site.port}`;
  const ofMedia = site.host.credentialsOf('door--media').cert;
  const files = (id: string) => {
    const media = id === 'door' ? `media: { identity: { cert: "${ofMedia}", key: "${ofMedia}" } }` : '';
    return configFile(join(dir, id), id, url, site.host.credentialsOf(id), media);
  };
  const panel = await Post.start(t, files('panel'), join(dir, 'panel'));
  const door = new KillableStation(t, join(dir, 'door'), await EngineDouble.start(files('door').config.run));
  let api = await door.start();
  const callOf = async (): Promise<CallView | undefined> => (await api.call('station.status', {})).calls.at(-1);
  /** Talks, with all of it in the journal; then the door station is killed. */
  const talkAndKill = async (): Promise<CallView | undefined> => {
    await panel.online();
    await until(async () => (await api.call('station.status', {})).broker.connected);
    await until(async () => {
      // Again, where the switchboard has not heard yet that the panel is there.
      const lives = ['inviting', 'ringing-out'].includes((await callOf())?.state ?? 'ended');
      if (!lives) await api.call('call.place', { target: 'panel' });
      return panel.call?.state === 'ringing-in';
    });
    await panel.api.call('call.answer', {});
    await until(async () => (await callOf())?.state === 'answered');
    await until(() => door.engine.started.length > 0 && panel.engine.started.length > 0);
    await until(() => readFileSync(door.journal, 'utf8').includes('"talk":{'));
    const before = await callOf();
    await door.kill();
    return before;
  };

  const before = await talkAndKill();
  const [asStarted] = door.engine.started;
  api = await door.start();
  await until(() => door.engine.started.length === 2 && panel.engine.started.length === 2);
  t.same(await callOf(), before, 'it is the same call, as old as it was');
  t.same(door.engine.started[1], asStarted, 'the same session, as it was');
  const pem = readFileSync(ofMedia, 'utf8');
  t.match(
    door.engine.identities,
    [
      { cert: pem, key: pem },
      { cert: pem, ca: /BEGIN/ },
    ],
    'media is told who it is, each time',
  );
  t.same(panel.engine.started[1], panel.engine.started[0], 'the peer has been asked, and knows the call');
  t.equal(panel.call?.state, 'answered');
  const opened = await panel.api.call('door.open', {});
  t.same(
    opened,
    { opened: false, reason: 'chip-absent' },
    'the door has made a nonce, and taken it; only there is no lock',
  );
  await api.call('call.hangUp', {});
  await panel.is('ended', 'hung-up');
  await until(() => !existsSync(door.journal));

  await talkAndKill();
  await panel.api.call('call.hangUp', {});
  await until(() => site.host.status().calls === 0);
  api = await door.start();
  await until(async () => (await callOf())?.reason === 'no-such-call');
  await until(() => door.engine.open.size === 0);

  await talkAndKill();
  door.engine.open.clear();
  api = await door.start();
  await panel.is('ended', 'station-restarted');
  await until(() => !existsSync(door.journal));
  t.equal(await callOf(), undefined);
  t.equal(door.engine.open.size, 0, 'the session that was opened to find out is closed');
});

test('what is kept of a call, and what a damaged journal is worth', async (t) => {
  const dir = t.testdir();
  const times = { sinceMs: 1_000, nextSeq: 3, muted: true };
  const options = { callId: 'call-0001', peer: 'panel', peerName: 'Wohnung Süd', ringMs: 1_000, talkMs: 1_000 };
  const [local, remote] = [describedAt(40_001), { ...describedAt(40_002), paths: ['mqtt', 'udp'] as const }];
  let { call } = placeCall(options);
  call = transition(call, { on: 'media-opened', local }).call;
  t.same(keep(call, times), { callId: 'call-0001', peer: 'panel', talk: null });
  call = transition(call, { on: 'peer-answer', id: 'answer-0', seq: 5, remote }).call;
  const journal = new CallJournal({ path: join(dir, 'call.json'), logger: silentLogger });
  journal.note(keep(call, times));
  await journal.settled();
  const { leftBehind } = new CallJournal({ path: join(dir, 'call.json'), logger: silentLogger });
  t.same(leftBehind, keep(call, times));
  if (leftBehind === null) return;
  const taken = takeUp(leftBehind);
  t.match(taken, { ...times, nextSeq: 10_003, highestSeq: 5, direction: 'out', local, remote });
  if (taken === undefined) return;
  const resumed = resumeCall({ ...options, ...taken, talkLeftMs: 400 });
  t.match(
    resumed.effects.map((effect) => effect.do),
    ['send', 'start-media', 'arm'],
  );
  t.match(resumed.effects.at(-1), { timer: 'talk', afterMs: 400 }, 'the talk is as long as it would have been');
  t.equal(transition(resumed.call, { on: 'peer-update', id: 'update-0', seq: 5, remote }).ignored, 'out-of-order');
  t.equal(transition(resumed.call, { on: 'timeout', timer: 'talk' }).call.reason, 'talk-timeout');
  const { talk } = leftBehind;
  t.equal(talk === null ? '' : takeUp({ ...leftBehind, talk: { ...talk, remote: 'v=0' } }), undefined);
});
