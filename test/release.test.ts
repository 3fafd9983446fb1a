import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import { type Test, test } from 'tap';
import { applicationTree } from '../src/adapters/releases/application-tree.js';
import { buildRelease } from '../src/adapters/releases/release-builder.js';
import { ReleaseRepository } from '../src/adapters/releases/release-repository.js';
import { filesBelow } from '../src/adapters/releases/release-tree.js';
import { verifyRelease } from '../src/adapters/releases/verify-release.js';
import { chunkFile, type Manifest } from '../src/fleet/manifest.js';
import { diffReleases } from '../src/fleet/release-diff.js';
import { filePieces, InstalledChunks } from '../src/fleet/release-stream.js';
import { seededRandom } from './support/random.js';

const entryphone = resolve(import.meta.dirname, '../src/bin/entryphone.js');
const silent = () => {};

function tempFolder(t: Test): string {
  const folder = mkdtempSync(join(tmpdir(), 'entryphone-release-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

function put(file: string, content: string | Uint8Array, mode = 0o644): void {
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, content);
  chmodSync(file, mode);
}

/** Text that compresses, and comes again with its seed. */
function words(seed: number, lines: number): string {
  const random = seededRandom(seed);
  const line = () => Array.from({ length: 9 }, () => Math.floor(random() * 1e6).toString(36)).join(' ');
  return `${Array.from({ length: lines }, line).join('\n')}\n`;
}

/** A small tree: a program of half a megabyte, 40 small files, one that is empty. */
function smallTree(t: Test): string {
  const folder = tempFolder(t);
  put(join(folder, 'bin/program'), words(1, 12_000), 0o755);
  put(join(folder, 'empty'), '');
  for (let i = 0; i < 40; i += 1) put(join(folder, `modules/m${i}/main.js`), words(100 + i, 20));
  return folder;
}

const describe = (version: string) =>
  ({ kind: 'firmware', version, architecture: 'x64', requires: { boards: [] } }) as const;

async function built(
  from: string,
  to: string,
  version = '1.0.0',
): Promise<{ manifest: Manifest; repository: ReleaseRepository; file: string }> {
  const repository = new ReleaseRepository(to);
  return { ...(await buildRelease(describe(version), await filesBelow(from), repository)), repository };
}

/** Each file of a folder with its content. */
function contents(folder: string): Record<string, string> {
  const names = readdirSync(folder, { recursive: true, encoding: 'utf8' }).toSorted();
  const files = names.filter((name) => statSync(join(folder, name)).isFile());
  return Object.fromEntries(files.map((name) => [name, readFileSync(join(folder, name)).toString('base64')]));
}

test('the same input makes the same bytes, whenever and wherever it is built', async (t) => {
  const tree = smallTree(t);
  const [one, two] = [tempFolder(t), tempFolder(t)];
  await built(tree, one);
  const elsewhere = join(tempFolder(t), 'copy');
  cpSync(tree, elsewhere, { recursive: true });
  for (const name of ['bin/program', 'modules/m7/main.js']) {
    utimesSync(join(elsewhere, name), new Date(0), new Date(0));
    chmodSync(join(elsewhere, name), name.startsWith('bin') ? 0o700 : 0o600);
  }
  await built(elsewhere, two);
  t.same(contents(two), contents(one));
  await built(tree, one);
  t.same(contents(two), contents(one), 'and once more, over what is there');
  chmodSync(join(elsewhere, 'empty'), 0o755);
  const other = await built(elsewhere, two);
  t.not(
    other.manifest.hash,
    (await ReleaseRepository.open(join(one, 'releases/1.0.0/x64'))).manifest.hash,
    'a right counts',
  );
});

test('a release can be read again, whole: by its chunks, and by those of its files that are installed', async (t) => {
  const tree = smallTree(t);
  const { manifest, repository } = await built(tree, tempFolder(t));
  t.same(await verifyRelease(repository, manifest, silent), []);
  const files = new Map<string, Buffer>();
  for await (const { file, bytes } of filePieces(manifest, (chunk) => repository.readChunk(chunk))) {
    files.set(file.path, Buffer.concat([files.get(file.path) ?? Buffer.alloc(0), bytes]));
  }
  t.same(
    [...files.keys()],
    manifest.files.map((file) => file.path),
  );
  for (const [path, content] of files) t.ok(content.equals(readFileSync(join(tree, path))), path);
  t.equal(manifest.files.find(({ path }) => path === 'bin/program')?.mode, 0o755);

  const installed = new InstalledChunks(manifest);
  for (const chunk of manifest.chunks) {
    const spans = installed.spansOf(chunk.id) ?? [];
    const bytes = Buffer.concat(
      spans.map(({ file, at, bytes }) => readFileSync(join(tree, file.path)).subarray(at, at + bytes)),
    );
    t.ok(bytes.equals(await repository.readChunk(chunk)), `chunk ${chunk.id.slice(0, 8)} of ${spans.length} files`);
  }
  t.ok(
    manifest.chunks.some(({ id }) => (installed.spansOf(id)?.length ?? 0) > 20),
    'a chunk goes over small files',
  );
  t.equal(installed.spansOf('0'.repeat(64)), undefined);
  t.notOk(installed.has('0'.repeat(64)));
  await t.rejects(
    async () => {
      const chunks = manifest.chunks.slice(0, -1);
      for await (const _ of filePieces({ ...manifest, chunks }, (chunk) => repository.readChunk(chunk)));
    },
    { code: 'chunk-wrong' },
  );
});

test('a change of one line moves the chunks around it', async (t) => {
  const [tree, folder] = [smallTree(t), tempFolder(t)];
  const before = await built(tree, folder, '1.0.0');
  const program = readFileSync(join(tree, 'bin/program'), 'utf8').split('\n');
  program.splice(6_000, 1, 'another line, longer than the one before it, in the middle of the program');
  put(join(tree, 'bin/program'), program.join('\n'), 0o755);
  const after = await built(tree, folder, '1.0.1');
  const diff = diffReleases(before.manifest, after.manifest, after.repository.manifestBytes(after.manifest));
  t.same(diff.changed, ['bin/program']);
  t.ok(diff.chunks >= 1 && diff.chunks <= 3, `${diff.chunks} of ${after.manifest.chunks.length} chunks`);
  t.same(await verifyRelease(after.repository, before.manifest, silent), [], 'the one before is there still');
});

test('what is damaged is found, and named', async (t) => {
  const tree = smallTree(t);
  const damages: Record<string, [damage: (file: string) => void, says: RegExp]> = {
    'a chunk that is missing': [(file) => rmSync(file), /is missing/],
    'a chunk with a bit that is wrong': [
      (file) => {
        const bytes = readFileSync(file);
        bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] ?? 0) ^ 4;
        writeFileSync(file, bytes);
      },
      /is damaged/,
    ],
    'a chunk that is cut off': [(file) => writeFileSync(file, readFileSync(file).subarray(0, 100)), /is damaged/],
    'an empty chunk': [(file) => writeFileSync(file, ''), /is damaged/],
    'another content': [(file) => writeFileSync(file, zstdCompressSync(Buffer.from('something else'))), /is damaged/],
    'a chunk that unpacks to a gigabyte': [
      (file) => writeFileSync(file, zstdCompressSync(Buffer.alloc(50_000_000))),
      /is damaged/,
    ],
    'a file that is no chunk by its size': [(file) => writeFileSync(file, Buffer.alloc(3_000_000)), /is damaged/],
  };
  const { manifest, repository, file } = await built(tree, tempFolder(t));
  const chunkAt = join(repository.folder, chunkFile(manifest.chunks[1]?.id ?? ''));
  const good = readFileSync(chunkAt);
  for (const [what, [damage, says]] of Object.entries(damages)) {
    damage(chunkAt);
    t.match(await verifyRelease(repository, manifest, silent), [says], what);
    writeFileSync(chunkAt, good);
  }
  writeFileSync(chunkAt, good.subarray(1));
  await built(tree, repository.folder);
  t.same(await verifyRelease(repository, manifest, silent), [], 'built again, it is mended');
  const [first, ...files] = manifest.files;
  if (first === undefined) throw new Error('no files');
  const lying = { ...manifest, files: [{ ...first, sha256: 'a'.repeat(64) }, ...files] };
  t.match(await verifyRelease(repository, lying, silent), [/bin\/program is not what the manifest says/]);
  writeFileSync(file, readFileSync(file).subarray(0, 5_000));
  await t.rejects(ReleaseRepository.open(file), { code: 'manifest-invalid', message: /not the whole of it/ });
  await t.rejects(ReleaseRepository.open(join(repository.folder, 'nowhere')), { code: 'release-absent' });
});

