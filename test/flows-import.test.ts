import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'tap';
import type { FlowNodes } from '../src/adapters/node-red/admin-api.js';
import {
  originals,
  readFlowFile,
  unknownTypes,
  withoutSecrets,
  withPlaceholders,
} from '../src/adapters/node-red/flow-import.js';
import { FlowsPost } from './support/flows-post.js';
import { until } from './support/site.js';

const program = resolve(import.meta.dirname, '../src/bin/entryphone.js');

/** Nodes that no palette here has, beside the tab of the door station: in its flow, a config node, a part that does not come along. */
const FOREIGN = [
  {
    id: 'lamp',
    type: 'someones-lamp',
    z: 'entryphone0000door',
    x: 700,
    y: 120,
    bridge: 'bridge',
    credentials: { key: 'a-secret' },
    wires: [['door000call00place'], []],
  },
  { id: 'bridge', type: 'someones-bridge', address: '192.0.2.1', credentials: { user: 'a-secret' } },
  { id: 'part', type: 'subflow:elsewhere', z: 'entryphone0000door', x: 700, y: 400, wires: [] },
] as const;

test('a flow file is read as what it is, and unknown nodes are found; a placeholder keeps what it stands for', (t) => {
  const dir = mkdtempSync(join(tmpdir(), 'ep-flow-file-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const file = join(dir, 'flows.json');
  const bad: readonly (readonly [text: string, says: RegExp])[] = [
    ['', /no JSON/],
    ['[{"id": "half"', /no JSON/],
    ['{"flows": []}', /no list of nodes/],
    ['[{"id": "a"}]', /no list of nodes: 0\.type/],
    ['[{"id": "a", "type": "tab"}, {"id": "a", "type": "tab"}]', /two nodes with the id a/],
    [`["${'x'.repeat(5_000_000)}"]`, /has 5000004 bytes, more than/],
  ];
  for (const [text, says] of bad) {
    writeFileSync(file, text);
    t.throws(() => readFlowFile(file), { code: 'flow-file-invalid', message: says });
  }
  t.throws(() => readFlowFile(join(dir, 'absent')), { code: 'usage', message: /ENOENT/ });
  t.throws(() => readFlowFile(dir), { code: 'usage' });
  t.throws(() => readFlowFile('/dev/zero'), { code: 'usage', message: /no file/ });

  const flows: FlowNodes = [
    { id: 'entryphone0000door', type: 'tab' },
    { id: 'own', type: 'subflow' },
    { id: 'use', type: 'subflow:own', z: 'entryphone0000door', x: 1, y: 1, wires: [] },
    ...FOREIGN,
  ];
  const unknown = unknownTypes(flows, new Set(['tab', 'subflow', 'function']));
  t.same(unknown, [
    { type: 'someones-lamp', nodes: ['lamp'] },
    { type: 'someones-bridge', nodes: ['bridge'] },
    { type: 'subflow:elsewhere', nodes: ['part'] },
  ]);
  const stood = withPlaceholders(flows, unknown);
  t.same(unknownTypes(stood, new Set(['tab', 'subflow', 'function'])), []);
  t.match(stood[3], { id: 'lamp', type: 'function', d: true, outputs: 2, name: 'not here: someones-lamp' });
  t.match(stood[4], { id: 'bridge', d: true, z: 'entryphone0000door', outputs: 0 });
  t.notMatch(JSON.stringify(stood), 'a-secret');
  t.same(originals(stood), withoutSecrets(flows));
  const moved = stood.map((node) => (node.id === 'lamp' ? { ...node, x: 20, wires: [[], []] } : node));
  t.match(originals(moved)[3], { type: 'someones-lamp', x: 20, wires: [[], []] }, 'it may be moved and wired anew');
  const spoilt = stood.map((node) => (node.id === 'lamp' ? { ...node, info: `${node.info}}` } : node));
  t.equal(originals(spoilt)[3]?.type, 'function', 'what is no placeholder any more stays what it is');
  t.end();
});

test('flows with unknown nodes are named and refused; told to, the station runs the others', async (t) => {
  const post = await FlowsPost.start(t);
  await until(async () => (await post.calls()).at(-1)?.state === 'ended');
  const runtimeDir = join(post.dir, 'runtime');
  const site = join(runtimeDir, `entryphone-${userInfo().uid}`);
  mkdirSync(site, { recursive: true });
  symlinkSync(join(post.dir, 'run'), join(site, 'door'));
  const password = join(post.dir, 'state/flows/editor-password');
  const flowsCommand = (...args: readonly string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((done) => {
      const env = { ...process.env, XDG_RUNTIME_DIR: runtimeDir };
      const child = execFile(process.execPath, [program, 'flows', ...args], { env }, (_, stdout, stderr) =>
        done({ code: child.exitCode ?? -1, stdout, stderr }),
      );
    });
  const withPassword = ['--station', 'door', '--password-file', password];

  const exported = await flowsCommand('export', ...withPassword);
  t.equal(exported.code, 0, exported.stderr);
  const shipped: FlowNodes = JSON.parse(exported.stdout);
  const wired = shipped.map((node) => (node.id === 'door0000button0bell' ? { ...node, wires: [['lamp']] } : node));
  const file = join(post.dir, 'wanted.json');
  writeFileSync(file, JSON.stringify([...wired, ...FOREIGN]));
  const before = await post.status();

  const refused = await flowsCommand('import', file, '--json', ...withPassword);
  t.equal(refused.code, 1);
  t.match(JSON.parse(refused.stdout), {
    ok: false,
    failed: [/nothing was deployed: someones-lamp, someones-bridge, subflow:elsewhere.*--deploy-anyway/],
    unknown: [{ type: 'someones-lamp', nodes: ['lamp'] }, {}, {}],
  });
  t.match(refused.stderr, /not known at door: someones-bridge \(bridge\)/);
  t.equal((await post.status()).rev, before.rev);

  const told = await flowsCommand('import', file, '--deploy-anyway', '--json', ...withPassword);
  t.equal(told.code, 0, told.stderr);
  const { rev, ...done } = JSON.parse(told.stdout);
  t.match(done, { ok: true, failed: [], station: 'door', nodes: wired.length + 3, state: 'running' });
  t.equal(done.unknown.length, 3);
  const { acknowledged = 0 } = (await post.status()).presses;
  await until(async () => {
    post.board.press('open');
    return ((await post.status()).presses.acknowledged ?? 0) > acknowledged;
  });
  const good = join(post.dir, 'state/flows-good.json');
  await until(() => {
    try {
      return JSON.parse(readFileSync(good, 'utf8')).rev === rev;
    } catch {
      return false; // not there yet
    }
  });
  t.match(await post.status(), { rev, state: 'running', restores: 0 }, 'the station leaves it at that');

  const again = await flowsCommand('export', '--json', ...withPassword);
  const { flows } = JSON.parse(again.stdout) as { flows: FlowNodes };
  t.same(new Set(flows.map(({ type }) => type)), new Set([...wired, ...FOREIGN].map(({ type }) => type)));
  t.notMatch(again.stdout, 'a-secret');

  const wrong = join(post.dir, 'wrong');
  writeFileSync(wrong, 'guessed\n');
  const faults: readonly (readonly [args: readonly string[], code: number, says: RegExp])[] = [
    [['export', '--password-file', wrong], 1, /answered 403 to the password/],
    [['export', '--password-file', join(post.dir, 'absent')], 2, /password can't be read.*ENOENT/],
    [['import', wrong, '--password-file', password], 1, /wrong is no JSON/],
    [['export', '--station', 'attic'], 69, /no station attic is running here/],
  ];
  for (const [args, code, says] of faults) {
    const { code: exit, stdout, stderr } = await flowsCommand(...args, '--json');
    t.equal(exit, code, args.join(' '));
    t.match(JSON.parse(stdout), { ok: false, failed: [says] });
    t.notMatch(stderr, post.password);
  }
});
