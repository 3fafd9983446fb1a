import { test } from 'tap';
import {
  confirmed,
  filling,
  firstState,
  gaveUp,
  onTrial,
  otherSlot,
  type SlotState,
  sealed,
} from '../src/fleet/slots.js';
import {
  isOver,
  JOB_STATES,
  type JobEvent,
  type JobState,
  newJob,
  stepTold,
  transition,
  type UpdateJournal,
} from '../src/fleet/update-journal.js';
import { type DesiredRelease, planUpdate, spaceFault, type UpdateFacts } from '../src/fleet/update-plan.js';
import { type Behaviour, NEW, OLD, PowerCut, UpdateWorld } from './support/update-world.js';

const state = firstState(OLD);
const facts: UpdateFacts = new UpdateWorld('good').facts;
const doing = (at: SlotState, desired: DesiredRelease, change: Partial<UpdateFacts> = {}) =>
  planUpdate(at, desired, { ...facts, ...change }).map((step) => step.do);

test('the plan of an update, whole and from wherever it was left', async (t) => {
  const tail = ['wait-for-quiet', 'switch', 'restart', 'confirm', 'raise-floor', 'clean'];
  const whole = ['check-space', 'fetch', 'verify', 'clear', 'unpack', 'sync', 'seal', ...tail];
  t.same(doing(state, NEW), whole);
  t.same(doing(filling(state, 'b', NEW.hash), NEW), whole, 'half a release is none');
  const ready = sealed(state, 'b', NEW);
  t.same(doing(ready, NEW), tail);
  t.same(doing(sealed(state, 'b', { ...NEW, hash: 'f'.repeat(64) }), NEW), whole, 'another release in the slot');
  const trial = onTrial(ready, 'b', 'a');
  t.same(
    doing(trial, NEW, { current: 'b' }),
    ['wait-for-quiet', 'restart', 'confirm', 'raise-floor', 'clean'],
    'not restarted yet',
  );
  t.same(doing(trial, NEW, { current: 'b', running: null }), ['restart', 'confirm', 'raise-floor', 'clean']);
  t.same(doing(trial, NEW, { current: 'b', running: 'b' }), ['confirm', 'raise-floor', 'clean']);
  const good = confirmed(trial, 'b');
  t.equal(good.floor, NEW.version);
  t.same(doing(good, NEW, { current: 'b', running: 'b', hasFetched: true }), ['clean']);
  t.same(doing(good, NEW, { current: 'b', running: 'b' }), []);
  t.same(doing({ ...good, floor: OLD.version }, NEW, { current: 'b', running: 'b' }), ['raise-floor']);
  t.same(doing(state, { ...NEW, ...OLD }), [], 'what is there already');

  const steps = planUpdate(state, NEW, facts);
  t.match(steps, [{ fetchBytes: 50, unpackBytes: 100 }, { bytes: 50 }, {}, { slot: 'b' }]);
  t.match(
    steps.find((step) => step.do === 'confirm'),
    { proofs: ['processes-ready', 'broker-reached', 'self-test', 'test-call'] },
  );
  for (const [kind, what, isQuiet] of [
    ['flows', 'flows', true],
    ['models', 'inference', true],
    ['config', 'everything', false],
  ] as const) {
    const plan = planUpdate(state, { ...NEW, kind, architecture: 'any' }, facts);
    t.match(
      plan.find((step) => step.do === 'restart'),
      { what },
      kind,
    );
    t.equal(
      plan.every((step) => step.do !== 'wait-for-quiet'),
      isQuiet,
      `${kind} beside a call`,
    );
    t.match(
      plan.find((step) => step.do === 'switch'),
      { isDisturbing: !isQuiet },
    );
    const bare: SlotState = { ...state, slots: { ...state.slots, a: { is: 'empty' } }, floor: null };
    const desired = { ...NEW, kind, architecture: 'any' } as const;
    const seeded = planUpdate(bare, desired, facts);
    t.same(seeded[0], { do: 'seed', job: 'install', slot: 'a' }, `${kind}: what ran before is kept first`);
    t.same(seeded.slice(1), plan, `${kind}, else the same`);
    t.match(planUpdate(bare, { ...desired, minFrom: '0.1.0' }, facts), [{ code: 'too-far-behind' }]);
    t.match(planUpdate(bare, { ...desired, version: '0.0.0' }, facts), [{ code: 'version-taken' }]);
    t.ok(plan.findIndex((step) => step.do === 'check-content') < plan.findIndex((step) => step.do === 'switch'));
  }
});