test('what can be no release is refused', async (t) => {
  const tree = smallTree(t);
  symlinkSync('/etc/passwd', join(tree, 'link'));
  await t.rejects(filesBelow(tree), { code: 'usage', message: /link is neither/ });
  rmSync(join(tree, 'link'));
  await t.rejects(filesBelow(join(tree, 'nowhere')), { code: 'usage', message: /ENOENT/ });
  await t.rejects(built(tempFolder(t), tempFolder(t)), { code: 'release-unfit', message: /no files/ });
  put(join(tree, 'back\\slash'), 'x');
  await t.rejects(built(tree, tempFolder(t)), { code: 'release-unfit', message: /backslash/ });
});

test('publishing: what is lacking, the manifest last; a version stays what it was', async (t) => {
  const [tree, web] = [smallTree(t), tempFolder(t)];
  const { manifest, repository } = await built(tree, tempFolder(t));
  const to = new ReleaseRepository(web);
  const first = await repository.publish(manifest, to, silent);
  t.equal(first.chunks, new Set(manifest.chunks.map(({ id }) => id)).size);
  t.same(contents(web), contents(repository.folder));
  t.match(await repository.publish(manifest, to, silent), { chunks: 0, bytes: 0 });
  put(join(tree, 'modules/m1/main.js'), 'changed');
  const other = await built(tree, tempFolder(t));
  await t.rejects(other.repository.publish(other.manifest, to, silent), { code: 'version-taken' });

  const empty = tempFolder(t);
  const [chunk] = manifest.chunks;
  rmSync(join(repository.folder, chunkFile(chunk?.id ?? '')));
  await t.rejects(repository.publish(manifest, new ReleaseRepository(empty), silent), { code: 'chunk-absent' });
  t.notOk(readdirSync(empty).includes('releases'), 'no manifest of what is not whole');
});

