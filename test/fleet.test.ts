import { createHash, randomBytes } from 'node:crypto';
import { test } from 'tap';
import { CHUNK_SIZES, Chunker } from '../src/fleet/chunker.js';
import {
  comparePaths,
  contentHash,
  type Manifest,
  manifestFault,
  pathFault,
  type ReleaseKind,
  releaseFolder,
} from '../src/fleet/manifest.js';
import { diffReleases } from '../src/fleet/release-diff.js';
import { compareVersions, isVersion, newerVersion } from '../src/fleet/version.js';
import { readManifest, writeManifest } from '../src/protocol/release-manifest.js';
import { seededRandom } from './support/random.js';
import { sampleManifest } from './support/sample-manifest.js';

test('versions: the order of the specification', async (t) => {
  const inOrder = [
    ...['0.0.1', '0.2.0', '0.10.0', '1.0.0-1', '1.0.0-2', '1.0.0-10', '1.0.0-alpha', '1.0.0-alpha.1'],
    ...['1.0.0-alpha.beta', '1.0.0-beta', '1.0.0-beta.2', '1.0.0-beta.11', '1.0.0-rc.1', '1.0.0', '1.0.1', '2.0.0'],
  ];
  for (const [i, a] of inOrder.entries()) {
    t.ok(isVersion(a), a);
    for (const [j, b] of inOrder.entries()) t.equal(Math.sign(compareVersions(a, b)), Math.sign(i - j), `${a} ${b}`);
  }
  t.equal(newerVersion('1.0.0', '1.0.0-rc.1'), '1.0.0');
  const none = [
    '',
    '1',
    '1.2',
    '1.2.3.4',
    'v1.2.3',
    '01.2.3',
    '1.2.3-',
    '1.2.3-01',
    '1.2.3+build',
    '1.2.3-A',
    '../1.2.3',
  ];
  for (const text of [...none, '1.2.3\n', '9999999999.0.0', `1.0.0-${'a'.repeat(60)}`]) {
    t.notOk(isVersion(text), JSON.stringify(text));
    t.throws(() => compareVersions(text, '1.0.0'), RangeError);
  }
});

/** Bytes that come again with their seed. */
function seededBytes(seed: number, length: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Uint8Array.from({ length }, () => random() * 256));
}

function chunksOf(bytes: Uint8Array, pieces = 65_536): Uint8Array[] {
  const chunker = new Chunker();
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += pieces) chunks.push(...chunker.push(bytes.subarray(at, at + pieces)));
  const last = chunker.finish();
  return last === undefined ? chunks : [...chunks, last];
}

const namesOf = (chunks: readonly Uint8Array[]) =>
  chunks.map((chunk) => createHash('sha256').update(chunk).digest('hex').slice(0, 16));

test('chunks: cut by content, within their bounds, whatever the pieces', async (t) => {
  const bytes = seededBytes(1, 6_000_000);
  const chunks = chunksOf(bytes);
  t.ok(Buffer.concat(chunks).equals(bytes), 'nothing is lost or added');
  const sizes = chunks.map((chunk) => chunk.length);
  t.ok(
    sizes.slice(0, -1).every((size) => size >= CHUNK_SIZES.leastBytes && size <= CHUNK_SIZES.mostBytes),
    sizes.join(),
  );
  const mean = bytes.length / chunks.length;
  t.ok(mean > CHUNK_SIZES.normalBytes / 2 && mean < CHUNK_SIZES.normalBytes * 2, `mean ${mean}`);
  for (const pieces of [1_000, 16_384, 300_001]) t.same(namesOf(chunksOf(bytes, pieces)), namesOf(chunks));
  t.same(
    namesOf(chunksOf(bytes.subarray(0, 400_000), 1)),
    namesOf(chunksOf(bytes.subarray(0, 400_000))),
    'byte by byte',
  );

  const zeros = chunksOf(Buffer.alloc(1_000_000));
  t.ok(
    zeros.slice(0, -1).every((chunk) => chunk.length === CHUNK_SIZES.mostBytes),
    'content without a cut',
  );
  t.same(chunksOf(Buffer.alloc(0)), []);
  t.equal(chunksOf(Buffer.alloc(1)).length, 1);
  t.throws(() => new Chunker({ ...CHUNK_SIZES, normalBytes: 60_000 }), RangeError);
  t.throws(() => new Chunker({ ...CHUNK_SIZES, leastBytes: 65_536 }), RangeError);
  t.throws(() => new Chunker({ ...CHUNK_SIZES, mostBytes: 65_536 }), RangeError);
  // Part of the format: a release that is cut elsewhere shares nothing with those before it.
  t.equal(createHash('sha256').update(namesOf(chunks).join()).digest('hex').slice(0, 16), GOLDEN_CUTS);
});

