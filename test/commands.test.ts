import { randomUUID } from 'node:crypto';
import { test } from 'tap';
import type { Publication } from '../src/adapters/mqtt/mqtt-link.js';
import { newPrivateKey, type SigningKey, signingKey } from '../src/adapters/tuf/signing-key.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { LogTap } from '../src/core/log-tap.js';
import { silentLogger } from '../src/core/logger.js';
import {
  COMMAND_TTL_MS,
  type CommandOrder,
  type CommandResponse,
  commandResponse,
  type Order,
  readCommand,
  signedCommand,
} from '../src/protocol/command.js';
import type { SelfTestResult } from '../src/protocol/selftest.js';
import { RemoteCommands } from '../src/station/remote-commands.js';
import { remoteRestart } from '../src/station/remote-restart.js';

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

test('a manager of the configuration is obeyed, and told what came of it', async (t) => {
  const bench = new Bench();
  t.match(await bench.run({ verb: 'self-test' }), { ok: true, code: 'done', text: 'self-test: fail', result: RESULT });
  t.match(await bench.run({ verb: 'restart', service: 'media' }), { ok: true, text: 'media restarts' });
  t.match(await bench.run({ verb: 'restart', service: 'flows' }), { ok: false, code: 'service-absent' });
  t.match(await bench.run({ verb: 'restart', service: 'media' }), { ok: true }, 'what failed costs no other a rest');
  t.match(await bench.run({ verb: 'self-test' }), { ok: true });
  t.match(await bench.run({ verb: 'self-test' }), { ok: false, code: 'too-soon', remedy: /in 20 s/ });
  t.equal(bench.tested, 2);
  t.same(bench.restarted, ['media', 'media']);
  t.same(new Set(bench.topics), new Set(['entryphone/v1/home/d/door/up/res/fleet-manager']));
  t.match(bench.noted[0], { kind: 'command', by: 'ana', order: { verb: 'self-test' }, outcome: 'done' }, 'audited');
  t.match(bench.noted[2], { by: 'ana', order: { verb: 'restart', service: 'flows' }, outcome: 'service-absent' });
  t.same(bench.commands.refused.all(), {});
});

test('whoever is none, and whatever is late, kept, said twice or changed, is refused, counted, and does nothing', async (t) => {
  const bench = new Bench();
  const { commands } = bench;
  const media: CommandOrder = { verb: 'restart', service: 'media' };
  const refused = async (what: string, refusal: string, attack: () => void): Promise<void> => {
    bench.clock.advance(10_000);
    const before = commands.refused.get(refusal as 'late');
    const done = bench.restarted.length;
    attack();
    await soon();
    t.equal(commands.refused.get(refusal as 'late'), before + 1, what);
    t.equal(bench.restarted.length, done, `${what}: nothing happens`);
  };
  const stranger = signingKey(newPrivateKey());

  await refused('kept by the broker', 'retained', () =>
    bench.take(bench.order(media, bench.nonce()), { retained: true }),
  );
  await refused('signed by nobody that is known', 'unknown-key', () =>
    bench.take(bench.order(media, bench.nonce()), { key: stranger }),
  );
  await refused('a known name under another signature', 'bad-signature', () =>
    bench.take(bench.order(media, bench.nonce()), { key: { ...stranger, publicHex: bench.key.publicHex } }),
  );
  await refused('changed after it was signed', 'bad-signature', () => {
    const text = signedCommand(bench.order({ verb: 'restart', service: 'station' }, bench.nonce()), bench.key, 0);
    bench.takeText(text.replace('service\\":\\"station', 'service\\":\\"media'), 'restart');
  });
  await refused('without a nonce', 'unknown-nonce', () => bench.take(bench.order(media, null)));
  await refused('with a nonce of its own', 'unknown-nonce', () => bench.take(bench.order(media, 'A'.repeat(32))));
  await refused('late by our own clock', 'late', () => {
    const nonce = bench.nonce();
    bench.clock.advance(COMMAND_TTL_MS + 1);
    bench.take(bench.order(media, nonce));
  });
  t.match(bench.said.at(-1), { type: 'answer', ok: false, code: 'late' }, 'who signed it is told');
  await refused('of another station', 'not-for-us', () =>
    bench.take(bench.order(media, bench.nonce(), { station: 'attic' })),
  );
  await refused('of another site', 'not-for-us', () => bench.take(bench.order(media, bench.nonce(), { site: 'away' })));
  await refused('under another verb', 'malformed', () =>
    bench.take(bench.order(media, bench.nonce()), { verb: 'self-test' }),
  );
  await refused('of a verb that is none', 'unknown-verb', () =>
    bench.take(bench.order(media, null), { verb: 'open-door' }),
  );
  await refused('no JSON', 'malformed', () => bench.takeText('{"v":1', 'restart'));
  await refused('too long', 'malformed', () => bench.takeText(`"${'x'.repeat(40_000)}"`, 'restart'));
  await refused('more minutes of log than ten', 'malformed', () =>
    bench.take(bench.order({ verb: 'logs', minutes: 11, level: 'info' }, bench.nonce())),
  );
  await refused('with another id outside than inside', 'malformed', () => {
    const message = JSON.parse(signedCommand(bench.order(media, bench.nonce()), bench.key, 0));
    bench.takeText(JSON.stringify({ ...message, id: randomUUID() }), 'restart');
  });

  bench.clock.advance(20_000);
  const order = bench.order(media, bench.nonce());
  bench.take(order);
  bench.take(order);
  await soon();
  t.equal(bench.restarted.length, 1, 'the broker says it twice: done once');
  const answers = bench.said.filter(({ type }) => type === 'answer').length;
  await refused('a nonce is used twice', 'replayed', () => bench.take({ ...order, id: randomUUID() }));
  t.equal(bench.said.filter(({ type }) => type === 'answer').length, answers + 1);

  const again = new Bench([bench.key.publicHex]);
  again.take(order, { key: bench.key });
  await soon();
  t.equal(again.commands.refused.get('unknown-nonce'), 1, 'recorded, and said to the next start of the station');
  const deaf = new Bench([]);
  deaf.take(deaf.order({ verb: 'challenge' }, null));
  t.equal(deaf.commands.refused.get('not-enabled'), 1, 'no manager in the configuration: no orders');

  const { length } = bench.said;
  bench.clock.advance(10_000);
  for (let i = 0; i < 200; i++) bench.take(bench.order({ verb: 'challenge' }, null));
  t.ok(bench.said.length - length <= 20, 'a flood gets few nonces');
  t.ok(commands.refused.get('too-many-of-key') >= 180);
  bench.take(bench.order({ verb: 'challenge' }, null));
  t.equal(commands.refused.get('too-many'), 1, 'and costs few checks of a signature');
  t.ok(bench.noted.length < 60, 'and few lines in the log of events');
});