/** A checkout as far as a release looks at it: bundled programs, packages of several kinds, native modules of a processor. */
function checkout(t: Test, machine: number): string {
  const root = tempFolder(t);
  const elf = Buffer.alloc(64);
  elf.writeUInt32BE(0x7f45_4c46, 0);
  elf.writeUInt16LE(machine, 18);
  const file = (path: string, content: string | Uint8Array = path, mode = 0o644) =>
    put(join(root, path), content, mode);
  file(
    'package.json',
    JSON.stringify({ name: 'entryphone', version: '0.1.0', dependencies: { a: '1' }, devDependencies: { tool: '1' } }),
  );
  for (const path of ['LICENSE', 'device/board.yaml', 'systemd/x.service', 'flows/door.json']) file(path);
  file('entryphone', '#!/bin/sh', 0o755);
  file('.toolchain/real/node', elf, 0o755);
  mkdirSync(join(root, '.toolchain/bin'));
  symlinkSync('../real/node', join(root, '.toolchain/bin/node'));
  file('dist/src/bin/station.js', 'import "./chunks/AAAAAAAA.js"');
  file('dist/src/bin/station.js.map');
  file('dist/src/bin/chunks/AAAAAAAA.js', 'import "./BBBBBBBB.js"');
  for (const name of ['BBBBBBBB', 'STALEOLD']) file(`dist/src/bin/chunks/${name}.js`, name);
  file('dist/test/x.test.js');
  file('native/build/alsa.node', elf);
  file('native/build/virtual-gpio', elf);
  const locked: Record<string, object> = {
    '': { dependencies: { a: '1' }, devDependencies: { tool: '1' }, optionalDependencies: { compiler: '1' } },
    'node_modules/a': {
      dependencies: { b: '2', 'node-gyp': '1' },
      optionalDependencies: { absent: '1', 'for-windows': '1' },
      peerDependencies: { tool: '1' },
      peerDependenciesMeta: { tool: { optional: true } },
    },
    'node_modules/a/node_modules/b': { dependencies: { c: '1' } },
    'node_modules/b': {},
    'node_modules/c': { dependencies: { a: '1' } },
    'node_modules/tool': { dev: true },
    'node_modules/compiler': { optional: true },
    'node_modules/node-gyp': {},
    'node_modules/absent': { optional: true },
    'node_modules/for-windows': { os: ['win32'] },
  };
  file('package-lock.json', JSON.stringify({ packages: locked }));
  for (const folder of Object.keys(locked)) {
    if (folder === '' || folder.endsWith('absent')) continue;
    for (const name of [
      'package.json',
      'main.js',
      'LICENSE.md',
      'README.md',
      'main.d.ts',
      'main.js.map',
      '.npmignore',
    ]) {
      file(`${folder}/${name}`, name === 'package.json' ? '{}' : name);
    }
    for (const name of ['test/x.js', 'dist/doc/code.js', 'src/code.js']) file(`${folder}/${name}`);
  }
  for (const place of ['linux/x64', 'linux/arm64', 'win32/x64']) {
    file(`node_modules/c/bin/${place}/c.node`, place === 'linux/arm64' ? Buffer.from('other') : elf);
  }
  file('node_modules/a/binding.gyp');
  file('node_modules/a/build/Release/a.node', elf);
  for (const name of [
    'build/Release/obj.target/a.o',
    'build/Release/obj.target/a.node',
    'deps/a.js',
    'build/Makefile',
  ]) {
    file(`node_modules/a/${name}`);
  }
  return root;
}

