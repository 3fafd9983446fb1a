import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import type { MqttLink } from '../src/adapters/mqtt/mqtt-link.js';
import { Directory, ELSEWHERE } from '../src/call/directory.js';
import { writeSdp } from '../src/call/sdp.js';
import { configSchema } from '../src/config/schema.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import type { CallMessage } from '../src/protocol/call-message.js';
import type { SelfTestResult } from '../src/protocol/selftest.js';
import { EchoExtension } from '../src/station/echo-extension.js';
import type { EngineClient } from '../src/station/engine-client.js';
import { SelfTest } from '../src/station/self-test.js';
import { callCheck, soundCheck } from '../src/station/self-test-checks.js';
import { SelfTestSchedule } from '../src/station/self-test-schedule.js';
import type { Signalling } from '../src/station/signalling.js';
import { describedAt } from './support/descriptions.js';
import { freePort, until } from './support/site.js';
import { HEARD } from './support/station-doubles.js';
import { configFile, Post } from './support/station-post.js';

/** A site of two: the panel hosts it, the door has a relay with a contact. */
async function posts(t: Test): Promise<{ door: Post; panel: Post }> {
  const dir = mkdtempSync(join(tmpdir(), 'ep-selftest-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const port = await freePort();
  const url = `mqtts://127.0.0.1:${port}`;
  const pki = join(dir, 'panel/state/pki');
  const own = (id: string) => ({
    ca: join(pki, 'ca.pem'),
    cert: join(pki, 'clients', `${id}.pem`),
    key: join(pki, 'clients', `${id}.pem`),
  });
  const hosting = `siteHost: { listen: { address: 127.0.0.1, port: ${port} }, stations: { door: { name: Door }, panel: { name: Panel, mayCall: [door] } } }`;
  const more = 'flows: { enabled: false }\nselftest: { relay: true }';
  const panel = await Post.start(
    t,
    configFile(join(dir, 'panel'), 'panel', url, own('panel'), `${more}\n${hosting}`),
    join(dir, 'panel'),
  );
  const door = await Post.start(
    t,
    configFile(join(dir, 'door'), 'door', url, own('door'), `${more}\nbuttons: { bell: { do: call, target: panel } }`),
    join(dir, 'door'),
  );
  await Promise.all([panel.online(), door.online()]);
  return { door, panel };
}

const run = (post: Post): Promise<SelfTestResult> => post.api.call('selftest.run', {}, { timeoutMs: 25_000 });
const reasons = ({ checks }: SelfTestResult) =>
  Object.fromEntries(checks.map(({ name, outcome, reason }) => [name, `${outcome} ${reason}`]));

test('a station tries itself, says what it found, and gives way to whoever needs it', {
  timeout: 90_000,
}, async (t) => {
  const { door, panel } = await posts(t);
  let sticks = false;
  let rest = false;
  door.board.contact = {
    get closed() {
      return sticks ? rest : door.board.doorOpen;
    },
    fault: null,
  };
  await door.closeStation();
  await door.startStation();
  await door.online();

  // A media process that stumbles as it starts: three seconds of it say nothing yet.
  door.engine.scores.push(...Array<number>(7).fill(3.4));
  const [result, same] = await Promise.all([run(door), run(door)]);
  t.same(door.engine.scores, [], 'it is listened to until it is good');
  t.same(result, same, 'who asks meanwhile gets the same');
  t.same(reasons(result), {
    broker: 'pass acknowledged',
    relay: 'pass moved',
    sound: 'pass heard',
    call: 'pass heard',
  });
  t.match(result, { ok: true, verdict: 'pass', failed: [], by: 'local' });
  t.match(result.checks.at(-1)?.figures, { roundTripMs: 120, mos: 4.3, lossPct: 0.2 });
  t.match(await door.api.call('station.status', {}), { selfTest: { ok: true, at: result.at } });
  t.same(door.board.pulses, [200]);
  t.match(door.told.findLast(({ name }) => name === 'door.changed')?.params, { by: 'selftest' });
  t.match(panel.engine.cardless, [/ echo$/]);
  t.match(door.engine.cardless, [/ probe$/]);
  const lit = door.board.switched.filter((one) => one.endsWith(' on'));
  t.same([door.engine.tones, lit, door.call], [[], [], undefined], 'it rings and lights nothing');
  await until(() => panel.engine.open.size === 0 && door.engine.open.size === 0);

  sticks = true;
  door.engine.loop = () => ({ ...HEARD, verdict: 'not-heard', levelDb: null, delayMs: null, distortionPct: null });
  const bad = await run(door);
  t.match(bad, { ok: false, verdict: 'fail' });
  t.same(bad.failed, ['relay: relay-stuck', 'sound: not-heard']);
  t.ok(
    bad.checks.every(({ outcome, remedy }) => outcome !== 'fail' || remedy !== null),
    'each says what to do next',
  );
  door.engine.loop = () => {
    throw new AppError('interrupted', 'a bell');
  };
  t.match(
    reasons(await run(panel)),
    { relay: 'skipped no-contact', call: 'pass heard' },
    'the host calls its own echo',
  );

  // A visitor comes in the middle of it.
  const running = run(door);
  await until(() => door.engine.cardless.length === 3);
  door.board.press('bell');
  const interrupted = await running;
  t.match(interrupted, {
    ok: false,
    verdict: 'fail',
    failed: ['relay: relay-stuck', /sound: interrupted/, 'call: interrupted'],
  });
  await panel.is('ringing-in');
  await t.rejects(run(door), { code: 'line-busy' });
  await t.rejects(run(panel), { code: 'line-busy' });
  await door.api.call('call.hangUp', {});
  await panel.is('ended');
  t.match(await panel.api.call('station.status', {}), { siteHost: { refused: {} } });

  sticks = false;
  rest = true;
  await panel.stop();
  await until(async () => !(await door.api.call('station.status', {})).broker.connected);
  door.engine.loop = () => HEARD;
  const alone = await run(door);
  t.match(alone.failed, ['broker: broker-unreachable', 'call: no-broker']);
  t.equal(alone.verdict, 'fail');
  t.ok((await door.api.call('station.status', {})).outbox.waiting >= 1, 'the broker hears of it later');
});

test('what is heard is told by its cause, as far as that can be known', async (t) => {
  const of = (more: object) => soundCheck({ ...HEARD, ...more });
  const none = { verdict: 'not-heard', correlation: 0.02, levelDb: null, delayMs: null, distortionPct: null };
  const fault = { code: 'card-lost', text: 'the card is gone' };
  t.match(of({}), { outcome: 'pass', figures: { levelDb: -20, delayMs: 60 } });
  t.match(of({ ...none, microphone: { state: 'down', fault, frames: 0, isDead: true } }), {
    reason: 'microphone-down',
    text: /the card is gone/,
  });
  t.match(of({ ...none, microphone: { ...HEARD.microphone, frames: 0, isDead: true } }), { reason: 'microphone-down' });
  t.match(of({ ...none, microphone: { ...HEARD.microphone, isDead: true } }), { reason: 'microphone-silent' });
  t.match(of({ ...none, speaker: { ...HEARD.speaker, state: 'down', fault, takenPct: 0 } }), {
    reason: 'speaker-down',
  });
  t.match(of({ ...none, speaker: { ...HEARD.speaker, takenPct: 40 } }), { reason: 'speaker-down' });
  t.match(of(none), { reason: 'not-heard', text: /hears its surroundings \(-60 dB/ });
  for (const verdict of ['too-quiet', 'distorted', 'clipped']) {
    const check = of({ verdict });
    t.match(check, { outcome: 'fail', reason: verdict });
    t.ok(check.remedy);
  }
});

test('a test call is told by what became of it', async (t) => {
  const probe = { mos: 4.3, correlation: 0.9, roundTripMs: 140, levelDb: 0 };
  const of = (reason: string) => callCheck({ reason, setUpMs: 80, probe, figures: null });
  t.match(of('heard'), { outcome: 'pass', figures: { setUpMs: 80, roundTripMs: 140, mos: null } });
  for (const [reason, outcome, word] of [
    ['not-heard', 'fail', 'not-heard'],
    ['unknown', 'fail', 'no-echo'],
    ['unreachable', 'fail', 'unreachable'],
    ['media-failed', 'fail', 'media-failed'],
    ['busy', 'skipped', 'echo-busy'],
    ['interrupted', 'skipped', 'interrupted'],
    ['x'.repeat(999), 'fail', 'call-failed'],
  ] as const) {
    t.match(of(reason), { outcome, reason: word });
    t.ok(of(reason).text.length < 200);
  }
});

test('the echo answers two callers of its site, for 20 s, and nobody else', async (t) => {
  const clock = new ManualClock();
  const said: CallMessage[] = [];
  const opened: string[] = [];
  const engine = {
    hasIdentity: true,
    wantsG711: false,
    reached: async () => {},
    openSession: async (sessionId: string, end: string) => {
      opened.push(`${end}`);
      return { local: { address: '127.0.0.1', port: 40_000 + opened.length }, ssrc: sessionId.length, cname: 'echo' };
    },
    startSession: async () => {},
    closeSession: async () => {
      opened.pop();
      return null;
    },
  } as unknown as EngineClient;
  const config = configSchema.parse({
    station: { id: 'panel', name: 'Panel', site: 'home' },
    board: 'none',
    audio: { capture: 'none', playback: 'none' },
    rtp: { address: '127.0.0.1' },
    media: { encryption: 'preferred', path: 'auto', identity: { cert: 'none', key: 'none' } },
    mqtt: { url: 'mqtts://127.0.0.1:1', ca: 'none', cert: 'none', key: 'none' },
    state: 'none',
    run: 'none',
  });
  const echo = new EchoExtension({
    id: 'echo',
    config,
    engine,
    clock,
    logger: silentLogger,
    send: (m) => said.push(m),
  });
  const sdp = writeSdp(describedAt(40_100));
  const from = (station: string, callId: string, more: object): CallMessage =>
    ({ v: 1, id: randomUUID(), seq: 0, callId, from: station, to: 'echo', ...more }) as CallMessage;
  const invite = (station: string, callId: string, text = sdp) =>
    echo.take(from(station, callId, { type: 'invite', fromName: station, sdp: text, ringMs: 4_000 }));
  invite('door', 'call-0001');
  invite('door', 'call-0001');
  invite('attic', 'call-0002');
  await until(() => said.length === 2);
  t.match(said, [
    { type: 'answer', from: 'echo', to: 'door', callId: 'call-0001' },
    { type: 'answer', to: 'attic' },
  ]);
  t.match(JSON.stringify(said), /x-entryphone-path:udp mqtt/, 'by both paths, as any call');
  t.same(opened, ['echo', 'echo']);
  const leg = echo.legOf('call-0001');
  t.match(leg, { station: 'panel' });
  t.not(leg?.sessionId, 'call-0001', 'the host may call its own echo');
  const near = { station: 'panel', sessionId: leg?.sessionId ?? '' };
  t.same(echo.callerOf(near), { station: 'door', sessionId: 'call-0001' });
  t.equal(echo.callerOf({ ...near, station: 'attic' }), undefined, 'only of the station that has it');
  const { length } = said;
  echo.moved('call-0001', 'mqtt');
  t.equal(said.length, length, 'another session of this station');
  echo.moved(near.sessionId, 'mqtt');
  t.match(said.slice(length), [{ type: 'update', to: 'door', sdp: /x-entryphone-path:mqtt udp/ }]);
  invite('cellar', 'call-0003');
  t.match(said.at(-1), { type: 'reject', reason: 'busy', to: 'cellar' });
  echo.take(from('cellar', 'call-0001', { type: 'bye', reason: 'hung-up' }));
  t.equal(echo.calls, 2, 'who is no party ends nothing');
  echo.take(from('attic', 'call-0002', { type: 'bye', reason: 'hung-up' }));
  t.equal(echo.calls, 1);
  invite('cellar', 'call-0004', 'v=0 and no more');
  t.match(said.at(-1), { type: 'reject', reason: 'bad-offer' });
  echo.take(from('cellar', 'call-0009', { type: 'update', sdp }));
  t.match(said.at(-1), { type: 'bye', reason: 'no-such-call' });
  clock.advance(20_000);
  t.match(said.at(-1), { type: 'bye', to: 'door', reason: 'talk-timeout' });
  t.equal(echo.calls, 0);
  t.match(echo.refused.all(), { busy: 1, 'bad-offer': 1, 'wrong-peer': 1, 'unknown-call': 1 });
  await until(() => opened.length === 0);
  invite('door', 'call-0005');
  echo.mediaLost();
  t.match(said.at(-1), { type: 'reject', reason: 'media-failed' });

  const directory = new Directory(
    { door: { name: 'Door', numbers: [], mayCall: [] }, echo: { name: 'echo', numbers: ['*9'], isExtension: true } },
    ELSEWHERE,
  );
  t.equal(directory.resolve(' *9'), 'echo');
  t.ok(directory.mayCall('door', 'echo'), 'whomever else it may call');
  t.notOk(directory.mayCall(ELSEWHERE, 'echo'), 'nobody of another site');
  t.notOk(directory.mayCall('echo', 'echo'));
});

test('by itself once a day or each so many hours; again where a call was in the way', async (t) => {
  const clock = new ManualClock();
  const at = (minutes: number): string => {
    const time = new Date(clock.wallMs() + minutes * 60_000);
    return `${String(time.getHours()).padStart(2, '0')}:${String(time.getMinutes()).padStart(2, '0')}`;
  };
  const ran: string[] = [];
  let answer: () => Promise<{ verdict: 'pass' | 'undecided' }> = async () => ({ verdict: 'pass' });
  const schedule = (name: string, times: object) =>
    new SelfTestSchedule({
      times,
      run: () => {
        ran.push(name);
        return answer();
      },
      clock,
      logger: silentLogger,
    });
  const minutes = async (count: number): Promise<void> => {
    for (let i = 0; i < count * 2; i++) {
      clock.advance(30_000);
      await new Promise(setImmediate);
    }
  };
  const none = schedule('never', {});
  const soon = schedule('soon', { dailyAt: at(10) });
  const past = schedule('past', { dailyAt: at(-10) });
  const hours = schedule('hours', { everyHours: 2 });
  await minutes(9);
  t.same(ran, [], 'a start after the time waits for the next');
  answer = () => Promise.reject(new AppError('line-busy', 'a call lives'));
  await minutes(3);
  t.ok(ran.length >= 2, 'again each half minute');
  answer = async () => ({ verdict: 'undecided' });
  await minutes(1);
  answer = async () => ({ verdict: 'pass' });
  await minutes(2);
  const tried = ran.length;
  await minutes(90);
  t.equal(ran.length, tried, 'once it is decided, not before tomorrow');
  await minutes(24);
  t.same(ran.slice(tried), ['hours']);
  await minutes(24 * 60 - 130);
  t.equal(ran.slice(tried).filter((name) => name === 'past').length, 1);
  answer = () => Promise.reject(new Error('broken'));
  await minutes(120);
  t.equal(ran.slice(tried).filter((name) => name === 'soon').length, 1, 'a fault is no reason to try at once again');
  for (const one of [none, soon, past, hours]) one.close();
  t.equal(clock.timers, 0);
});

test('flows have the station tested once a minute at most; a run that goes on is for all who ask', async (t) => {
  const clock = new ManualClock();
  const done: SelfTestResult[] = [];
  let isInCall = false;
  const selfTest = new SelfTest({
    config: configSchema.parse({
      station: { id: 'door', name: 'Door', site: 'home' },
      board: 'none',
      audio: { capture: 'none', playback: 'none' },
      rtp: { address: '127.0.0.1' },
      mqtt: { url: 'mqtts://127.0.0.1:1', ca: 'none', cert: 'none', key: 'none' },
      state: 'none',
      run: 'none',
    }),
    link: { state: { connected: false, protocol: null, fault: null } } as MqttLink,
    engine: { measureLoop: async () => HEARD } as unknown as EngineClient,
    signalling: {} as Signalling,
    pins: () => ({ relay: undefined, contact: undefined }),
    isInCall: () => isInCall,
    onPulse: () => t.fail('there is no relay'),
    onDone: (result) => done.push(result),
    clock,
    logger: silentLogger,
  });
  const [one, other] = await Promise.all([selfTest.run('flows'), selfTest.run('local')]);
  t.same(one, other);
  t.match(reasons(one), { relay: 'skipped no-relay', sound: 'pass heard', call: 'skipped no-broker' });
  await t.rejects(selfTest.run('flows'), { code: 'too-soon' });
  t.match(await selfTest.run('local'), { by: 'local' }, 'whoever is at the station may');
  clock.advance(60_000);
  t.match(await selfTest.run('flows'), { by: 'flows' });
  isInCall = true;
  await t.rejects(selfTest.run('schedule'), { code: 'line-busy' });
  t.equal(done.length, 3);
  selfTest.close();
  t.equal(clock.timers, 0);
});
