import { resolve } from 'node:path';
import { type Test, test } from 'tap';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { WorkerPool, type WorkerPoolOptions } from '../src/gateway/worker-pool.js';
import { LOOPBACK, Party, somePorts } from './support/party.js';
import { until } from './support/site.js';

const program = resolve(import.meta.dirname, '../src/bin/gateway-worker.js');
const badProgram = resolve(import.meta.dirname, 'support/bad-worker.js');
const common = { clock: systemClock, logger: silentLogger };

function somePool(t: Test, more: Partial<WorkerPoolOptions> = {}): WorkerPool {
  const limits = { initMs: 5_000, pingEveryMs: 100, pongWithinMs: 900, memoryBytes: 2 ** 30, ...more.limits };
  const rtp = { address: LOOPBACK, ports: somePorts() };
  const pool = new WorkerPool({ count: 2, program, rtp, ...common, ...more, limits });
  t.teardown(() => pool.stop());
  return pool;
}

/** A room of two parties, which both have heard the other. */
async function talking(t: Test, pool: WorkerPool, roomId: string): Promise<[Party, Party]> {
  const [one, two] = [await Party.at(t), await Party.at(t)];
  const legs = await pool.open(roomId, [
    { legId: 'one', remote: one.address },
    { legId: 'two', remote: null },
  ]);
  await pool.towards(roomId, 'two', two.address);
  one.towards(legs[0]?.port ?? 0);
  two.towards(legs[1]?.port ?? 0);
  await until(() => {
    one.say(1);
    two.say(1);
    return one.heard.length > 0 && two.heard.length > 0;
  });
  return [one, two];
}

test('a worker that is killed, or hangs: its rooms are back with their ports, the others do not notice', async (t) => {
  const pool = somePool(t);
  await until(() => pool.workers().every(({ ready }) => ready));
  const rooms = [
    ['room-0001', await talking(t, pool, 'room-0001')],
    ['room-0002', await talking(t, pool, 'room-0002')],
  ] as const;
  const placeOf = (roomId: string) => pool.rooms().find((room) => room.roomId === roomId);
  t.not(placeOf('room-0001')?.worker, placeOf('room-0002')?.worker, 'rooms are spread over workers');
  const pidOf = (roomId: string) => pool.workers()[placeOf(roomId)?.worker ?? -1]?.pid ?? 0;

  for (const [signal, why] of [
    ['SIGKILL', 'exit SIGKILL'],
    ['SIGSTOP', 'ping-lost'],
  ] as const) {
    await until(() => pool.workers().every(({ ready }) => ready));
    const [[hitId, hit], [otherId, other]] =
      (placeOf('room-0001')?.worker ?? 0) === (placeOf('room-0002')?.worker ?? 0) ? [rooms[0], rooms[0]] : rooms;
    const legs = placeOf(hitId)?.legs;
    const since = systemClock.nowMs();
    const forwarded = async () => (await pool.totals()).reduce((sum, worker) => sum + worker.forwarded, 0);
    const before = await forwarded();
    process.kill(pidOf(hitId), signal);
    if (signal === 'SIGKILL') {
      for (const party of other) party.heard.length = 0;
      const sayings = 20;
      for (let i = 0; i < sayings; i++) {
        other[0].say(100 + i);
        other[1].say(100 + i);
        await until(() => other.every(({ heard }) => heard.at(-1) === 100 + i));
      }
      t.pass(`${otherId} lost nothing`);
    }
    await until(() => pool.ends.get(why) === 1);
    for (const party of hit) party.heard.length = 0;
    await until(() => {
      hit[0].say(500);
      hit[1].say(500);
      return hit.every(({ heard }) => heard.includes(500));
    });
    const backMs = systemClock.nowMs() - since;
    t.ok(backMs < 5_000, `back after ${Math.round(backMs)} ms (${why})`);
    t.same(placeOf(hitId)?.legs, legs, 'the same ports, towards the same parties');
    t.ok((await forwarded()) > before, 'what the ended worker forwarded is not forgotten');
  }
});

test('a worker that never starts, is deaf, babbles or takes too much memory', async (t) => {
  const withMode = (mode: string, make: () => WorkerPool): WorkerPool => {
    process.env.ENTRYPHONE_TEST_WORKER = mode;
    try {
      return make();
    } finally {
      delete process.env.ENTRYPHONE_TEST_WORKER;
    }
  };
  const limits = { initMs: 300, pingEveryMs: 50, pongWithinMs: 300, memoryBytes: 2 ** 30 };
  const mute = withMode('mute', () => somePool(t, { count: 1, program: badProgram, limits }));
  await until(() => mute.ends.get('init-deadline') > 0);
  await t.rejects(mute.open('room-0001', []), { code: 'no-worker', remedy: /again/ });
  mute.stop();

  const patient = { ...limits, initMs: 5_000 };
  const deaf = withMode('deaf', () => somePool(t, { count: 1, program: badProgram, limits: patient }));
  await until(() => deaf.ends.get('ping-lost') > 0);
  deaf.stop();

  const babbling = withMode('babbling', () => somePool(t, { count: 1, program: badProgram, limits: patient }));
  await until(() => (babbling.workers()[0]?.refused ?? 0) >= 8);
  t.same(babbling.workers()[0]?.ready, true, 'what it says beside is counted, and nothing else');
  babbling.stop();

  const fat = somePool(t, { count: 1, limits: { ...patient, memoryBytes: 2 ** 20 } });
  await until(() => fat.ends.get('memory-limit') > 0);
  fat.stop();

  const pool = somePool(t, { count: 1 });
  await until(() => pool.isReady);
  const [one] = await talking(t, pool, 'room-0001');
  for (const rubbish of ['', 'GET / HTTP/1.1', 'x'.repeat(3_000)]) one.say(0, Buffer.from(rubbish));
  await until(async () => {
    const refused = (await pool.figures('room-0001'))[0]?.refused ?? {};
    return (refused['not-media'] ?? 0) >= 2 && (refused['datagram-too-large'] ?? 0) >= 1;
  });
  await t.rejects(pool.open('room-0001', []), { code: 'room-taken' });
  await t.rejects(pool.towards('room-0001', 'nobody', one.address), { code: 'leg-unknown' });
  await pool.close('room-0001');
  t.match(await pool.totals(), [{ refused: { 'datagram-too-large': 1 } }], 'nor is a room that is closed');
  await t.rejects(pool.figures('room-0001'), { code: 'room-unknown' });
});