const X64 = 62;
const ARM64 = 183;

test('a firmware: programs, packages that they need, native modules, Node.js; nothing else', async (t) => {
  const tree = await applicationTree({ root: checkout(t, X64), version: '9.8.7', architecture: 'x64' });
  const own = (folder: string, ...names: string[]) =>
    ['LICENSE.md', 'dist/doc/code.js', ...names, 'main.js', 'package.json'].map(
      (name) => `node_modules/${folder}/${name}`,
    );
  t.same(
    tree.map(({ path }) => path).toSorted(),
    [
      ...['.toolchain/bin/node', 'LICENSE', 'device/board.yaml', 'dist/src/bin/chunks/AAAAAAAA.js', 'entryphone'],
      ...['dist/src/bin/chunks/BBBBBBBB.js', 'dist/src/bin/station.js', 'flows/door.json', 'native/build/alsa.node'],
      ...own('a', 'build/Release/a.node'),
      ...own('a/node_modules/b', 'src/code.js'),
      ...own('c', 'src/code.js', 'bin/linux/x64/c.node'),
      ...['package.json', 'systemd/x.service'],
    ].toSorted(),
  );
  const [described] = tree.filter(({ path }) => path === 'package.json');
  if (described === undefined || !('bytes' in described.content)) throw new Error('no package.json');
  const said = JSON.parse(Buffer.from(described.content.bytes).toString());
  t.match(said, { name: 'entryphone', version: '9.8.7', dependencies: { a: '1' } });
  t.notOk('devDependencies' in said);
  t.equal(tree.find(({ path }) => path === '.toolchain/bin/node')?.mode, 0o755);
});

