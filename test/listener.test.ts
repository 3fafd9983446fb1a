import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { stringify } from 'yaml';
import { modelsFault } from '../src/adapters/onnx/models-check.js';
import { connectRpc } from '../src/adapters/sockets/rpc.js';
import { TapSender } from '../src/adapters/udp/tap-sender.js';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';
import { LogTap } from '../src/core/log-tap.js';
import { silentLogger } from '../src/core/logger.js';
import { startListener } from '../src/listener/listener.js';
import type { HeardDecision, HearingFigures, HearingView } from '../src/protocol/hearing.js';
import { INFERENCE_SOCKET, inferenceNotifications, inferenceRequests } from '../src/protocol/inference-api.js';
import { L16Writer } from '../src/rtp/l16.js';
import { EdgeCounters } from '../src/station/edge-counters.js';
import { Hearing } from '../src/station/hearing.js';
import { until } from './support/site.js';
import { tinyModel } from './support/tiny-model.js';
import { FRAME, quiet, tones } from './support/tones.js';

const figures: HearingFigures = {
  receivedFrames: 100,
  lostFrames: 4,
  inferredFrames: 90,
  modelRuns: 5,
  skippedRuns: 5,
  cpuMs: 40,
  memoryRssBytes: 1,
  refused: {},
};
const model = { name: 'bells', version: '1', kind: 'sound' as const, sha256: 'a'.repeat(64), labels: ['bell'] };
const report = { pid: 1, port: 5_000, isReady: true, isHearing: false, slot: null, models: [model], refused: [] };
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
  const refusals: AppError[] = [];
  const told: HearingView[] = [];
  const decided: HeardDecision[] = [];
  const path = join(dir, 'inference.sock');
  const hearing = await Hearing.serve({
    path,
    isEnabled: true,
    taps: {
      open: async ({ owner, holder, source, port }) => {
        const refusal = refusals.pop();
        if (refusal !== undefined) throw refusal;
        taps.set(holder, `${owner} ${source} ${port}`);
        return 1;
      },
      release: (holder) => void taps.delete(holder),
    },
    edge,
    clock,
    logger: silentLogger,
    listener: { changed: (view) => told.push(view), decided: (one) => decided.push(one), logged: () => {} },
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
  hearing.want(false);
  refusals.push(new AppError('too-soon', 'later'));
  hearing.want(true);
  await until(() => clock.timers === 1);
  t.equal(taps.size, 0);
  clock.advance(10_000);
  t.same([...taps.values()], ['inference microphone 5002'], 'what was refused is tried again');
  for (let n = 0; n < 400; n++) {
    if (n % 50 === 0) clock.advance(1_000);
    await other.rpc.call('inference.decided', { ...decision, label: `made up ${n}` });
  }
  const labels = hearing.status.decisions;
  t.ok(Object.keys(labels).length < 300, 'labels without end take no memory without end');
  t.equal(
    Object.values(labels).reduce((sum, count) => sum + count, 0),
    449,
  );
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
    listener: { changed: () => {}, decided: () => {}, logged: () => {} },
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

test('the inference process: real sound by UDP, real models, wrong ones refused with the reason, decisions at the station', async (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-listener-'));
  t.teardown(() => rmSync(dir, { recursive: true }));
  const models = join(dir, 'models');
  mkdirSync(models);
  const good = tinyModel();
  const put = (name: string, of = good, more: object = {}) => {
    writeFileSync(join(models, `${name}.onnx`), of.bytes);
    writeFileSync(join(models, `${name}.card.yaml`), stringify({ ...of.card, file: `${name}.onnx`, name, ...more }));
  };
  put('two-tone');
  put('cut-off', { ...good, bytes: good.bytes.subarray(0, 100) });
  put('narrow', good, { features: { ...good.card.features, rateHz: 8_000, highestHz: 3_900 } });
  put('other-shape', good, { frames: 10 });
  const decided: HeardDecision[] = [];
  const told: HearingView[] = [];
  const logged: string[] = [];
  const taps: number[] = [];
  const ended: string[] = [];
  const options = {
    path: join(dir, INFERENCE_SOCKET),
    isEnabled: true,
    taps: { open: async ({ port }: { port: number }) => taps.push(port), release: () => {} },
    edge: new EdgeCounters(systemClock),
    clock: systemClock,
    logger: silentLogger,
    listener: {
      changed: (view: HearingView) => told.push(view),
      decided: (one: HeardDecision) => decided.push(one),
      logged: (lines: readonly string[]) => logged.push(...lines),
    },
  };
  const hearing = await Hearing.serve(options);
  hearing.want(true);
  const logTap = new LogTap();
  const listener = await startListener({
    config: { run: dir, inference: { models }, update: {} },
    ...{ logTap, clock: systemClock },
    logger: silentLogger,
    endProcess: () => ended.push('ended'),
  });
  await until(() => taps.length > 0);
  t.match(hearing.view, { state: 'running', isHearing: false, models: [{ name: 'two-tone', labels: ['two-tone'] }] });
  const reasonOf = (card: string) => hearing.view.refused.find((one) => one.card.startsWith(card))?.reason;
  t.match(reasonOf('cut-off'), /cut off: 100 of \d+ bytes/);
  t.match(reasonOf('narrow'), /hears 8000 Hz where the sound has 16000 Hz/);
  t.match(reasonOf('other-shape'), /\[1, 20, 40\], not float32 \[1, 10, 40\]/);

  const sender = await TapSender.open({ address: '127.0.0.1', port: taps[0] ?? 0 }, new Counters());
  const writer = new L16Writer({ ssrc: 1, sequence: 1, timestamp: 1 });
  const samples = tones(...quiet(1), 1_000, 2_000, ...quiet(1));
  let atMs = 0;
  for (let at = 0; at + FRAME <= samples.length; at += FRAME) {
    atMs += 10;
    const datagram = writer.push(samples.subarray(at, at + FRAME), atMs);
    if (datagram === null) continue;
    // One packet does not arrive.
    if (at !== 1_600 + FRAME) sender.send(datagram);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  await until(() => decided.some(({ kind, edge }) => kind === 'keyword' && edge === 'end'));
  await until(() => told.some(({ isHearing }) => isHearing));
  await until(() => hearing.status.figures !== null);
  t.match(hearing.status.figures, { lostFrames: 2, refused: {} });
  t.ok((hearing.status.figures?.memoryRssBytes ?? 0) > 0);
  await until(() => !hearing.view.isHearing);
  t.pass('it says when no sound comes any more');
  await until(() => options.edge.status.capturedFrames > 200);

  // The station starts again: it is told everything anew.
  await hearing.close();
  const again = await Hearing.serve(options);
  await until(() => again.view.state === 'running');
  t.match(again.view.models, [{ name: 'two-tone' }]);
  logTap.tell('{"level":30,"msg":"nobody follows"}\n');
  again.followLog(true);
  await until(() => {
    if (logged.length === 0) logTap.tell('{"level":30,"msg":"followed"}\n');
    return logged.length > 0;
  });
  t.equal(logged[0], '{"level":30,"msg":"followed"}');
  again.restart();
  await until(() => ended.length > 0);
  sender.close();
  await listener.close();
  await until(() => again.view.state === 'absent');
  t.throws(() => again.restart(), { code: 'service-absent' });
  await again.close();

  const nowhere = await startListener({
    config: { run: dir, inference: { models: join(dir, 'nowhere') }, update: {} },
    clock: systemClock,
    logger: silentLogger,
  });
  t.match(nowhere.report, { isReady: true, models: [], refused: [{ card: 'nowhere', reason: /no folder of models/ }] });
  await nowhere.close();

  // A release of models, where one is installed, comes before those that the configuration names.
  const slots = join(dir, 'slots');
  const release = (slot: 'a' | 'b', files: readonly string[]) => {
    mkdirSync(join(slots, 'models', slot), { recursive: true });
    const manifest = { v: 1, kind: 'models', version: '1.1.0', files: files.map((path) => ({ path, sha256: '' })) };
    writeFileSync(join(slots, 'models', slot, 'manifest.json'), JSON.stringify(manifest));
    rmSync(join(slots, 'models/current'), { force: true });
    symlinkSync(slot, join(slots, 'models/current'));
  };
  const config = { run: dir, inference: { models }, update: { slots } };
  const loadedFrom = async () => {
    const one = await startListener({ config, clock: systemClock, logger: silentLogger });
    await one.close();
    return { slot: one.report.slot, models: one.report.models.map(({ name }) => name) };
  };
  t.same(await loadedFrom(), { slot: null, models: ['two-tone'] });
  release('a', ['seed']);
  t.same(await loadedFrom(), { slot: 'a', models: ['two-tone'] }, 'what was there before is none');
  t.match(await modelsFault(join(slots, 'models/a')), /no model/);
  release('b', ['gong.card.yaml', 'gong.onnx']);
  for (const ending of ['onnx', 'card.yaml']) {
    const text = readFileSync(join(models, `two-tone.${ending}`));
    const content =
      ending === 'onnx'
        ? text
        : text.toString().replaceAll('two-tone.onnx', 'gong.onnx').replace('name: two-tone', 'name: gong');
    writeFileSync(join(slots, `models/b/gong.${ending}`), content);
  }
  t.same(await loadedFrom(), { slot: 'b', models: ['gong'] });
  t.equal(await modelsFault(join(slots, 'models/b')), null);
  t.match(
    await modelsFault(models),
    /^cut-off\.card\.yaml: .*cut off: 100 of \d+ bytes$/,
    'the first that is not in order',
  );
  writeFileSync(join(slots, 'models/b/manifest.json'), '{');
  t.same(await loadedFrom(), { slot: 'b', models: ['two-tone'] }, 'a slot that is damaged gives no models');
});
