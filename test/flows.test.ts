import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import { flowNodes } from '../src/adapters/node-red/admin-api.js';
import { ManualClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { alertBody, MOST_CLIP_BYTES } from '../src/protocol/alert.js';
import { type FlowsReport, PRESS_OFFER_MS } from '../src/protocol/flows-api.js';
import { Alerts } from '../src/station/alerts.js';
import { FIRST_BEAT_MS, FlowsWatch, HUNG_AFTER_MS } from '../src/station/flows-watch.js';
import { DOUBLE_PRESS_MS, LONG_PRESS_MS, PressGestures } from '../src/station/press-gestures.js';
import { PressOffers } from '../src/station/press-offers.js';

function offers(options: { watched?: boolean } = {}) {
  const clock = new ManualClock();
  const fallbacks: string[] = [];
  const offered: string[] = [];
  const ignored: number[] = [];
  const state = { watched: options.watched ?? true };
  const presses = new PressOffers({
    clock,
    offer: ({ pressId }) => {
      if (state.watched) offered.push(pressId);
      return state.watched;
    },
    fallback: (button) => fallbacks.push(button),
    onIgnored: (inARow) => ignored.push(inARow),
  });
  return { clock, presses, fallbacks, offered, ignored, state };
}

test('a press is never lost and never doubled: 500 ms for flows, then the station, once', async (t) => {
  const { clock, presses, fallbacks, offered, ignored, state } = offers();
  const inTime = presses.pressed('bell');
  t.same(offered, [inTime]);
  clock.advance(PRESS_OFFER_MS - 1);
  presses.acknowledge(inTime);
  presses.acknowledge(inTime);
  presses.acted();
  clock.advance(60_000);
  t.same(fallbacks, [], 'flows have it; twice acknowledged is acknowledged');

  const late = presses.pressed('bell');
  clock.advance(PRESS_OFFER_MS);
  t.same(fallbacks, ['bell'], 'nobody took it');
  t.throws(() => presses.acknowledge(late), { code: 'press-late' });
  t.throws(() => presses.acknowledge(late), { code: 'press-late' });
  t.throws(() => presses.acknowledge('00000000-0000-4000-8000-000000000000'), { code: 'press-unknown' });
  presses.brokeDown();
  t.same(fallbacks, ['bell'], 'once');

  state.watched = false;
  presses.pressed('open');
  t.same(fallbacks, ['bell', 'open'], 'nobody watches: at once');
  state.watched = true;
  presses.pressed('open');
  presses.unwatched();
  t.same(fallbacks, ['bell', 'open', 'open'], 'flows left with the offer in hand');
  clock.advance(PRESS_OFFER_MS);
  t.equal(fallbacks.length, 3);
  presses.pressed('bell');
  presses.pressed('open');
  clock.advance(PRESS_OFFER_MS);
  t.same(ignored, [1, 2, 3], 'so many in a row');
  t.same(presses.counted.all(), { acknowledged: 1, unacknowledged: 4, unwatched: 1, late: 2, unknown: 1 });
});

test('what flows took and could not do, since they broke down, the station does', async (t) => {
  const { clock, presses, fallbacks } = offers();
  presses.acknowledge(presses.pressed('bell'));
  clock.advance(3_000);
  presses.brokeDown();
  presses.brokeDown();
  t.same(fallbacks, ['bell']);
  presses.acknowledge(presses.pressed('bell'));
  presses.acted();
  presses.brokeDown();
  t.equal(fallbacks.length, 1, 'they had acted on it');
  presses.acknowledge(presses.pressed('bell'));
  clock.advance(20_000);
  presses.brokeDown();
  t.equal(fallbacks.length, 1, 'too long ago to be about this press');
  presses.acknowledge(presses.pressed('bell'));
  presses.pressed('bell');
  clock.advance(PRESS_OFFER_MS);
  t.equal(fallbacks.length, 2, 'the impatient second press was not taken');
  presses.brokeDown();
  t.equal(fallbacks.length, 2, 'and stands for the first');
});

test('a long and a double press are told beside the press, which waits for neither', async (t) => {
  const clock = new ManualClock();
  const told: string[] = [];
  const gestures = new PressGestures({ clock, onGesture: ({ pressId, kind }) => told.push(`${kind} ${pressId}`) });
  const press = (id: string, holdMs: number) => {
    gestures.pressed('bell', id);
    clock.advance(holdMs);
    gestures.released('bell');
  };
  press('a', LONG_PRESS_MS - 1);
  clock.advance(5_000);
  press('b', LONG_PRESS_MS);
  clock.advance(5_000);
  press('c', 100);
  clock.advance(DOUBLE_PRESS_MS - 100);
  press('d', 100);
  press('e', 100);
  clock.advance(5_000);
  t.same(told, ['long b', 'double d']);
});

function watched(t: { teardown(action: () => void): void }) {
  const clock = new ManualClock();
  const done: string[] = [];
  const fails: { restore?: Error; expects: boolean } = { expects: true };
  const watch = new FlowsWatch({
    clock,
    logger: silentLogger,
    goodAfterMs: 60_000,
    care: {
      askRestart: () => done.push('restart'),
      startSafely: (isSafe) => done.push(isSafe ? 'safe' : 'not safe'),
      keepGood: async () => void done.push('keep'),
      restoreGood: async () => {
        done.push('restore');
        if (fails.restore !== undefined) throw fails.restore;
      },
      expectsHeartbeat: async () => fails.expects,
      brokeDown: () => done.push('broke down'),
    },
    onChange: () => {},
  });
  t.teardown(() => watch.close());
  let pid = 1;
  const report = (state: FlowsReport['state'], more: Partial<FlowsReport> = {}) =>
    watch.reported({ pid, state, isSafeMode: false, fault: null, rev: 'r1', url: 'http://127.0.0.1:1880', ...more });
  const start = () => {
    pid += 1;
    report('starting');
    report('running');
    watch.beat();
  };
  const beating = (ms: number) => {
    for (let at = 0; at < ms; at += 500) {
      clock.advance(500);
      watch.beat();
    }
  };
  const take = () => done.splice(0);
  return { clock, watch, fails, report, start, beating, take };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test('flows that hang are restarted, at the third time in safe mode; then the last good ones are put back', async (t) => {
  const { clock, watch, fails, report, start, beating, take } = watched(t);
  start();
  beating(59_000);
  t.same(take(), []);
  beating(2_000);
  t.same(take(), ['keep'], 'they ran well for a minute');
  beating(120_000);
  t.same(take(), [], 'kept once');

  clock.advance(HUNG_AFTER_MS - 500);
  t.equal(watch.status.state, 'running', 'a heartbeat may be late');
  clock.advance(1_000);
  t.same(take(), ['broke down', 'restart']);
  t.match(watch.status, { state: 'hung', hangs: 1, fault: { code: 'hung' } });
  clock.advance(10_000);
  t.same(take(), [], 'asked once');
  watch.lost();
  t.match(watch.status, { state: 'absent', crashes: 0 }, 'that was our doing');
  start();
  t.equal(watch.status.state, 'running');
  watch.lost();
  t.same(take(), ['broke down'], 'the supervisor starts what crashed');
  start();
  watch.pressesIgnored(1);
  t.same(take(), []);
  watch.pressesIgnored(2);
  t.same(take(), ['broke down', 'safe', 'restart'], 'the third fall in a minute');
  watch.lost();
  report('starting', { isSafeMode: true });
  t.same(take(), ['not safe'], 'the order is for one start');
  report('stopped', { isSafeMode: true, fault: { code: 'safe-mode', text: 'safe mode' } });
  clock.advance(1_000);
  t.same(take(), ['restore']);
  await settled();
  report('running', { rev: 'r0' });
  watch.beat();
  t.match(watch.status, { state: 'running', isSafeMode: false, restores: 1, crashes: 1, hangs: 2 });

  fails.restore = new AppError('flows-same', 'these are the last good ones');
  report('stopped', { isSafeMode: true, fault: { code: 'safe-mode', text: 'safe mode' } });
  clock.advance(1_000);
  await settled();
  clock.advance(500_000);
  await settled();
  t.same(take(), ['restore'], 'good flows that do not run are left to the installer');
  t.match(watch.status, { state: 'stopped', fault: { code: 'safe-mode' } });
  clock.advance(100_000);
  t.same(take(), ['restart'], 'but safe mode does not last for ever');
});

test('flows that are not run are replaced; who deployed meanwhile wins; no config node is no fault', async (t) => {
  const { clock, watch, fails, report, start, beating, take } = watched(t);
  start();
  fails.restore = new AppError('flows-unreachable', 'nobody answers');
  report('stopped', { fault: { code: 'damaged-file', text: 'not JSON' } });
  clock.advance(1_000);
  await settled();
  t.same(take(), ['restore']);
  fails.restore = new AppError('flows-conflict', 'somebody deployed');
  clock.advance(10_000);
  await settled();
  t.same(take(), ['restore'], 'tried again while nobody answered');
  clock.advance(60_000);
  await settled();
  t.same(take(), [], 'but not against another deployment');
  report('running', { rev: 'r2' });
  watch.beat();
  t.equal(watch.status.state, 'running');

  watch.nodeGone();
  clock.advance(FIRST_BEAT_MS - 1_000);
  t.equal(watch.status.state, 'running', 'a deployment takes its time');
  fails.expects = false;
  clock.advance(2_000);
  await settled();
  t.match(watch.status, { state: 'idle', fault: { code: 'no-config-node' } });
  watch.beat();
  t.equal(watch.status.state, 'running');
  watch.nodeGone();
  fails.expects = true;
  clock.advance(FIRST_BEAT_MS + 1_000);
  await settled();
  t.same(take(), ['broke down', 'restart'], 'a config node that says nothing hangs');
  watch.lost();

  start();
  report('ending');
  watch.lost();
  t.same(take(), [], 'an end in order is no crash');
  report('starting');
  clock.advance(95_000);
  t.same(take(), ['broke down', 'restart'], 'a start that does not end');
  watch.lost();
  start();
  beating(10_000);
  t.match(watch.status, { state: 'running', hangs: 2, crashes: 0 });
});

const root = resolve(import.meta.dirname, '../..');
const palette = join(root, 'src/palette');

test('flows and examples that ship are wired to what is there', async (t) => {
  const { 'node-red': own } = JSON.parse(readFileSync(join(palette, 'package.json'), 'utf8')) as {
    'node-red': { nodes: Record<string, string> };
  };
  const core = [
    ...['tab', 'comment', 'switch', 'change', 'catch', 'debug', 'inject', 'trigger', 'delay', 'rbe', 'function'],
  ];
  const types = new Set([...Object.keys(own.nodes), ...core]);
  const files = [join(root, 'flows'), join(palette, 'examples')].flatMap((dir) =>
    readdirSync(dir).map((name) => join(dir, name)),
  );
  t.ok(files.length >= 8);
  for (const file of files) {
    const nodes = flowNodes.parse(JSON.parse(readFileSync(file, 'utf8')));
    const ids = new Set(nodes.map(({ id }) => id));
    t.equal(ids.size, nodes.length, `${file}: ids are unique`);
    const aims = nodes.flatMap(({ z, station, wires }) => [z, station, ...((wires ?? []) as string[][]).flat()]);
    t.same(
      aims.filter((id) => id !== undefined && !ids.has(id as string)),
      [],
      `${file}: nothing leads nowhere`,
    );
    t.same(
      nodes.filter(({ type }) => !types.has(type)),
      [],
      `${file}: every node is one that is there`,
    );
  }
});

test('alerts: checked, kept, not without bound; what comes of them is counted', async (t) => {
  const model = { name: 'sounds', version: '1', sha256: 'a'.repeat(64) };
  const detection = { kind: 'sound', label: 'glass', score: 0.9, atMs: 1_700_000_000_000, model } as const;
  const clip = (bytes: number) => ({
    contentType: 'audio/ogg; codecs=opus',
    data: Buffer.alloc(bytes).toString('base64'),
  });
  const whole = { kind: 'sound', text: 'glass', detection, clip: clip(MOST_CLIP_BYTES) };
  t.ok(alertBody.safeParse(whole).success);
  const event = { v: 1, id: 'x'.repeat(36), seq: 1e15, at: 1.7e12, data: { ...whole, text: '\u0001'.repeat(500) } };
  t.ok(JSON.stringify(event).length < 65_024, 'the largest fits into a message');
  for (const bad of [
    {},
    { kind: 'Sound/#', text: 'glass' },
    { kind: 'sound', text: '' },
    { kind: 'sound', text: 'x'.repeat(501) },
    { ...whole, clip: clip(MOST_CLIP_BYTES + 3) },
    { ...whole, clip: { contentType: 'text/html', data: 'AAAA' } },
    { ...whole, clip: { contentType: 'audio/ogg', data: 'no base64!' } },
    { ...whole, detection: { ...detection, score: 2 } },
    { ...whole, detection: { ...detection, model: { ...model, sha256: 'short' } } },
  ]) {
    t.notOk(alertBody.safeParse(bad).success, JSON.stringify(bad).slice(0, 80));
  }
  const clock = new ManualClock();
  const kept: unknown[] = [];
  const disk = { works: true };
  const keep = (body: object) => (disk.works ? `id-${kept.push(body)}` : null);
  const alerts = new Alerts({ keep, clock, logger: silentLogger });
  for (let n = 0; n < 12; n++) t.equal(alerts.raise({ kind: 'sound', text: `${n}` }), `id-${n + 1}`);
  t.throws(() => alerts.raise({ kind: 'sound', text: 'one more' }), { code: 'too-many-alerts' });
  clock.advance(60_000);
  alerts.raise({ kind: 'sound', text: 'a minute later' });
  disk.works = false;
  t.throws(() => alerts.raise({ kind: 'sound', text: 'no disk' }), { code: 'alert-not-kept' });
  t.same(alerts.counted.all(), { raised: 13, 'too-many-alerts': 1, 'alert-not-kept': 1 });
});