test('back, from wherever the job had come to', async (t) => {
  const ending = { state: 'failed', reason: 'no tone' } as const;
  const back = ['switch-back', 'restart', 'await-ready', 'clean'];
  const trial = onTrial(sealed(state, 'b', NEW), 'b', 'a');
  const onB = { ending, current: 'b', running: 'b', hasSwitched: true, hasFetched: true } as const;
  t.same(doing(trial, NEW, onB), back);
  t.match(planUpdate(trial, NEW, { ...facts, ...onB }), [{ slot: 'a', from: 'b', failure: 'no tone' }]);
  const canceled = { ...ending, state: 'canceled' } as const;
  t.match(planUpdate(trial, NEW, { ...facts, ...onB, ending: canceled }), [{ failure: null }], 'may be tried again');
  const gone = gaveUp(trial, 'b', 'no tone');
  t.same(doing(gone, NEW, onB), back, 'the power went before the link was replaced');
  t.same(doing(gone, NEW, { ...onB, current: 'a' }), ['restart', 'await-ready', 'clean']);
  t.same(doing(gone, NEW, { ...onB, current: 'a', running: 'a', isReady: false }), ['await-ready', 'clean']);
  t.same(doing(gone, NEW, { ...onB, current: 'a', running: 'a' }), ['clean']);
  t.same(doing(filling(state, 'b', NEW.hash), NEW, { ending, hasFetched: true }), ['clean'], 'nothing was switched');
  t.same(doing(state, NEW, { ending }), []);
  t.same(doing(confirmed(trial, 'b'), NEW, onB), ['clean'], 'nothing leads back from a release that is confirmed');
  t.same(doing(gone, NEW, { hasSwitched: true }), ['fail'], 'the launcher went back by itself');
  t.same(doing(gone, NEW), ['reject'], 'and another job is told so');
  t.equal(doing(gone, { ...NEW, mayRetry: true })[0], 'check-space');
});

test('a release that is not for this station is refused, with the reason', async (t) => {
  const requires = NEW.requires;
  const wrong: Record<string, [desired: Partial<DesiredRelease>, reason: RegExp]> = {
    'wrong-architecture': [{ architecture: 'arm64' }, /for arm64, this station is x64/],
    'wrong-board': [{ requires: { ...requires, boards: ['raspberry-pi-4'] } }, /this board is virtual-board/],
    'wrong-node-abi': [{ kind: 'models', requires: { ...requires, nodeAbi: 127 } }, /127, here is 137/],
    'firmware-too-old': [{ kind: 'flows', requires: { ...requires, firmware: '1.0.1' } }, /firmware 1.0.1/],
    'older-release': [{ version: '0.9.0' }, /older than 1.0.0/],
    'version-taken': [{ version: OLD.version }, /another release of version 1.0.0/],
    'too-far-behind': [{ minFrom: '1.0.1' }, /from 1.0.1 on, here is 1.0.0/],
  };
  for (const [code, [change, reason]] of Object.entries(wrong)) {
    t.match(planUpdate(state, { ...NEW, ...change }, facts), [{ do: 'reject', code, reason }], code);
  }
  t.equal(
    doing(state, {
      ...NEW,
      minFrom: OLD.version,
      requires: { ...requires, boards: ['virtual-board'], nodeAbi: 127 },
    })[0],
    'check-space',
  );
  // The floor stays where it was when a station went back.
  const returned = { ...state, floor: '1.2.0' };
  t.match(planUpdate(returned, NEW, facts), [{ code: 'older-release' }]);
});

test('room on the disk: what the other slot holds counts, once the chunks are there', async (t) => {
  const step = { fetchBytes: 40_000_000, unpackBytes: 200_000_000 };
  t.equal(spaceFault(step, { freeBytes: 56_000_000, inOtherSlotBytes: 200_000_000 }), undefined);
  t.equal(spaceFault(step, { freeBytes: 256_000_000, inOtherSlotBytes: 0 }), undefined);
  t.match(spaceFault(step, { freeBytes: 50_000_000, inOtherSlotBytes: 900_000_000 }), /needs 56 MB.*50 MB are free/);
  t.match(spaceFault(step, { freeBytes: 255_000_000, inOtherSlotBytes: 0 }), /needs 256 MB/, 'some of it stays free');
});

/** Runs to its end, the power coming back each time. */
function through(world: UpdateWorld): UpdateWorld {
  try {
    world.run();
  } catch (error) {
    if (!(error instanceof PowerCut)) throw error;
    world.powerUp();
    world.run();
  }
  return world;
}

