/** Logs of a station, followed from afar: bounded, whose they are, and without secrets. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import type { Publication } from '../src/adapters/mqtt/mqtt-link.js';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { newPrivateKey, type SigningKey, signingKey } from '../src/adapters/tuf/signing-key.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';
import { LogRelay } from '../src/core/log-relay.js';
import { LogTap } from '../src/core/log-tap.js';
import { silentLogger } from '../src/core/logger.js';
import { redactedLine } from '../src/core/redaction.js';
import { Commander } from '../src/manager/commander.js';
import {
  type CommandOrder,
  type CommandResponse,
  commandResponse,
  type Order,
  signedCommand,
} from '../src/protocol/command.js';
import { FLOWS_SOCKET, flowsNotifications, flowsRequests } from '../src/protocol/flows-api.js';
import type { SelfTestResult } from '../src/protocol/selftest.js';
import { MANAGER_ID, topic } from '../src/protocol/topics.js';
import { OtherLogs } from '../src/station/other-logs.js';
import { RemoteCommands } from '../src/station/remote-commands.js';
import { Site, until } from './support/site.js';
import { configFile, Post } from './support/station-post.js';

const RESULT: SelfTestResult = {
  ...{ ok: false, verdict: 'fail', failed: ['sound: not-heard'], checks: [], by: 'fleet', at: 1, durationMs: 2 },
};
const soon = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A station's commands around which nothing is real, and the manager that it trusts. */
class Bench {
  readonly clock = new ManualClock();
  readonly key: SigningKey = signingKey(newPrivateKey());
  readonly tap = new LogTap();
  readonly said: CommandResponse[] = [];
  readonly topics: string[] = [];
  readonly noted: object[] = [];
  readonly restarted: string[] = [];
  readonly followed: boolean[] = [];
  tested = 0;
  readonly commands: RemoteCommands;

  constructor(keys?: readonly string[]) {
    this.commands = new RemoteCommands({
      ...{ site: 'home', station: 'door', keys: keys ?? [this.key.publicHex], clock: this.clock, logger: silentLogger },
      link: {
        publish: async ({ topic, body }: Publication) => {
          this.topics.push(topic);
          this.said.push(commandResponse.parse(JSON.parse(String(body))));
        },
      },
      selfTest: async () => {
        this.tested += 1;
        return RESULT;
      },
      restart: (service) => {
        if (service === 'flows') throw new AppError('service-absent', 'no flows here');
        this.restarted.push(service);
      },
      logTap: this.tap,
      others: { follow: (on) => void this.followed.push(on) },
      note: (kind, body) => void this.noted.push({ kind, ...body }),
    });
  }

  order(order: Order['order'], challenge: string | null, more: Partial<Order> = {}): Omit<Order, 'purpose'> {
    const whose = { site: 'home', station: 'door', client: 'fleet-manager', by: 'ana' };
    return { id: randomUUID(), ...whose, challenge, order, ...more };
  }

  take(order: Omit<Order, 'purpose'>, more: { verb?: string; retained?: boolean; key?: SigningKey } = {}): void {
    this.takeText(signedCommand(order, more.key ?? this.key, 0), more.verb ?? order.order.verb, more.retained);
  }

  takeText(text: string, verb: string, retained = false): void {
    this.commands.take(verb, { body: Buffer.from(text), retained });
  }

  nonce(): string {
    this.take(this.order({ verb: 'challenge' }, null));
    const last = this.said.at(-1);
    if (last?.type !== 'challenge') throw new Error('no challenge');
    return last.nonce;
  }

  /** Orders, and waits for the answer. */
  async run(order: CommandOrder, more: Partial<Order> = {}): Promise<Extract<CommandResponse, { type: 'answer' }>> {
    this.clock.advance(10_000);
    this.take(this.order(order, this.nonce(), more));
    await soon();
    await soon();
    const answer = this.said.findLast(({ type }) => type === 'answer');
    if (answer?.type !== 'answer') throw new Error('no answer');
    return answer;
  }
}