const GOLDEN_CUTS = '0f03d25c694ef471';

test('chunks: an insertion, a deletion or a changed byte moves those around it alone', async (t) => {
  const bytes = seededBytes(2, 4_000_000);
  const before = new Set(namesOf(chunksOf(bytes)));
  const random = seededRandom(3);
  for (let i = 0; i < 12; i += 1) {
    const at = Math.floor(random() * bytes.length);
    const changed = {
      inserted: Buffer.concat([bytes.subarray(0, at), Buffer.from('x'), bytes.subarray(at)]),
      deleted: Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + 100)]),
      flipped: Buffer.concat([bytes.subarray(0, at), Buffer.from([(bytes[at] ?? 0) ^ 1]), bytes.subarray(at + 1)]),
    };
    for (const [what, now] of Object.entries(changed)) {
      const other = namesOf(chunksOf(now)).filter((name) => !before.has(name));
      t.ok(other.length >= 1 && other.length <= 4, `${what} at ${at}: ${other.length} chunks of ${before.size}`);
    }
  }
});

test('a manifest is read as it was written, and the same one is the same bytes', async (t) => {
  const manifest = sampleManifest();
  const bytes = writeManifest(manifest);
  t.same(readManifest(bytes), { ok: true, value: manifest });
  t.same(writeManifest(manifest), bytes);
  t.equal(releaseFolder(manifest), 'releases/1.2.3/x64');
  t.equal(releaseFolder({ kind: 'flows', version: '1.0.0', architecture: 'any' }), 'flows/1.0.0/any');
  const bare: Manifest = sampleManifest({ kind: 'flows', architecture: 'any', requires: { boards: [], freeBytes: 0 } });
  t.same(readManifest(writeManifest(bare)), { ok: true, value: bare });
});

test('paths that lead out of a release, or nowhere', async (t) => {
  const bad: Record<string, RegExp> = {
    '': /empty path/,
    '/etc/passwd': /absolute/,
    '../secret': /leads out/,
    'a/../../secret': /leads out/,
    'a/./b': /leads out/,
    '.': /leads out/,
    'a//b': /empty part/,
    'a/': /empty part/,
    'a\\..\\b': /backslash/,
    'a\u0000b': /control/,
    'a\nb': /control/,
    'a\ud800': /control/,
    [`a/${'b'.repeat(256)}`]: /255/,
    [`${'a/'.repeat(300)}b`]: /512/,
  };
  for (const [path, says] of Object.entries(bad)) t.match(pathFault(path) ?? 'none', says, JSON.stringify(path));
  for (const path of ['a', '.npmrc', 'a/..b/c', 'a b/ü', '...']) t.equal(pathFault(path), undefined, path);
});

