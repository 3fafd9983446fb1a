import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'tap';
import type { FlowNodes } from '../src/adapters/node-red/admin-api.js';
import { SAFE_MODE_FILE } from '../src/protocol/flows-api.js';
import { CONFIG_NODE, NodeRedDouble } from './support/node-red-double.js';

/** In all, on a machine that has other things to do. */
const timeout = { timeout: 120_000 };
const release = (label: string, ...nodes: FlowNodes): FlowNodes => [
  CONFIG_NODE,
  { id: 'tab', type: 'tab', label },
  ...nodes,
];

test(
  'a release of flows is proved, and only then kept as good; what was edited by hand is not lost',
  timeout,
  async (t) => {
    const red = await NodeRedDouble.start(t);
    const isGood: unknown[] = [];
    red.onStep = (step) => {
      if (step !== 'confirm') return;
      isGood.push(
        red.keeper?.keepGood().then(
          () => true,
          (error) => error.code,
        ),
      );
    };
    t.match(await red.install('1.0.0', release('One')), { state: 'succeeded', reason: null });
    t.same(await Promise.all(isGood), ['flows-on-trial'], 'what is on trial is not kept as good');
    t.equal(red.label, 'One');
    t.equal(await red.installed(), '1.0.0');
    t.notOk(red.isKept('flows-good.json'), 'some seconds are no proof that they are good to come back');
    await red.keeper?.keepGood();
    t.match(red.keptAs('flows-good.json').flows, [{}, { label: 'One' }], 'as any that have run for long');
    const seed = JSON.parse(readFileSync(join(red.dir, 'slots/flows/a/flows.json'), 'utf8'));
    t.match(seed, [{}, { label: 'Before' }], 'what ran before is there to go back to');
    t.equal(
      statSync(join(red.dir, 'slots/flows')).mode & 0o777,
      0o700,
      'for the station alone: people write keys into flows',
    );
    t.notOk(red.isKept('flows-replaced.json'), 'and was not edited since');
    t.match(await red.install('1.1.0', release('Two')), { state: 'succeeded' });
    t.notOk(red.isKept('flows-replaced.json'));
    red.edit('By hand');
    t.match(await red.install('1.2.0', release('Three')), { state: 'succeeded' });
    t.match(red.keptAs('flows-replaced.json').flows, [{}, { label: 'By hand' }]);
    t.match(await red.install('1.1.1', release('Old')), { state: 'rejected', reason: /older than 1\.2\.0/ });
    t.notOk(red.isKept('flows-before.json'));
  },
);

test(
  'a release that can not be taken up is refused before anything is changed, and the reason names what is wrong',
  timeout,
  async (t) => {
    const red = await NodeRedDouble.start(t);
    const { length, ...wrong } = {
      length: 7,
      'not-json': ['[{"id": "half', /flows\.json is no JSON/],
      'no-list': ['{"id": "a"}', /is no list of nodes/],
      'two-ids': [release('Twice', CONFIG_NODE), /two nodes with the id station/],
      'no-config-node': [[{ id: 'tab', type: 'tab' }], /no flow has an entryphone-station node/],
      'unknown-nodes': [
        release('Unknown', { id: 'x', type: 'telnet' }, { id: 'y', type: 'exec' }),
        /not here: telnet, exec/,
      ],
      'too-large': [Buffer.alloc(5_000_001, ' '), /more than 5000000 bytes/],
      'config-node-off': [[{ ...CONFIG_NODE, d: true }], /no flow has an/],
    } as const;
    let patch = 0;
    for (const [name, [content, reason]] of Object.entries(wrong)) {
      const end = await red.install(`1.0.${++patch}`, content as FlowNodes);
      t.match(end, { state: 'failed', reason }, name);
      t.notOk(red.steps.includes('switch'), name);
    }
    t.equal(patch, length);
    t.match(await red.install('1.1.0', release('Elsewhere'), 'flows/flows.json'), { reason: /is not in the release/ });
    t.equal(red.label, 'Before');
    t.equal(await red.installed(), '0.0.0');
    t.match(await red.install('1.2.0', release('Good')), { state: 'succeeded' }, 'and the next one is taken');
  },
);

