/** The release of this very checkout: built twice, changed by a line, unpacked, and run from where it was unpacked. */
import { spawnSync } from 'node:child_process';
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { type Test, test } from 'tap';
import { applicationTree } from '../../src/adapters/releases/application-tree.js';
import { buildRelease } from '../../src/adapters/releases/release-builder.js';
import { ReleaseRepository } from '../../src/adapters/releases/release-repository.js';
import type { TreeFile } from '../../src/adapters/releases/release-tree.js';
import { verifyRelease } from '../../src/adapters/releases/verify-release.js';
import type { Manifest } from '../../src/fleet/manifest.js';
import { diffReleases } from '../../src/fleet/release-diff.js';
import { filePieces } from '../../src/fleet/release-stream.js';

const root = resolve(import.meta.dirname, '../../..');
const architecture = process.arch === 'arm64' ? 'arm64' : 'x64';
const MOST_DELTA_PCT = 5;

function tempFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'entryphone-release-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function built(version: string, tree: readonly TreeFile[], folder: string) {
  const repository = new ReleaseRepository(folder);
  const description = { kind: 'firmware', version, architecture, requires: { boards: [] } } as const;
  return { repository, ...(await buildRelease(description, tree, repository)) };
}

/** The same tree, a line of the station's program longer by a statement. */
function withOneLineChanged(tree: readonly TreeFile[]): TreeFile[] {
  return tree.map((file) => {
    if (file.path !== 'dist/src/bin/station.js' || !('from' in file.content)) return file;
    const lines = readFileSync(file.content.from, 'utf8').split('\n');
    const at = lines.findIndex((line, index) => index > lines.length / 2 && line.endsWith(';'));
    lines[at] += 'globalThis.isChanged=true;';
    return { ...file, content: { bytes: Buffer.from(lines.join('\n')) } };
  });
}

async function unpack(manifest: Manifest, repository: ReleaseRepository, folder: string): Promise<void> {
  let open: { path: string; handle: number } | undefined;
  for await (const { file, bytes, isLast } of filePieces(manifest, (chunk) => repository.readChunk(chunk))) {
    if (open?.path !== file.path) {
      mkdirSync(dirname(join(folder, file.path)), { recursive: true });
      open = { path: file.path, handle: openSync(join(folder, file.path), 'wx', file.mode) };
    }
    if (bytes.length > 0) writeSync(open.handle, bytes);
    if (isLast) closeSync(open.handle);
  }
}

const ASKED_FOR = /(?:require\(|from\s*|import\(|import\s+)\s*["'](\.{1,2}\/[^"']*[^"'/])["']/g;

/** What files of packages ask for by its path, is in the checkout, and was left out: each with who asks. */
function leftOut(tree: readonly TreeFile[]): string[] {
  const paths = new Set(tree.map(({ path }) => path));
  const places = (path: string) => ['', '.js', '.json', '.cjs', '.mjs', '/index.js'].map((end) => `${path}${end}`);
  // What asks for types is a comment.
  const isFile = (path: string) =>
    !/\.[cm]?ts$/.test(path) && statSync(join(root, path), { throwIfNoEntry: false })?.isFile() === true;
  return [...paths]
    .filter((path) => /^node_modules\/.*\.[cm]?js$/.test(path))
    .flatMap((path) =>
      [...readFileSync(join(root, path), 'utf8').matchAll(ASKED_FOR)].flatMap(([, asked = '']) => {
        const found = places(join(dirname(path), asked)).filter(isFile);
        return found.length === 0 || found.some((one) => paths.has(one)) ? [] : [`${path} asks for ${found[0]}`];
      }),
    );
}

test('this checkout as a release: the same again, a changed line, run from where it is unpacked', async (t) => {
  const [folder, again, slot] = [tempFolder(t), tempFolder(t), tempFolder(t)];
  const tree = await applicationTree({ root, version: '9.0.0', architecture });
  t.same(leftOut(tree), []);
  const first = await built('9.0.0', tree, folder);
  const second = await built('9.0.0', await applicationTree({ root, version: '9.0.0', architecture }), again);
  t.ok(readFileSync(second.file).equals(readFileSync(first.file)), 'the same input, the same bytes');
  t.same(await verifyRelease(first.repository, first.manifest, () => {}), []);

  const later = withOneLineChanged(await applicationTree({ root, version: '9.0.1', architecture }));
  const changed = await built('9.0.1', later, folder);
  const diff = diffReleases(first.manifest, changed.manifest, changed.repository.manifestBytes(changed.manifest));
  t.comment({ ...diff, sizeBytes: changed.manifest.sizeBytes, files: changed.manifest.files.length });
  t.ok(diff.deltaPct <= MOST_DELTA_PCT, `${diff.deltaPct} % of ${diff.wholeBytes} bytes`);
  t.same(diff.changed, ['dist/src/bin/station.js', 'package.json']);

  await unpack(first.manifest, first.repository, slot);
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(join(slot, '.toolchain/bin/node'), args, {
      encoding: 'utf8',
      cwd: slot,
    });
    t.equal(status, 0, `${args.at(-1)}: ${stderr}`);
    return stdout;
  };
  const nodes = JSON.parse(run('dist/src/bin/entryphone.js', 'nodes', '--json'));
  t.match(nodes, { ok: true, failed: [] });
  t.ok(nodes.nodes.length > 5, `${nodes.nodes.length} nodes of the palette`);
  const native = [
    'native/build/alsa.node',
    'native/build/opus.node',
    'native/build/sd-notify.node',
    'native/build/traffic-class.node',
  ];
  for (const file of native) run('-e', `require('./${file}')`);
  const packages = ['node-red', 'alsa-capture', '@discordjs/opus', 'libopus-wasm', 'onoff', 'onnxruntime-node'];
  for (const name of packages) run('--input-type=module', '-e', `await import('${name}'); process.exit(0)`);
  // The programs themselves: a configuration that is missing is all that stops them.
  for (const name of ['media', 'station', 'flows', 'gateway']) {
    const args = [`dist/src/bin/${name}.js`, '--config', '/nowhere.yaml'];
    const { status, stderr } = spawnSync(join(slot, '.toolchain/bin/node'), args, { encoding: 'utf8', cwd: slot });
    t.equal(status, 2, `${name}: ${stderr}`);
  }
});