test('a manifest that is hostile is refused, with the reason', async (t) => {
  type Loose = Record<string, unknown>;
  const text = Buffer.from(writeManifest(sampleManifest())).toString();
  const other = (change: (json: Loose) => void): Buffer => {
    const json = JSON.parse(text);
    change(json);
    return Buffer.from(JSON.stringify(json));
  };
  const set = (path: string, value: unknown) =>
    other((json) => {
      const keys = path.split('.');
      const last = keys.pop() ?? '';
      keys.reduce((place, key) => place[key] as Loose, json)[last] = value;
    });
  const [first] = sampleManifest().files;
  const bad: Record<string, [body: Buffer, fault: string, why: RegExp]> = {
    'half of it': [Buffer.from(text.slice(0, text.length / 2)), 'not-json', /not the whole/],
    'not UTF-8': [Buffer.from([0x22, 0xff, 0x22]), 'not-json', /JSON/],
    'too large': [Buffer.alloc(16_777_217), 'oversized', /at most/],
    'no object': [Buffer.from('[]'), 'malformed', /./],
    'of another format': [set('v', 2), 'malformed', /^v/],
    'a version that is a path': [set('version', '../../1.0.0'), 'malformed', /^version/],
    'another kind': [set('kind', 'firmware2'), 'malformed', /^kind/],
    'another architecture': [set('architecture', 'mips'), 'malformed', /^architecture/],
    'firmware of any architecture': [set('architecture', 'any'), 'inconsistent', /any architecture/],
    'a path that leads out': [set('files.0.path', '../a'), 'inconsistent', /leads out/],
    'an absolute path': [set('files.0.path', '/a'), 'inconsistent', /absolute/],
    'a path twice': [set('files.1.path', first?.path), 'inconsistent', /duplicate/],
    'paths out of order': [set('files.0.path', 'zzz'), 'inconsistent', /out of order/],
    'a file that is a folder too': [set('files.0.path', 'device'), 'inconsistent', /file and a folder/],
    'set-user-id': [set('files.0.mode', '4755'), 'malformed', /mode/],
    'a hash of another form': [set('files.0.sha256', 'AB'.repeat(32)), 'malformed', /SHA-256/],
    'a file of a negative size': [set('files.0.sizeBytes', -1), 'malformed', /files.0.sizeBytes/],
    'a size that is no number': [set('files.0.sizeBytes', '12'), 'malformed', /files.0.sizeBytes/],
    'a file larger than a release': [set('files.0.sizeBytes', 2 ** 40), 'malformed', /files.0.sizeBytes/],
    'files of another sum': [set('files.0.sizeBytes', 1), 'inconsistent', /files of/],
    'chunks of another sum': [set('chunks.0.sizeBytes', 1), 'inconsistent', /chunks of/],
    'a chunk of no bytes': [set('chunks.0.sizeBytes', 0), 'malformed', /chunks.0.sizeBytes/],
    'a chunk that is too large': [set('chunks.0.sizeBytes', 2 ** 21), 'malformed', /chunks.0.sizeBytes/],
    'a chunk that grows by compression': [set('chunks.0.storedBytes', 2 ** 21), 'malformed', /storedBytes/],
    'a hash that is not that of its files': [set('hash', 'ab'.repeat(32)), 'inconsistent', /not that of the files/],
    'a mode that was changed': [set('files.0.mode', '755'), 'inconsistent', /not that of the files/],
    'no files': [set('files', []), 'malformed', /files/],
    'too many files': [set('files', Array(50_001).fill(first)), 'malformed', /files/],
    'a board that is a path': [set('requires.boards', ['../x']), 'malformed', /boards/],
  };
  for (const [what, [body, fault, why]] of Object.entries(bad)) {
    const read = readManifest(body);
    t.match(read, { ok: false, fault, why }, what);
  }
  const prototype = readManifest(Buffer.from(text.replace('"v":1', '"__proto__":{"polluted":1},"v":1')));
  t.equal(({} as { polluted?: number }).polluted, undefined);
  t.ok(prototype.ok, 'a key that nobody knows is left alone');
});