test(
  'what does not run is left: what it replaced is back, with its secrets, and the report says why',
  timeout,
  async (t) => {
    const red = await NodeRedDouble.start(t);
    const ways: Record<string, [onDeploy: () => void | Promise<void>, reason: RegExp]> = {
      crashes: [() => red.tell({ crashes: 1 }), /ended unasked/],
      hangs: [
        () => red.tell({ hangs: 1, fault: { code: 'hung', text: 'no heartbeat for 3500 ms' } }),
        /the flows hang: no heartbeat for 3500 ms/,
      ],
      stops: [
        () => red.tell({ state: 'stopped', fault: { code: 'missing-types', text: 'they need x' } }),
        /they need x/,
      ],
      'is put back by the watch': [
        () => {
          setImmediate(() => red.keeper?.restoreGood().then(() => red.tell({ restores: 1 })));
        },
        /the flows before were put back/,
      ],
      'does not answer': [() => Promise.reject(new Error('no answer')), /did not answer any more/],
      'has no heartbeat': [() => red.tell({ state: 'idle' }), /not ready within 120 s/],
    };
    let minor = 0;
    for (const [name, [onDeploy, reason]] of Object.entries(ways)) {
      red.edit(`By hand: ${name}`);
      red.credentials = { $: name };
      red.tell({ state: 'running', crashes: 0, hangs: 0, restores: 0 });
      red.onDeploy = async () => {
        red.onDeploy = () => {
          red.tell({ state: 'running' });
        };
        await onDeploy();
      };
      t.match(await red.install(`1.${++minor}.0`, release(name)), { state: 'failed', reason }, name);
      t.equal(red.label, `By hand: ${name}`);
      t.same(red.kept.at(-1), { $: name }, 'with what the nodes keep as secret');
      t.equal(await red.installed(), '0.0.0');
      t.notOk(red.isKept('flows-before.json'));
    }
  },
);

test('whoever deploys in the middle of a trial: it is theirs; a conflict is tried again', timeout, async (t) => {
  const red = await NodeRedDouble.start(t);
  red.onStep = (step) => {
    if (step === 'confirm') red.edit('In the editor');
  };
  t.match(await red.install('1.0.0', release('One')), {
    state: 'failed',
    reason: /other flows were deployed meanwhile/,
  });
  t.equal(red.label, 'In the editor');
  t.equal(await red.installed(), '0.0.0');
  red.onStep = (step) => {
    if (step === 'restart') red.edit('Just now');
  };
  t.match(await red.install('1.1.0', release('Two')), { state: 'succeeded' });
  t.match(red.keptAs('flows-replaced.json').flows, [{}, { label: /Just now|In the editor/ }]);
});

test(
  'the station ends in each step of a good and of a crashing release: the next process goes on',
  timeout,
  async (t) => {
    for (const behaviour of ['good', 'crashing'] as const) {
      const steps = await (async () => {
        const red = await NodeRedDouble.start(t);
        if (behaviour === 'crashing') crashes(red);
        await red.install('1.0.0', release('Release'));
        return [...red.steps];
      })();
      t.ok(steps.includes(behaviour === 'good' ? 'confirm' : 'switch-back'));
      // What comes before is the same for every kind (`update-run.test.ts`).
      const from = steps.indexOf('check-content');
      for (const [index, ended] of steps.entries()) {
        if (index < from && ended !== 'seed') continue;
        const red = await NodeRedDouble.start(t);
        if (behaviour === 'crashing') crashes(red);
        let seen = -1;
        const again = Promise.withResolvers<void>();
        red.onStep = () => {
          seen += 1;
          // Within the step: what it has under way goes on behind the back of the next process for a moment, as a request may.
          if (seen === index) setTimeout(() => red.startStation().then(again.resolve, again.reject), 2);
        };
        await red.order('1.0.0', release('Release'));
        await again.promise;
        const end = await red.ended();
        const what = `${behaviour}, in ${ended}`;
        t.equal(end.state, behaviour === 'good' ? 'succeeded' : 'failed', `${what}: ${end.reason}`);
        t.equal(red.label, behaviour === 'good' ? 'Release' : 'Before', what);
        t.equal(await red.installed(), behaviour === 'good' ? '1.0.0' : '0.0.0', what);
        t.notOk(red.isKept('flows-before.json'), what);
      }
    }
  },
);

/** The process ends as soon as the release is there, and is there again in safe mode if that is asked for. */
function crashes(red: NodeRedDouble): void {
  red.onDeploy = (flows) => {
    if (!flows.some(({ label }) => label === 'Release')) return;
    red.tell({ crashes: (red.told.crashes ?? 0) + 1 });
  };
}

test(
  'flows that are not there: nothing is begun; flows that do not come back have what was replaced when they do',
  timeout,
  async (t) => {
    const red = await NodeRedDouble.start(t);
    red.isThere = false;
    red.clock.factor = 20;
    t.match(await red.install('1.0.0', release('One')), { state: 'failed', reason: /flows process was not there/ });
    red.isThere = true;
    red.onDeploy = () => {
      red.isThere = false;
      red.tell({ state: 'absent', crashes: 1 });
    };
    t.match(await red.install('1.1.0', release('Two')), { state: 'failed', reason: /ended unasked/ });
    t.equal(await red.installed(), '0.0.0');
    t.ok(red.isKept('flows-owed.json'));
    t.ok(readFileSync(join(red.dir, 'run', SAFE_MODE_FILE)), 'the next start is one in safe mode');
    red.isThere = true;
    red.onDeploy = () => {};
    red.tell({ state: 'running' });
    await red.keeper?.restoreGood();
    t.equal(red.label, 'Before');
    t.notOk(red.isKept('flows-owed.json'));
  },
);