test('one manager keeps no other out, and spends nothing of its nonces', async (t) => {
  const [ours, theirs] = [signingKey(newPrivateKey()), signingKey(newPrivateKey())];
  const bench = new Bench([ours.publicHex, theirs.publicHex]);
  const nonceFor = (key: SigningKey): string => {
    bench.take(bench.order({ verb: 'challenge' }, null), { key });
    const last = bench.said.at(-1);
    return last?.type === 'challenge' ? last.nonce : '';
  };
  const nonce = nonceFor(ours);
  const flood = (): void => {
    for (let i = 0; i < 60; i++) bench.take(bench.order({ verb: 'challenge' }, null), { key: theirs });
  };
  flood();
  bench.clock.advance(9_000);
  flood();
  t.equal(bench.commands.refused.get('too-many-of-key'), 100);
  const stranger = signingKey(newPrivateKey());
  for (let i = 0; i < 50; i++) {
    bench.take(bench.order({ verb: 'challenge' }, null), { key: { ...stranger, publicHex: ours.publicHex } });
  }
  for (let i = 0; i < 500; i++) bench.take(bench.order({ verb: 'challenge' }, null), { key: stranger });
  bench.take(bench.order({ verb: 'self-test' }, nonce), { key: ours });
  await soon();
  t.equal(bench.tested, 1, 'the order of the other is carried out');
  bench.take(bench.order({ verb: 'restart', service: 'media' }, nonceFor(ours)), { key: theirs });
  bench.clock.advance(10_000);
  bench.take(bench.order({ verb: 'restart', service: 'media' }, nonceFor(ours)), { key: theirs });
  await soon();
  t.same(bench.restarted, [], 'a nonce is of the manager that asked for it');
  t.equal(bench.commands.refused.get('unknown-nonce'), 1);
});

test('a signature counts for an order alone, and for every byte of it', async (t) => {
  const key = signingKey(newPrivateKey());
  const whose = { site: 'home', station: 'door', client: 'fleet-manager', by: 'ana', id: randomUUID() };
  const text = signedCommand({ ...whose, challenge: null, order: { verb: 'self-test' } }, key, 0);
  t.match(readCommand(Buffer.from(text), [key.publicHex]), { ok: true, order: { station: 'door' } });
  const message = JSON.parse(text);
  const bare = Buffer.from(key.sign(Buffer.from(message.signed))).toString('base64');
  t.same(readCommand(Buffer.from(JSON.stringify({ ...message, signature: bare })), [key.publicHex]), {
    ok: false,
    fault: 'bad-signature',
  });
  const spaced = JSON.stringify({ ...message, signed: `${message.signed} ` });
  t.match(readCommand(Buffer.from(spaced), [key.publicHex]), { fault: 'bad-signature' });
  const zero = '0'.repeat(64);
  t.match(readCommand(Buffer.from(JSON.stringify({ ...message, key: zero })), [zero]), { fault: 'bad-signature' });
});

test('a station restarts for nobody while a call lives, and none of its processes while a release is on trial', async (t) => {
  const clock = new ManualClock();
  const done: string[] = [];
  const calls: { current: undefined | object } = { current: {} };
  let onTrial: string | null = null;
  const restart = remoteRestart({
    engine: { restart: async () => void done.push('media') },
    calls: calls as Parameters<typeof remoteRestart>[0]['calls'],
    flows: () => undefined,
    onTrial: () => onTrial,
    endStation: () => void done.push('station'),
    clock,
  });
  await t.rejects(restart('station', ''), { code: 'line-busy' });
  await t.rejects(restart('flows', ''), { code: 'service-absent' });
  onTrial = '1.1.0';
  for (const service of ['station', 'media', 'flows'] as const) {
    await t.rejects(restart(service, ''), { code: 'release-on-trial', message: /1\.1\.0 is on trial/ });
  }
  onTrial = null;
  await restart('media', '');
  calls.current = undefined;
  await restart('station', '');
  t.same(done, ['media'], 'the answer first');
  calls.current = {};
  clock.advance(10_000);
  t.same(done, ['media'], 'a call that came in that moment goes on');
  calls.current = undefined;
  clock.advance(1_000);
  t.same(done, ['media', 'station']);
});
