import { test } from 'tap';
import type { Board, Config } from '../src/config/schema.js';
import { systemClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import type { SelfTestName } from '../src/protocol/selftest.js';
import { UpdatedStation } from '../src/station/updated-station.js';

test('a board is known to releases by its profile, under whatever name that is installed', async (t) => {
  const boardOf = async (board: Partial<Board>, file: string) => {
    const station = new UpdatedStation({
      ...{
        config: { board: file } as Config,
        board: board as Board,
        firmware: '1.0.0',
        notify: { restart: () => {} },
      },
      ...{
        noise: () => null,
        lacks: async () => null,
        isOnBroker: () => true,
        clock: systemClock,
        logger: silentLogger,
      },
      selfTest: () => Promise.reject(new Error('nobody asks for it')),
    });
    return station.facts.board;
  };
  t.equal(await boardOf({ profile: 'raspberry-pi-4' }, '/etc/entryphone/board.yaml'), 'raspberry-pi-4');
  t.equal(await boardOf({}, '/opt/entryphone/device/raspberry-pi-5.yaml'), 'raspberry-pi-5', 'one of before');
});

test('processes that are up for a moment only are told by name', async (t) => {
  const signal = new AbortController().signal;
  let looks = 0;
  const clock = { ...systemClock, nowMs: () => looks * 1_000 };
  const station = new UpdatedStation({
    ...{ config: { board: 'virtual-board.yaml', update: {} } as Config, board: {} as Board, firmware: '1.0.0' },
    ...{ noise: () => null, isOnBroker: () => true, notify: { restart: () => {} }, logger: silentLogger },
    clock: { ...clock, after: (_ms, what) => systemClock.after(0, what) },
    // Up at the third look, gone at the fifth.
    lacks: async () => ([3, 4].includes(++looks) ? null : { text: 'flows do not run (absent)', withinMs: 120_000 }),
    selfTest: () => Promise.reject(new Error('nobody asks for it')),
  });
  t.equal(await station.prove('processes-ready', signal), null);
  t.equal(await station.prove('test-call', signal), 'not all processes stayed up: flows do not run (absent)');
  const before = looks;
  t.equal(await station.prove('processes-ready', signal), 'not all processes became ready: flows do not run (absent)');
  t.equal(looks - before, 120, 'given up when it has had its seconds');
});

test('a test call that is poor for a moment is made again; what no moment explains is not', async (t) => {
  const check = (name: SelfTestName, reason: string) => ({
    ...{ name, reason, text: reason, outcome: reason === 'heard' ? ('pass' as const) : ('fail' as const) },
    ...{ remedy: null, figures: {} },
  });
  const proven = async (proof: 'self-test' | 'test-call', ...each: readonly (readonly [string, string])[]) => {
    let runs = 0;
    const station = new UpdatedStation({
      ...{ config: { board: 'virtual-board.yaml', update: { needsSelfTest: true } } as Config, board: {} as Board },
      ...{ noise: () => null, isOnBroker: () => true, notify: { restart: () => {} }, logger: silentLogger },
      ...{ lacks: async () => null, firmware: '1.0.0' },
      clock: { ...systemClock, nowMs: () => 60_000, after: (_ms, what) => systemClock.after(0, what) },
      selfTest: async () => {
        const [sound = '', call = ''] = each[runs++] ?? [];
        const checks = [check('sound', sound), check('call', call)];
        return { ok: true, verdict: 'pass' as const, failed: [], checks, by: 'update', at: 0, durationMs: 0 };
      },
    });
    return { fault: await station.prove(proof, new AbortController().signal), runs };
  };
  const [poor, good] = [['heard', 'poor'] as const, ['heard', 'heard'] as const];
  t.same(await proven('test-call', poor, poor, good), { fault: null, runs: 3 });
  t.same(await proven('test-call', poor, poor, poor, good), { fault: 'self-test, call: poor (poor)', runs: 3 });
  t.same(await proven('self-test', ['not-heard', 'heard'], good), {
    fault: 'self-test, sound: not-heard (not-heard)',
    runs: 1,
  });
  t.same(await proven('self-test', ['distorted', 'heard'], good), { fault: null, runs: 2 });
});