const ENDS: Readonly<Record<Behaviour, { job: JobState; release: string; reason: RegExp | null }>> = {
  good: { job: 'succeeded', release: NEW.version, reason: null },
  mute: { job: 'failed', release: OLD.version, reason: /self-test heard nothing|not confirmed after 3 starts/ },
  crashing: { job: 'failed', release: OLD.version, reason: /not confirmed after 3 starts/ },
};

test('the power cut after each single operation of each update: it comes to the same end', async (t) => {
  for (const [behaviour, end] of Object.entries(ENDS) as [Behaviour, (typeof ENDS)[Behaviour]][]) {
    const undisturbed = through(new UpdateWorld(behaviour));
    t.equal(undisturbed.journal.state, end.job, behaviour);
    t.ok(undisturbed.operations > 20, `${behaviour}: ${undisturbed.operations} operations`);
    for (let cutAfter = 0; cutAfter <= undisturbed.operations; cutAfter += 1) {
      const world = new UpdateWorld(behaviour);
      world.cutAfter = cutAfter;
      through(world);
      const what = `${behaviour}, cut after ${cutAfter}`;
      t.equal(world.journal.state, end.job, what);
      if (end.reason !== null) t.match(world.journal.reason, end.reason, what);
      t.equal(world.runningRelease, end.release, what);
      t.equal(world.trying, null, what);
      t.equal(world.fetched, false, `${what}: nothing is left behind`);
      t.equal(world.floor, end.release, what);
    }
  }
});

test('cancelled before each single operation, with the power cut after each: the old release, or the new one, and the job says which', async (t) => {
  const most = through(new UpdateWorld('good')).operations;
  let canceledOnes = 0;
  for (let cancelBefore = 0; cancelBefore <= most; cancelBefore += 1) {
    for (const cutAfter of [Infinity, ...Array.from({ length: most - cancelBefore + 8 }, (_, i) => cancelBefore + i)]) {
      const world = new UpdateWorld('good');
      Object.assign(world, { cancelBefore, cutAfter });
      through(world);
      const what = `cancelled before ${cancelBefore}, cut after ${cutAfter}`;
      const isCanceled = world.journal.state === 'canceled';
      if (isCanceled) canceledOnes += 1;
      else if (world.journal.state !== 'succeeded') t.fail(`${what}: ${world.journal.state}`);
      if (world.runningRelease !== (isCanceled ? OLD.version : NEW.version)) t.fail(`${what}: ${world.runningRelease}`);
      if (world.failed.size > 0) t.fail(`${what}: a release that was cancelled counts as failed`);
      if (world.trying !== null || world.fetched) t.fail(`${what}: something is left`);
    }
  }
  t.ok(canceledOnes > 100, `${canceledOnes} cancelled`);
});

/** A journal in each state that there is, and in each place within. */
function journals(): UpdateJournal[] {
  const job = newJob({ jobId: 'job-0001', kind: 'firmware', version: NEW.version, hash: NEW.hash });
  const at = (step: 'fetch' | 'switch' | 'confirm', isDone: boolean): UpdateJournal['at'] => ({
    do: step,
    job: 'install',
    isDone,
  });
  const underway: UpdateJournal = { ...job, state: 'in_progress', at: at('fetch', false) };
  const ending = { state: 'canceled', reason: 'by hand' } as const;
  return [
    job,
    underway,
    { ...underway, at: at('fetch', true) },
    { ...underway, at: at('switch', false), hasSwitched: true },
    { ...underway, ending },
    { ...underway, at: at('switch', true), hasSwitched: true, ending },
    { ...underway, at: at('confirm', true), hasSwitched: true, isConfirmed: true },
    ...JOB_STATES.filter(isOver).map((over): UpdateJournal => ({ ...underway, state: over })),
  ];
}

