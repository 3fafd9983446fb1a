import { test } from 'tap';
import { ManualClock } from '../src/core/clock.js';
import { PathKeeper } from '../src/engine/path-keeper.js';
import type { MediaPath } from '../src/protocol/engine-api.js';
import { isStun, writeStunRequest, writeStunResponse } from '../src/rtp/stun.js';
import { seededRandom } from './support/random.js';

const WAYS = ['udp', 'mqtt'] as const;
const DELAYS_MS = { udp: 20, mqtt: 60 };

/** Two ends, what lies between them, and a packet each 20 ms both ways unless an end is muted. */
class Call {
  readonly clock = new ManualClock();
  /** Share of packets that each way carries, by the end that sends. */
  readonly carries = { udp: [1, 1], mqtt: [1, 1] };
  readonly mqttIsUp = [true, true];
  readonly muted = [false, false];
  readonly moves: string[] = [];
  readonly #random = seededRandom(7);
  readonly ends: readonly PathKeeper[];
  /** When media last came to each end, and the longest pause of it. */
  readonly #heardAtMs = [0, 0];
  readonly longestPauseMs = [0, 0];
  probes = 0;

  constructor() {
    this.ends = [0, 1].map(
      (end) =>
        new PathKeeper({
          clock: this.clock,
          remote: () => ({ address: '192.0.2.1', port: 40_000 + end }),
          sendUdp: (datagram) => this.#carry(end, 'udp', datagram),
          sendMqtt: (datagram) => this.#carry(end, 'mqtt', datagram),
          mqttIsUp: () => this.mqttIsUp[end] === true,
          moved: (path, reason) => this.moves.push(`${end} ${path} ${reason} ${Math.round(this.clock.nowMs())}`),
        }),
    );
  }

  prove(): void {
    for (const end of this.ends) end.prove();
  }

  cut(share: number, ...from: number[]): void {
    for (const end of from) this.carries.udp[end] = share;
  }

  run(ms: number): void {
    for (let at = 0; at < ms; at += 20) {
      for (const [end, keeper] of this.ends.entries()) if (!this.muted[end]) keeper.send(Buffer.of(0x80, 96, end));
      this.clock.advance(20);
    }
  }

  /** What was told since the last time, without its times. */
  told(): string[] {
    return this.moves.splice(0).map((move) => move.split(' ').slice(0, 3).join(' '));
  }

  listen(): void {
    for (const end of [0, 1]) {
      this.#heardAtMs[end] = this.clock.nowMs();
      this.longestPauseMs[end] = 0;
    }
  }

