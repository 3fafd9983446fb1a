import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { ManualClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import type { HeardDecision, HearingFigures, HearingView } from '../src/protocol/hearing.js';
import { inferenceNotifications, inferenceRequests } from '../src/protocol/inference-api.js';
import { EdgeCounters } from '../src/station/edge-counters.js';
import { Hearing } from '../src/station/hearing.js';
import { until } from './support/site.js';

const figures: HearingFigures = {
  receivedFrames: 100,
  lostFrames: 4,
  inferredFrames: 90,
  modelRuns: 5,
  skippedRuns: 5,
  cpuMs: 40,
  modelMs: 10,
  memoryRssBytes: 1,
  refused: {},
};
const model = { name: 'bells', version: '1', kind: 'sound' as const, sha256: 'a'.repeat(64), labels: ['bell'] };
const report = { pid: 1, port: 5_000, isReady: true, isHearing: false, models: [model], refused: [] };
const decision: HeardDecision = {
  kind: 'sound',
  label: 'bell',
  edge: 'start',
  atMs: 1_700_000_000_000,
  score: 0.9,
  model: { name: 'bells', version: '1', sha256: 'a'.repeat(64) },
};

test('inference is given sound while somebody wants decisions, and they are told of what it hears', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-hearing-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const clock = new ManualClock();
  const edge = new EdgeCounters(clock);
  const taps = new Map<object, string>();
  const told: HearingView[] = [];
  const decided: HeardDecision[] = [];
  const path = join(dir, 'inference.sock');
  const hearing = await Hearing.serve({
    path,
    isEnabled: true,
    taps: {
      open: async ({ owner, holder, source, port }) => {
        taps.set(holder, `${owner} ${source} ${port}`);
        return 1;
      },
      release: (holder) => void taps.delete(holder),
    },
    edge,
    clock,
    logger: silentLogger,
    listener: { changed: (view) => told.push(view), decided: (one) => decided.push(one) },
  });
  const process = async () => {
    const asked: boolean[] = [];
    const rpc = await connectRpc({
      path,
      requests: inferenceRequests,
      notifications: inferenceNotifications,
      onNotification: (_name, { on }) => asked.push(on),
      onClose: () => {},
      timeoutMs: 5_000,
    });
    return { rpc, asked };
  };
  t.match(hearing.view, { state: 'absent', isEnabled: true, models: [] });
  const one = await process();
  await t.rejects(one.rpc.call('inference.decided', decision), { code: 'not-reported' });
  await one.rpc.call('inference.report', { ...report, isReady: false, models: [] });
  t.match(hearing.view, { state: 'starting' });
  hearing.want(true);
  t.equal(taps.size, 0, 'it has no models yet');
  const refused = [{ card: 'gong.card.yaml', reason: 'it is cut off' }];
  await one.rpc.call('inference.report', { ...report, refused });
  t.same([...taps.values()], ['inference microphone 5000']);
  t.match(told.at(-1), { state: 'running', models: [model], refused });
  await until(() => one.asked.at(-1) === true);

  await one.rpc.call('inference.decided', decision);
  await one.rpc.call('inference.decided', { ...decision, edge: 'end' });
  t.same(decided[0], decision);
  t.same(hearing.status.decisions, { bell: 1 });
  for (const bad of [{ score: 2 }, { label: '' }, { kind: 'smell' }, { model: { name: 'bells' } }]) {
    await t.rejects(one.rpc.call('inference.decided', { ...decision, ...bad } as HeardDecision), {
      code: 'bad-params',
    });
  }
  const flood = await Promise.allSettled(Array.from({ length: 60 }, () => one.rpc.call('inference.decided', decision)));
  t.equal(flood.filter(({ status }) => status === 'rejected').length, 12, 'more than 50 a second are refused');
  t.equal(decided.length, 50);

  await one.rpc.call('inference.figures', figures);
  await one.rpc.call('inference.figures', { ...figures, receivedFrames: 150, inferredFrames: 140 });
  t.match(edge.status, {
    capturedFrames: 154,
    capturedBytes: 320 * 154,
    inferredFrames: 140,
    sentBytes: 0,
    hours: [{ capturedFrames: 154 }],
  });

  hearing.want(false);
  t.equal(taps.size, 0, 'nobody wants it: the microphone is closed');
  await until(() => one.asked.at(-1) === false);
  hearing.want(true);
  const other = await process();
  await other.rpc.call('inference.report', { ...report, port: 5_001 });
  t.same([...taps.values()], ['inference microphone 5001'], 'the latest process is heard');
  await t.rejects(one.rpc.call('inference.figures', figures), { code: 'not-reported' });
  await other.rpc.call('inference.report', { ...report, port: 5_002 });
  t.same([...taps.values()], ['inference microphone 5002']);
  one.rpc.close();
  other.rpc.close();
  await until(() => told.at(-1)?.state === 'absent');
  t.equal(taps.size, 0);
  t.match(hearing.refused.all(), { unreported: 2, 'too-many-decisions': 12 });
  await hearing.close();

  const off = await Hearing.serve({
    path,
    isEnabled: false,
    taps: { open: async () => 1, release: () => {} },
    edge,
    clock,
    logger: silentLogger,
    listener: { changed: () => {}, decided: () => {} },
  });
  await t.rejects(process(), { code: 'socket-unreachable' });
  t.match(off.view, { state: 'absent', isEnabled: false });
  await off.close();
});

test('what was captured, inferred and sent is counted by the hour, for a day', async (t) => {
  const clock = new ManualClock();
  const edge = new EdgeCounters(clock);
  t.same(edge.status.hours, []);
  for (let hour = 0; hour < 30; hour++) {
    edge.add({ capturedBytes: 100 });
    edge.add({ capturedBytes: 100, sentBytes: 1 });
    clock.advance(3_600_000);
  }
  const { hours, ...sum } = edge.status;
  t.match(sum, { capturedBytes: 6_000, sentBytes: 30, inferredBytes: 0 });
  t.equal(hours.length, 24);
  t.ok(
    hours.every(
      ({ fromMs, capturedBytes, sentBytes }) => fromMs % 3_600_000 === 0 && capturedBytes === 200 && sentBytes === 1,
    ),
  );
  edge.eventSent('alert', 5_000, { kind: 'sound', clip: { durationMs: 2_000 } });
  edge.eventSent('alert', 300, { kind: 'sound' });
  edge.eventSent('call', 300, {});
  t.match(edge.status, { sentBytes: 5_330, sentFrames: 200 }, 'what alerts took, clips included');
  clock.advance(30 * 3_600_000);
  t.same(edge.status.hours, [], 'old hours go');
});