test('flows and configuration, which others sign than programs, fill no disk', async (t) => {
  const part = (bytes: number) => {
    const id = randomBytes(32).toString('hex');
    return { id, sha256: id, path: id, mode: 0o644, sizeBytes: bytes, storedBytes: bytes } as const;
  };
  const release = (kind: ReleaseKind, parts: readonly ReturnType<typeof part>[]): Manifest => {
    const files = parts.map(({ path, mode, sizeBytes, sha256 }) => ({ path, mode, sizeBytes, sha256 }));
    const sorted = files.sort((one, other) => comparePaths(one.path, other.path));
    const chunks = parts.map(({ id, sizeBytes, storedBytes }) => ({ id, sizeBytes, storedBytes }));
    const sizeBytes = files.reduce((sum, file) => sum + file.sizeBytes, 0);
    return {
      ...{ kind, version: '1.0.0', architecture: 'any', requires: { boards: [], freeBytes: 0 } },
      ...{ sizeBytes, hash: contentHash(sorted), files: sorted, chunks },
    };
  };
  const many = Array.from({ length: 1_025 }, () => part(1));
  for (const [kind, fits, isTooLarge] of [
    ['config', [part(65_536)], [part(1_048_577)]],
    ['flows', Array.from({ length: 5 }, () => part(1_000_000)), Array.from({ length: 17 }, () => part(1_000_000))],
  ] as const) {
    t.equal(manifestFault(release(kind, fits)), undefined);
    t.match(manifestFault(release(kind, isTooLarge)), new RegExp(`^${kind} of \\d+ bytes; at most`));
    t.match(manifestFault(release(kind, many)), new RegExp(`^${kind} of 1025 files or chunks; at most`));
  }
  t.equal(manifestFault(release('models', many)), undefined);
  const padded = { ...part(1), storedBytes: 1_048_576 };
  t.match(manifestFault(release('models', [padded])), /of 1 bytes that is stored in 1048576/, 'nor by what is sent');
});

test('a chunk has one size, and a release one hash, however it was cut', async (t) => {
  const manifest = sampleManifest();
  const [chunk] = manifest.chunks;
  if (chunk === undefined) throw new Error('no chunk');
  const twice = {
    ...manifest,
    chunks: [chunk, { ...chunk, storedBytes: 1 }, ...manifest.chunks.slice(2)],
  };
  t.match(
    manifestFault({ ...twice, sizeBytes: twice.chunks.reduce((sum, one) => sum + one.sizeBytes, 0) }),
    /files of/,
  );
  const [file, ...files] = manifest.files;
  if (file === undefined) throw new Error('no file');
  for (const change of [
    { mode: 0o755 },
    { path: 'LICENSE2' },
    { sizeBytes: file.sizeBytes + 1 },
    { sha256: 'a'.repeat(64) },
  ]) {
    t.not(contentHash([{ ...file, ...change } as typeof file, ...files]), manifest.hash, JSON.stringify(change));
  }
});

test('what one release has to be sent to become another', async (t) => {
  const from = sampleManifest();
  const [license, ...rest] = from.files;
  if (license === undefined) throw new Error('no file');
  const id = randomBytes(32).toString('hex');
  const added = { id, sizeBytes: 1_000, storedBytes: 300 };
  const to = {
    ...from,
    files: [{ ...license, sha256: id }, ...rest.slice(0, -1), { ...license, path: 'zz' }],
    chunks: [...from.chunks, added, added],
  };
  const all = new Map(to.chunks.map((chunk) => [chunk.id, chunk.storedBytes]));
  const whole = [...all.values()].reduce((sum, bytes) => sum + bytes, 0) + 50;
  t.same(diffReleases(from, to, 50), {
    ...{ chunks: 1, chunkBytes: 300, bytes: 350, wholeBytes: whole },
    deltaPct: Math.round((350 / whole) * 10_000) / 100,
    ...{ added: ['zz'], removed: [rest.at(-1)?.path], changed: [license.path] },
  });
  t.match(diffReleases(from, from, 0), { chunks: 0, bytes: 0, deltaPct: 0, added: [], removed: [], changed: [] });
});