test('each event in each state of a job', async (t) => {
  const reason = 'because';
  const events: Record<string, JobEvent> = {
    fetch: { type: 'begin', step: { do: 'fetch', job: 'download' } },
    switch: { type: 'begin', step: { do: 'switch', job: 'install' } },
    back: { type: 'begin', step: { do: 'switch-back', job: 'rollback' } },
    clean: { type: 'begin', step: { do: 'clean', job: 'confirm' } },
    progress: { type: 'progress', pct: 150 },
    finish: { type: 'finish' },
    reject: { type: 'reject', reason },
    fail: { type: 'fail', reason },
    expire: { type: 'expire', reason },
    cancel: { type: 'cancel', reason },
    end: { type: 'end', isConfirmed: false },
    proven: { type: 'end', isConfirmed: true },
    remove: { type: 'remove' },
  };
  const over = Object.fromEntries(Object.keys(events).map((name) => [name, name === 'remove' ? 'removed' : '!over']));
  const running = { fetch: 'in_progress', switch: 'in_progress', back: 'in_progress', clean: 'in_progress' };
  const told = { fail: 'in_progress', expire: 'in_progress', cancel: 'in_progress' };
  const turned = { fail: '!ending-already', expire: '!ending-already', cancel: '!ending-already' };
  const late = { fail: '!too-late', expire: '!too-late', cancel: '!too-late' };
  const onlyBack = { ...running, fetch: '!only-back-from-here', switch: '!only-back-from-here' };
  const stepping = { progress: 'in_progress', finish: 'in_progress' };
  const still = { progress: '!not-begun', finish: '!not-begun' };
  const open = { end: '!not-proven', proven: 'succeeded', remove: '!not-over' };
  const table: Record<string, string>[] = [
    {
      ...running,
      ...still,
      reject: 'rejected',
      fail: 'failed',
      expire: 'timed_out',
      cancel: 'canceled',
      ...open,
      remove: 'removed',
    },
    { ...running, ...stepping, reject: 'rejected', ...told, ...open },
    { ...running, ...still, reject: 'rejected', ...told, ...open },
    { ...running, ...stepping, reject: '!too-late', ...told, ...open },
    { ...onlyBack, ...stepping, reject: '!ending-already', ...turned, ...open, end: 'canceled' },
    { ...onlyBack, ...still, reject: '!too-late', ...turned, ...open, end: 'canceled' },
    {
      fetch: '!too-late',
      switch: '!too-late',
      back: '!too-late',
      clean: 'in_progress',
      ...still,
      reject: '!too-late',
      ...late,
      ...open,
    },
    ...JOB_STATES.filter(isOver).map((one) => (one === 'removed' ? { ...over, remove: '!over' } : over)),
  ];
  const all = journals();
  t.equal(all.length, table.length);
  for (const [index, journal] of all.entries()) {
    const before = structuredClone(journal);
    for (const [name, event] of Object.entries(events)) {
      const result = transition(journal, event);
      const found = result.ok ? result.journal.state : `!${result.fault}`;
      t.equal(found, table[index]?.[name], `${name} in ${index}, ${journal.state} at ${journal.at?.do}`);
      if (result.ok) t.equal(result.journal.seq, journal.seq + 1);
    }
    t.same(journal, before, 'a journal is not changed in place');
  }
});

test('what a job is told to be about', async (t) => {
  const [queued, fetching, , switching, , goingBack] = journals();
  if (!queued || !fetching || !switching || !goingBack) throw new Error('no journals');
  t.equal(stepTold(queued), null);
  t.equal(stepTold(switching), 'install');
  t.equal(stepTold(goingBack), 'rollback');
  const long = transition(fetching, { type: 'fail', reason: 'x'.repeat(5_000) });
  t.ok(long.ok && long.journal.reason?.length === 200, 'reasons are short');
  const late = transition({ ...goingBack, at: null }, { type: 'end', isConfirmed: true });
  t.match(late, { ok: true, journal: { state: 'succeeded', reason: /too late to go back: by hand/ } });
  t.match(transition(fetching, { type: 'progress', pct: 150 }), { journal: { progressPct: 100 } });
});

test('slots: what each step leaves', async (t) => {
  t.equal(otherSlot('a'), 'b');
  const ready = sealed(filling(state, 'b', NEW.hash), 'b', NEW);
  t.match(ready.slots.b, { is: 'whole', version: NEW.version, isConfirmed: false });
  const trial = onTrial(ready, 'b', 'a');
  const started = { ...trial, trial: { slot: 'b', from: 'a', starts: 2 } as const };
  t.equal(onTrial(started, 'b', 'a'), started, 'a second switch does not count from the start');
  t.match(confirmed(started, 'b'), { trial: null, floor: NEW.version, slots: { b: { isConfirmed: true } } });
  t.match(gaveUp(started, 'b', 'no tone'), {
    trial: null,
    floor: OLD.version,
    slots: { b: { is: 'failed', reason: 'no tone' } },
  });
  t.same(confirmed(state, 'b'), state, 'an empty slot is never confirmed');
  t.equal(confirmed({ ...trial, floor: '2.0.0' }, 'b').floor, '2.0.0', 'the floor never falls');
});