  #carry(from: number, by: MediaPath, datagram: Uint8Array): void {
    if (isStun(datagram)) this.probes += 1;
    const isConnected = by === 'udp' || (this.mqttIsUp[0] && this.mqttIsUp[1]);
    if (!isConnected || this.#random() >= (this.carries[by][from] ?? 0)) return;
    const to = 1 - from;
    this.clock.after(DELAYS_MS[by], () => {
      if (this.ends[to]?.take(datagram, by) !== false) return;
      const nowMs = this.clock.nowMs();
      this.longestPauseMs[to] = Math.max(this.longestPauseMs[to] ?? 0, nowMs - (this.#heardAtMs[to] ?? 0));
      this.#heardAtMs[to] = nowMs;
    });
  }
}

const both = (call: Call): string => call.ends.map(({ path }) => path).join(' ');

test('a call leaves UDP when it dies and returns when it lives, whoever speaks', async (t) => {
  for (const [name, muted] of [
    ['both speak', [false, false]],
    ['one is muted', [false, true]],
    ['both are muted', [true, true]],
  ] as const) {
    for (const [what, from, mostPauseMs] of [
      ['both directions', [0, 1], 600],
      ['one direction', [0], 950],
    ] as const) {
      const call = new Call();
      [call.muted[0], call.muted[1]] = muted;
      call.prove();
      call.run(2_000);
      t.equal(both(call), 'udp udp');
      t.same(call.told(), [], 'UDP that answers is kept');
      for (const end of call.ends) {
        t.same(end.figures, { migrations: 0, probeRoundTripMs: { udp: 40, mqtt: 120 } }, 'both paths were asked');
      }
      call.listen();
      call.cut(0, ...from);
      call.run(1_000);
      t.ok(call.ends.some(({ path }) => path === 'mqtt'));
      // The other is told by its station.
      for (const end of call.ends) end.leaveUdp();
      call.run(4_000);
      t.equal(both(call), 'mqtt mqtt', `${name}, ${what}`);
      for (const end of [0, 1].filter((one) => !muted[1 - one])) {
        t.ok((call.longestPauseMs[end] ?? Infinity) <= mostPauseMs, `a pause of ${call.longestPauseMs[end]} ms`);
      }
      t.equal(call.told().length, 2);
      call.listen();
      call.cut(1, 0, 1);
      call.run(2_500);
      t.equal(both(call), 'mqtt mqtt', 'not at the first answer');
      call.run(1_500);
      t.equal(both(call), 'udp udp');
      t.same(call.told().sort(), ['0 udp returned', '1 udp returned']);
      for (const end of [0, 1].filter((one) => !muted[1 - one])) {
        t.ok((call.longestPauseMs[end] ?? Infinity) <= 100, 'nothing is missing on the way back');
      }
    }
  }
});

test('a call stays where it is: loss, a process that stands still, a path that is named', async (t) => {
  const call = new Call();
  call.muted[0] = true;
  call.prove();
  call.run(1_000);
  for (const way of WAYS) call.carries[way].fill(0.8);
  call.run(600_000);
  t.same(call.told(), [], 'ten minutes at 20 % loss, half of it without speech');
  const before = call.probes;
  call.carries.udp.fill(1);
  call.run(10_000);
  t.ok(call.probes - before <= 10 * 2 * 2 * 5, `${call.probes - before} questions and answers in 10 s`);

  call.clock.stall(3_000);
  call.run(1_000);
  t.same(call.told(), [], 'who stood still blames nobody');
  call.clock.stall(350);
  call.run(1_000);
  t.same(call.told(), []);

  for (const end of call.ends) end.fix('mqtt');
  call.run(10_000);
  t.equal(both(call), 'mqtt mqtt');
  call.ends[0]?.fix('udp');
  call.cut(0, 0, 1);
  call.run(10_000);
  call.ends[0]?.leaveUdp();
  t.equal(both(call), 'udp mqtt');
  t.same(call.told(), [], 'what was named is kept');
});

test('UDP that comes and goes is trusted less each time', async (t) => {
  const call = new Call();
  call.prove();
  call.run(1_000);
  const waits: number[] = [];
  for (let relapse = 0; relapse < 6; relapse++) {
    call.cut(0, 0, 1);
    call.run(2_000);
    t.equal(both(call), 'mqtt mqtt');
    call.cut(1, 0, 1);
    const from = call.clock.nowMs();
    while (both(call) !== 'udp udp') call.run(100);
    waits.push(Math.round((call.clock.nowMs() - from) / 1_000));
  }
  t.ok(
    waits.every((wait, index) => index === 0 || wait > (waits[index - 1] ?? 0) || wait >= 60),
    `waits of ${waits.join(', ')} s`,
  );
  t.ok(Math.max(...waits) <= 62, 'and never longer than a minute');
  call.run(61_000);
  call.cut(0, 0, 1);
  call.run(2_000);
  call.cut(1, 0, 1);
  call.run(4_500);
  t.equal(both(call), 'udp udp', 'a minute without a fault restores the trust');
});

test('without a broker UDP is used as soon as it carries anything', async (t) => {
  const call = new Call();
  call.mqttIsUp.fill(false);
  call.cut(0, 0, 1);
  call.prove();
  call.run(3_000);
  t.equal(both(call), 'mqtt mqtt');
  call.listen();
  call.cut(1, 0, 1);
  call.run(1_000);
  t.equal(both(call), 'udp udp');
  t.ok(call.longestPauseMs.every((pauseMs) => pauseMs <= 100));
  t.match(call.told().slice(2).sort(), ['0 udp returned', '1 udp returned']);
});

test('hostile STUN moves nothing', async (t) => {
  const clock = new ManualClock();
  const sent: { by: MediaPath; datagram: Uint8Array }[] = [];
  const moves: string[] = [];
  const keeper = new PathKeeper({
    clock,
    remote: () => ({ address: '192.0.2.1', port: 40_000 }),
    sendUdp: (datagram) => sent.push({ by: 'udp', datagram }),
    sendMqtt: (datagram) => sent.push({ by: 'mqtt', datagram }),
    mqttIsUp: () => true,
    moved: (path, reason) => moves.push(`${path} ${reason}`),
  });
  const forged = writeStunResponse(Buffer.alloc(12, 7), { address: '192.0.2.9', port: 9 });
  keeper.prove();
  const random = seededRandom(11);
  for (let at = 0; at < 2_000; at += 10) {
    const noise = Buffer.from(random() < 0.5 ? forged : writeStunRequest(Buffer.alloc(12)));
    noise[Math.floor(random() * noise.length)] = Math.floor(random() * 256);
    keeper.take(noise.subarray(0, Math.floor(random() * (noise.length + 1))), random() < 0.5 ? 'udp' : 'mqtt');
    keeper.take(forged, 'udp');
    clock.advance(10);
  }
  t.same(moves, ['mqtt unproved'], 'answers to what was never asked prove nothing');
  t.equal(keeper.path, 'mqtt');
  const question = sent.findLast(({ by, datagram }) => by === 'udp' && datagram.length === 20)?.datagram;
  const answer = writeStunResponse(Buffer.from(question?.subarray(8) ?? []), { address: '192.0.2.9', port: 9 });
  for (let at = 0; at < 5_000; at += 100) {
    keeper.take(answer, 'udp');
    clock.advance(100);
  }
  t.equal(keeper.path, 'mqtt', 'nor does an answer that is repeated');
});

test('UDP that loses so much that nothing helps is left as well, and gone back to ever later', async (t) => {
  const call = new Call();
  call.prove();
  call.run(2_000);
  t.same(call.told(), []);
  call.ends[0]?.lossy();
  t.same(call.told(), ['0 mqtt lossy']);
  call.ends[0]?.lossy();
  t.same(call.told(), [], 'it is left already');
  call.run(5_000);
  t.ok(call.told().includes('0 udp returned'), 'it answers');
  call.mqttIsUp[0] = false;
  call.ends[0]?.lossy();
  t.same(call.told(), [], 'there is no other');
  call.mqttIsUp[0] = true;
  call.ends[0]?.lossy();
  t.same(call.told(), ['0 mqtt lossy']);
  call.run(5_000);
  t.notOk(call.told().includes('0 udp returned'), 'it has not lasted: 6 s this time');
  for (const end of call.ends) end.stop();
  call.ends[0]?.lossy();
  t.same(call.told(), []);
});