test('a log is sent for a while, bounded, without secrets, and ends by itself', async (t) => {
  const bench = new Bench();
  const line = (msg: string, level = 30, more = {}): void => bench.tap.tell(JSON.stringify({ level, msg, ...more }));
  const told = () => bench.said.flatMap((said) => (said.type === 'log' ? [said] : []));
  line('before');
  t.match(await bench.run({ verb: 'logs', minutes: 1, level: 'info' }), { ok: true, text: /for 1 min/ });
  line('hello');
  line('a debug line', 20);
  bench.clock.advance(500);
  t.same(
    told().flatMap(({ lines }) => lines),
    ['{"level":30,"msg":"hello"}'],
  );
  for (let i = 0; i < 500; i++) line(`flood ${i}`);
  bench.clock.advance(500);
  t.match(told().at(-1), { dropped: 450, ended: null });
  t.equal(told().at(-1)?.lines.length, 50);
  line('x'.repeat(5_000));
  bench.clock.advance(500);
  t.ok((told().at(-1)?.lines[0]?.length ?? 9_999) <= 1_024);
  bench.clock.advance(60_000);
  t.match(told().at(-1), { ended: 'time' });
  const { length } = told();
  line('after');
  bench.clock.advance(5_000);
  t.equal(told().length, length);

  await bench.run({ verb: 'logs', minutes: 10, level: 'warn' });
  line('info');
  line('warn', 40);
  bench.clock.advance(500);
  t.match(told().at(-1)?.lines, ['{"level":40,"msg":"warn"}']);
  await bench.run({ verb: 'logs', minutes: 10, level: 'warn' });
  t.ok(told().some(({ ended }) => ended === 'replaced'));
  t.match(await bench.run({ verb: 'logs', minutes: 0, level: 'warn' }), { ok: true });
  t.match(told().at(-1), { ended: 'stopped' });

  await bench.run({ verb: 'logs', minutes: 10, level: 'info' });
  for (let i = 0; i < 3_000; i++) {
    for (let n = 0; n < 24; n++) line('y'.repeat(1_000));
    bench.clock.advance(500);
    if (told().at(-1)?.ended !== null) break;
  }
  t.match(told().at(-1), { ended: 'size' });
  t.same(bench.followed, [true, false, true, false, true, false, true, false], 'other processes are told each time');
});

test('the log of a station is that of its other processes, too: each line is whose the station says, and none drives others out', async (t) => {
  const clock = new ManualClock();
  const tap = new LogTap();
  const heard: string[] = [];
  tap.listen((line) => heard.push(line));
  const told: string[] = [];
  const media = { followLog: (on: boolean) => void told.push(`media ${on}`) };
  const logs = new OtherLogs({ tap, clock, processes: () => [media, undefined] });
  logs.took('media', ['{"level":30,"msg":"unasked"}']);
  logs.follow(true);
  logs.follow(true);
  logs.took('flows', ['{"level":50,"name":"station","msg":"the door is open"}', 'no JSON', '[1]', '{"level":"x"}']);
  t.same(
    heard.map((line) => JSON.parse(line)),
    [
      { level: 50, name: 'flows', msg: 'the door is open' },
      { level: 30, name: 'flows', msg: 'no JSON' },
      { level: 30, name: 'flows', msg: '[1]' },
      { level: 30, name: 'flows' },
    ],
  );
  logs.took('flows', Array(32).fill('{"level":30,"msg":"flood"}'));
  logs.took('media', ['{"level":40,"msg":"the card is down"}']);
  t.equal(heard.length, 26);
  t.match(heard.at(-1), /"msg":"the card is down","name":"media"/);
  t.equal(logs.dropped.get('flows'), 11);
  logs.follow(false);
  t.same(told, ['media true', 'media false']);

  const own = new LogTap();
  const sent: string[][] = [];
  const relay = new LogRelay({ tap: own, clock, send: (lines) => sent.push(lines) });
  own.tell('unasked');
  relay.follow(true);
  for (let n = 0; n < 30; n++) own.tell(`line ${n}\n`);
  clock.advance(500);
  t.equal(sent[0]?.length, 21);
  t.match(sent[0]?.at(-1), /10 lines were too many/);
  own.tell('one more');
  clock.advance(500);
  t.same(sent[1], ['one more']);
  own.tell('too late');
  relay.follow(false);
  t.equal(clock.timers, 0);
});