test('a firmware of another architecture takes that one’s programs', async (t) => {
  const root = checkout(t, X64);
  await t.rejects(applicationTree({ root, version: '1.0.0', architecture: 'arm64' }), {
    code: 'other-architecture',
    message: /not for arm64: .*\.toolchain\/bin\/node/,
    remedy: /--native/,
  });
  const native = checkout(t, ARM64);
  const tree = await applicationTree({ root, native, version: '1.0.0', architecture: 'arm64' });
  const paths = tree.map(({ path }) => path);
  t.ok(paths.includes('node_modules/c/bin/linux/arm64/c.node'));
  t.notOk(paths.includes('node_modules/c/bin/linux/x64/c.node'));
  rmSync(join(native, 'native/build/alsa.node'));
  await t.rejects(applicationTree({ root, native, version: '1.0.0', architecture: 'arm64' }), {
    message: /native\/build\/alsa\.node$/,
  });
  rmSync(join(root, 'node_modules/c'), { recursive: true });
  await t.rejects(applicationTree({ root, version: '1.0.0', architecture: 'x64' }), {
    code: 'not-set-up',
    message: /package c /,
  });
  rmSync(join(root, 'dist/src/bin/station.js'));
  await t.rejects(applicationTree({ root, version: '1.0.0', architecture: 'x64' }), { code: 'not-set-up' });
});

test('the commands: one object on stdout, progress and faults on stderr', async (t) => {
  const [tree, out, web] = [smallTree(t), tempFolder(t), tempFolder(t)];
  const run = (...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [entryphone, 'release', ...args, '--json'], {
      encoding: 'utf8',
    });
    return { status, stderr, said: JSON.parse(stdout) };
  };
  const build = ['build', '--out', out, '--kind', 'flows', '--from', tree];
  t.match(run(...build), { status: 2, said: { failed: [/flows\.json can't be read \(ENOENT\)/] } });
  put(join(tree, 'flows.json'), '[{ "id": "tab", "type": "tab" }]');
  const unfit = run(...build, '--version', '1.0.0');
  t.match(unfit, { status: 1, said: { ok: false, failed: [/no flow has an entryphone-station node/] } });
  put(join(tree, 'flows.json'), '[{ "id": "station", "type": "entryphone-station" }]');
  const first = run(...build, '--version', '1.0.0', '--board', 'virtual-board', '--firmware', '0.1.0');
  t.equal(first.status, 0);
  t.match(first.stderr, /built: 50 %/);
  t.match(first.said, {
    ok: true,
    kind: 'flows',
    architecture: 'any',
    requires: { boards: ['virtual-board'], firmware: '0.1.0' },
  });
  const place = join(out, 'flows/1.0.0/any');
  t.equal(first.said.manifest, join(place, 'manifest.json'));
  t.match(run('inspect', place).said, { ok: true, fileCount: 43, files: [{ path: 'bin/program', mode: '755' }] });
  t.match(run('verify', place).said, { ok: true, failed: [] });

  put(join(tree, 'modules/m9/new.js'), 'new');
  t.equal(run(...build, '--version', '1.0.1', '--min-from', '1.0.0').status, 0);
  const diff = run('diff', place, join(out, 'flows/1.0.1/any'));
  t.match(diff.said, { ok: true, added: ['modules/m9/new.js'], removed: [], changed: [] });
  t.ok(diff.said.bytes < diff.said.wholeBytes);
  t.match(run('publish', place, '--to', web).said, { ok: true, manifest: join(web, 'flows/1.0.0/any/manifest.json') });

  const manifest = (await ReleaseRepository.open(place)).manifest;
  rmSync(join(out, chunkFile(manifest.chunks[0]?.id ?? '')));
  const bad = run('verify', place);
  t.equal(bad.status, 1);
  t.match(bad.said, { ok: false, failed: [/is missing.*Build or publish/] });
  const wrong: [args: string[], says: RegExp][] = [
    [['build', '--out', out, '--kind', 'flows'], /--from/],
    [['build', '--out', out, '--arch', 'any'], /one architecture/],
    [['build', '--out', out, '--version', '1.0'], /1\.2\.3/],
  ];
  for (const [args, says] of wrong) {
    const { status, said } = run(...args);
    t.equal(status, 2, args.join(' '));
    t.match(said, { ok: false, failed: [says] });
  }
});