test('a manager that follows the log of a station hears its media process and its flows', {
  timeout: 60_000,
}, async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ep-logs-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const site = await Site.start();
  t.teardown(() => site.stop());
  const key = signingKey(newPrivateKey());
  const pki = site.host.credentialsOf('door');
  const config = configFile(
    dir,
    'door',
    `mqtts://127.0.0.1:${site.port}`,
    pki,
    `fleet: { commandKeys: [${key.publicHex}] }`,
  );
  const door = await Post.start(t, config, dir);
  const { link } = site.link(MANAGER_ID);
  const lines: string[] = [];
  const onLog = (said: { lines: readonly string[] }): void => void lines.push(...said.lines);
  const commander = new Commander({ link, key, refused: new Counters(), clock: systemClock, onLog });
  t.teardown(() => commander.close());
  link.subscribe(topic('home', 'door', 'up', `res/${MANAGER_ID}`), ({ body }) => commander.take('home', 'door', body));
  link.start();
  await until(() => link.state.connected);
  await door.online();

  const followed: boolean[] = [];
  const client = () =>
    connectRpc({
      ...{ path: join(dir, 'run', FLOWS_SOCKET), requests: flowsRequests, notifications: flowsNotifications },
      onNotification: (name, params) => name === 'log.follow' && followed.push((params as { on: boolean }).on),
      ...{ timeoutMs: 5_000, onClose: () => {} },
    });
  const [flows, other] = [await client(), await client()];
  t.teardown(() => {
    flows.close();
    other.close();
  });
  const report = {
    pid: 1,
    state: 'running',
    isSafeMode: false,
    fault: null,
    rev: null,
    url: 'http://127.0.0.1:1',
  } as const;
  const order = (minutes: number) => commander.run('home', 'door', { verb: 'logs', minutes, level: 'info' }, 'ana');
  t.match(await order(1), { ok: true });
  await until(() => door.engine.isLogFollowed);
  await flows.call('flows.report', report);
  await until(() => followed.length > 0);
  t.same(followed, [true], 'those that come are told, too');
  await t.rejects(other.call('log.lines', { lines: ['{"level":30,"msg":"of a node"}'] }), { code: 'not-reported' });
  await flows.call('log.lines', { lines: ['{"level":40,"name":"media","msg":"a flow warns"}'] });
  door.engine.log('{"level":40,"name":"media","msg":"the card hangs"}');
  await until(() => lines.length >= 2);
  t.same(
    lines
      .map((line) => JSON.parse(line))
      .map(({ name, msg }) => `${name}: ${msg}`)
      .sort(),
    ['flows: a flow warns', 'media: the card hangs'],
  );
  await order(0);
  await until(() => !door.engine.isLogFollowed && followed.at(-1) === false);
});

test('what is secret leaves no station in a line of its log', async (t) => {
  const pem = '-----BEGIN PRIVATE KEY-----\nMC4CAQ\n-----END PRIVATE KEY-----';
  const line = redactedLine(
    JSON.stringify({
      level: 30,
      msg: `a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0 and ${pem} and https://ana:hunter2@host/ and password=hunter3`,
      password: 'hunter4',
      nested: { adminToken: 'hunter5', list: [{ keyAndSalt: 'hunter6' }], tlsKey: pem, callId: 'call-1', keyId: 'k1' },
      nonce: 'hunter7',
      digits: '1234',
    }),
  );
  for (const secret of ['c2VjcmV0', 'MC4CAQ', 'hunter', '1234']) t.notMatch(line, secret, secret);
  t.match(line, 'call-1');
  t.match(line, 'k1');
  t.match(line, 'https://ana:');
  t.notMatch(redactedLine(`no JSON: token=hunter8 ${pem}`), /hunter|MC4C/);
  const deep = `${'{"a":'.repeat(20)}"hunter"${'}'.repeat(20)}`;
  t.notMatch(redactedLine(deep), 'hunter', 'what is nested too deep is left out');
});
