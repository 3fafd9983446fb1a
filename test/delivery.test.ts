import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type Test, test } from 'tap';
import { ManualClock, systemClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { chunkFile } from '../src/fleet/manifest.js';
import { PieceServer } from '../src/manager/piece-server.js';
import {
  isRepositoryPath,
  MOST_MESSAGE_BYTES,
  MOST_PIECE_BYTES,
  readPiece,
  readPieceRequest,
  writePiece,
} from '../src/protocol/artefact-piece.js';
import { MANAGER_ID, topic } from '../src/protocol/topics.js';
import { Artefacts, MOST_IN_FLIGHT, type Piece, type PieceTransport } from '../src/update/artefacts.js';
import { metadataByArtefacts } from '../src/update/metadata-by-artefacts.js';
import { MqttPieces } from '../src/update/mqtt-pieces.js';
import { Pace } from '../src/update/pace.js';
import { PartialFiles } from '../src/update/partial-files.js';
import { seededRandom } from './support/random.js';
import { Site, until } from './support/site.js';
import { TcpFront } from './support/tcp-front.js';

const up = (station: string, path: string): string => topic('home', station, 'up', path);
const down = (station: string, path: string): string => topic('home', station, 'down', path);
const forever = new AbortController().signal;

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-delivery-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function codeOf(promise: Promise<unknown>): Promise<string> {
  return promise.then(
    () => 'done',
    (error: unknown) => (error instanceof AppError ? error.code : String(error)),
  );
}

/** Writes a chunk of `bytes` into a repository. @returns its path there */
function putChunk(dir: string, bytes: Uint8Array): string {
  const path = chunkFile(createHash('sha256').update(bytes).digest('hex'));
  mkdirSync(dirname(join(dir, path)), { recursive: true });
  writeFileSync(join(dir, path), bytes);
  return path;
}

function randomBytesOf(seed: number, bytes: number): Uint8Array {
  const random = seededRandom(seed);
  return Uint8Array.from({ length: bytes }, () => 256 * random());
}

const unpaced = (): Pace => new Pace({ rateBps: Infinity, isHeld: () => false, clock: systemClock });

let site: Site;
test('a site starts', async () => {
  site = await Site.start();
});

/** A station's end of deliveries, fed by its link as the station does. */
async function receiver(
  t: Test,
  more: { port?: number; partials?: PartialFiles; before?: readonly PieceTransport[]; pace?: Pace } = {},
) {
  const { link } = site.link('door', [], more.port === undefined ? {} : { port: more.port });
  const refused = new Counters<string>();
  const pieces = new MqttPieces({ link, site: 'home', station: 'door', clock: systemClock, refused });
  const messages: number[] = [];
  link.subscribe(down('door', 'chunk/+'), (message) => {
    messages.push(message.body.byteLength);
    pieces.take(message.topic.split('/down/')[1] ?? '', message.body);
  });
  link.start();
  await until(() => link.state.connected);
  const artefacts = new Artefacts({
    transports: [...(more.before ?? []), pieces],
    ...{ job: 'job-1', clock: systemClock, refused },
    pace: more.pace ?? unpaced(),
    partials: more.partials ?? null,
  });
  t.teardown(() => link.close());
  return { link, pieces, artefacts, refused, messages };
}

async function server(t: Test, dir: string) {
  const { link } = site.link(MANAGER_ID, []);
  const served = new PieceServer({ link, site: '+', dir, clock: systemClock, logger: silentLogger });
  link.start();
  await until(() => link.state.connected);
  t.teardown(async () => {
    served.close();
    await link.close();
  });
  return { link, served };
}

test('a file comes whole over MQTT, in messages of 64 KiB at most, and what is not there is told', async (t) => {
  const dir = folder(t);
  const whole = randomBytesOf(1, 3 * MOST_PIECE_BYTES + 1_000);
  const path = putChunk(dir, whole);
  const { served } = await server(t, dir);
  const { artefacts, messages, pieces, refused } = await receiver(t);
  const progress: number[] = [];
  const came = await artefacts.fetch(path, {
    mostBytes: whole.length,
    signal: forever,
    onProgress: (bytes) => progress.push(bytes),
  });
  t.ok(Buffer.from(whole).equals(came));
  t.equal(Math.max(...messages), MOST_MESSAGE_BYTES, 'at the bound of a packet, through the real broker');
  t.same(progress, [1, 2, 3].map((n) => n * MOST_PIECE_BYTES).concat(whole.length));
  t.equal(pieces.waiting, 0);
  const exact = putChunk(dir, whole.subarray(0, MOST_PIECE_BYTES));
  t.equal((await artefacts.fetch(exact, { mostBytes: MOST_PIECE_BYTES, signal: forever })).length, MOST_PIECE_BYTES);
  t.equal(await codeOf(artefacts.fetch(path, { mostBytes: whole.length - 1, signal: forever })), 'artefact-too-large');
  const absent = chunkFile('0'.repeat(64));
  t.equal(await codeOf(artefacts.fetch(absent, { mostBytes: 10, signal: forever })), 'artefact-missing');
  t.same(refused.all(), { 'artefact-too-large': 1 });
  t.same(served.refused.all(), { missing: 1 });

  const metadata = metadataByArtefacts(artefacts, 1_000);
  mkdirSync(join(dir, 'metadata'));
  writeFileSync(join(dir, 'metadata/timestamp.json'), 'signed');
  const parts = await metadata.read('metadata/timestamp.json', forever);
  const read: Uint8Array[] = [];
  for await (const part of parts ?? []) read.push(part);
  t.equal(Buffer.concat(read).toString(), 'signed');
  t.equal(await metadata.read('metadata/2.root.json', forever), undefined);
  t.equal(await metadata.read('pending/root.json', forever), undefined);
});

test('a transfer goes on by its offset after cuts, an outage of the broker and a restart of the station', async (t) => {
  const dir = folder(t);
  const whole = randomBytesOf(2, 40 * MOST_PIECE_BYTES);
  const path = putChunk(dir, whole);
  await server(t, dir);
  const front = await TcpFront.start(site.port);
  t.teardown(() => front.close());
  const partials = await PartialFiles.open(join(dir, 'partial'));
  const first = await receiver(t, { port: front.port, partials });
  const stop = new AbortController();
  const restart = new AppError('restart', 'the station is started again');
  const faults = [
    () => front.cut(),
    () => process.kill(site.host.broker.pid ?? 0, 'SIGKILL'),
    () => front.cut(),
    () => stop.abort(restart),
  ];
  const begun = first.artefacts.fetch(path, {
    mostBytes: whole.length,
    signal: stop.signal,
    onProgress: (bytes) => {
      if (bytes >= (5 - faults.length) * 5 * MOST_PIECE_BYTES) faults.shift()?.();
    },
  });
  t.equal(await codeOf(begun), 'restart');
  t.equal(faults.length, 0);
  const kept = (await partials.read(path, whole.length)).length;
  t.ok(kept >= 20 * MOST_PIECE_BYTES, `${kept} bytes are kept`);
  await first.link.close();

  const second = await receiver(t, { partials: await PartialFiles.open(join(dir, 'partial')) });
  const came = await second.artefacts.fetch(path, { mostBytes: whole.length, signal: forever });
  t.ok(Buffer.from(whole).equals(came));
  t.equal(second.artefacts.cameBytes.get('mqtt'), whole.length - kept, 'no more than was lacking');
  t.same(readdirSync(join(dir, 'partial')), [], 'what is whole is not kept');
});

test('a station that was away for a day asks again when it is back, and only then', async (t) => {
  const clock = new ManualClock();
  const said: string[] = [];
  let tell = (_: boolean): void => {};
  let connected = false;
  const link = {
    get state() {
      return { connected, protocol: null, fault: null };
    },
    onState: (listener: (state: { connected: boolean; protocol: null; fault: null }) => void) => {
      tell = (is) => {
        connected = is;
        listener({ connected: is, protocol: null, fault: null });
      };
    },
    publish: async ({ body }: { body: string | Uint8Array }) => {
      said.push(String(body));
    },
  };
  const refused = new Counters<string>();
  const pieces = new MqttPieces({ link, site: 'home', station: 'door', clock, refused });
  const asked = { job: 'job-1', path: 'metadata/timestamp.json', offset: 0, lengthBytes: 9 };
  const piece = pieces.piece(asked, forever);
  clock.advance(86_400_000);
  t.equal(said.length, 0);
  tell(true);
  t.equal(said.length, 1);
  clock.advance(4_000);
  t.equal(said.length, 2, 'said again, since nobody answers');
  const request = readPieceRequest(Buffer.from(said[1] ?? ''));
  if (!request.ok) throw new Error(request.fault);
  t.match(request.value, { seq: 1, path: asked.path });

  const data = Buffer.from('signed');
  const answer = { status: 'data', seq: 0, offset: 0, fileBytes: 6, tag: 'a'.repeat(16), data } as const;
  const { id } = request.value;
  const forged: [string, Uint8Array][] = [
    ['chunk/job-1', Buffer.from('rubbish')],
    ['chunk/job-1', writePiece({ ...answer, id: '0'.repeat(16) })],
    ['chunk/job-2', writePiece({ ...answer, id })],
    ['chunk/job-1', writePiece({ ...answer, id, data: data.subarray(1) })],
    ['chunk/job-1', writePiece({ ...answer, id, offset: 1, fileBytes: 7 })],
  ];
  for (const [path, body] of forged) pieces.take(path, body);
  t.equal(pieces.waiting, 1, 'none of them is taken');
  for (let n = 0; n < 2; n++) pieces.take('chunk/job-1', writePiece({ ...answer, id }));
  t.match(await piece, { fileBytes: 6 });
  await until(() => pieces.waiting === 0);
  pieces.take('chunk/job-1', writePiece({ ...answer, id }));
  t.match(refused.all(), { 'piece-malformed': 1, 'piece-unasked': 1, 'piece-not-as-asked': 3 });
  t.ok((refused.get('piece-duplicate') ?? 0) >= 1);
  t.equal(clock.timers, 0);
});

test('only the files of a repository are served, and no station has more than its turn', async (t) => {
  for (const path of [
    ...['../keys/root.pem', 'metadata/../pending/root.json', 'pending/root.json', '/etc/passwd', 'metadata/root.json'],
    ...[
      'chunks/00/../../x.zst',
      `chunks/11/${'0'.repeat(64)}.zst`,
      'releases/1.0.0/x64/release.json',
      'metadata/0.root.json',
    ],
    ...['releases/../x64/manifest.json', 'releases/1..0/x64/manifest.json', 'metadata/1.rescue.json', ''],
  ]) {
    t.notOk(isRepositoryPath(path), path);
  }
  for (const path of [
    ...[
      'metadata/timestamp.json',
      'metadata/12.root.json',
      'flows/1.2.0-rc.1/any/manifest.json',
      'releases/1.0.0/x64/manifest.json.zst',
    ],
    chunkFile('ab'.repeat(32)),
  ]) {
    t.ok(isRepositoryPath(path), path);
  }
  t.notOk(readPieceRequest(Buffer.alloc(2_000)).ok || readPieceRequest(Buffer.from('{')).ok);
  t.notOk(
    readPiece(Buffer.alloc(31)).ok ||
      readPiece(Buffer.alloc(MOST_MESSAGE_BYTES + 1)).ok ||
      readPiece(Buffer.alloc(40)).ok,
  );

  const dir = folder(t);
  writeFileSync(join(dir, 'secret'), 'secret');
  const linked = chunkFile('0'.repeat(64));
  mkdirSync(dirname(join(dir, linked)), { recursive: true });
  symlinkSync('../../secret', join(dir, linked));
  const heard: string[] = [];
  let hear = (_: object): void => {};
  const sent: (() => void)[] = [];
  const link = {
    subscribe: (_: string, listener: (message: never) => void) => {
      hear = listener as (message: object) => void;
    },
    publish: ({ topic: to, body }: { topic: string; body: string | Uint8Array }) => {
      const read = readPiece(body as Uint8Array);
      heard.push(`${to.split('/')[4]} ${read.ok ? read.value.status : read.fault}`);
      return new Promise<void>((resolve) => sent.push(resolve));
    },
  };
  const served = new PieceServer({ link, site: 'home', dir, clock: systemClock, logger: silentLogger });
  const request = { v: 1, id: '0'.repeat(16), seq: 0, path: linked, offset: 0, lengthBytes: 100 };
  const ask = (station: string, more: object = {}, retained = false): void =>
    hear({
      topic: up(station, 'chunk-req/job-1'),
      body: Buffer.from(JSON.stringify({ ...request, ...more })),
      ...{ retained, duplicate: false, receivedAtMs: 0 },
    });
  ask('door', { path: '../secret' });
  ask('door', { lengthBytes: 1e9 });
  ask('door', {}, true);
  for (let n = 0; n < 40; n++) ask('greedy');
  for (let n = 0; n < 2; n++) ask('door', { path: chunkFile('1'.repeat(64)) });
  t.match(served.figures(), { waiting: 18 });
  await until(() => sent.length === 4);
  while (heard.length < 22) {
    sent.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  t.same(served.refused.all(), { malformed: 2, retained: 1, 'too-many': 20, unreadable: 20, missing: 2 });
  t.ok(heard.lastIndexOf('door missing') < 10, 'the one who asks for much is not in the way of the other');
  t.equal(heard.filter((one) => one === 'greedy unreadable').length, 20, 'no link leads out of the repository');
  served.close();
});

test('a file that is replaced while it comes is begun anew, ways that fail rest, and pieces are bounded', async (t) => {
  const clock = new ManualClock();
  const refused = new Counters<string>();
  const file = randomBytesOf(3, 20 * MOST_PIECE_BYTES);
  let version = 0;
  let inFlight = 0;
  let most = 0;
  const piece = async (offset: number, lengthBytes: number): Promise<Piece> => {
    most = Math.max(most, ++inFlight);
    await new Promise((resolve) => setImmediate(resolve));
    inFlight -= 1;
    return { data: file.subarray(offset, offset + lengthBytes), fileBytes: file.length, tag: `v${version}` };
  };
  let asked = 0;
  const fast: PieceTransport = {
    name: 'https',
    piece: async () => {
      asked += 1;
      throw new AppError('artefact-unreachable', 'no way');
    },
  };
  const sure: PieceTransport = { name: 'mqtt', piece: ({ offset, lengthBytes }) => piece(offset, lengthBytes) };
  const pace = new Pace({ rateBps: Infinity, isHeld: () => false, clock });
  const artefacts = new Artefacts({ transports: [fast, sure], job: 'j', pace, partials: null, clock, refused });
  const options = { mostBytes: file.length, signal: forever };
  const onProgress = (bytes: number): void => {
    if (version === 0 && bytes > 5 * MOST_PIECE_BYTES) version = 1;
  };
  t.ok(Buffer.from(file).equals(await artefacts.fetch('x', { ...options, onProgress })));
  t.match(refused.all(), { 'artefact-unreachable-https': 1 });
  t.equal(asked, 1, 'a way that is not open is not tried for each piece');
  t.ok((refused.get('artefact-changed') ?? 0) >= 1);
  await Promise.all(Array.from({ length: 5 }, () => artefacts.fetch('x', options)));
  t.equal(most, MOST_IN_FLIGHT, 'of all files together');
  for await (const _ of artefacts.read('x', options)) break;
  clock.advance(15_000);
  await artefacts.fetch('x', options);
  t.ok(asked > 1, 'it is tried again when it has rested');
  t.same([...artefacts.cameBytes.keys()], ['mqtt']);
});

test('files take no more of the line than they may, and nothing during a call', async (t) => {
  const clock = new ManualClock();
  let isCall = false;
  const pace = new Pace({ rateBps: 80_000, isHeld: () => isCall, clock });
  const taken: number[] = [];
  const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
  const take = async (): Promise<void> => {
    await pace.take(10_000, forever);
    taken.push(clock.nowMs());
  };
  const all = [take(), take(), take()];
  await settle();
  clock.advance(1_000);
  await settle();
  isCall = true;
  for (let n = 0; n < 50; n++) {
    clock.advance(200);
    await settle();
  }
  t.same(taken, [0, 1_000], '10,000 bytes a second');
  isCall = false;
  clock.advance(200);
  await Promise.all(all);
  t.equal(taken.length, 3);
  const stop = new AbortController();
  const late = codeOf(pace.take(1e9, stop.signal).then(() => pace.take(1, stop.signal)));
  await settle();
  const others = [1e9, 1e9].map((bytes) => codeOf(pace.take(bytes, stop.signal)));
  stop.abort(new AppError('canceled', 'no more'));
  t.same(await Promise.all([late, ...others]), ['canceled', 'canceled', 'canceled']);
  t.equal(clock.timers, 0);
  const spentMs = 1e9 / 10;
  clock.advance(spentMs);
  await take();
  t.equal(taken.length, 4, 'who gave up waiting has spent nothing of it');
});

test('what is kept of files is bounded', async (t) => {
  const dir = folder(t);
  const partials = await PartialFiles.open(dir);
  for (let n = 0; n < 20; n++) await partials.append(`file-${n}`, Buffer.from('part'));
  for (const [n, name] of readdirSync(dir).entries()) utimesSync(join(dir, name), n, n);
  t.equal(readdirSync(dir).length, 16, 'while they come');
  t.equal((await partials.read('file-3', 99)).length, 0, 'the oldest went');
  const again = await PartialFiles.open(dir);
  await again.append('another', Buffer.from('part'));
  t.equal(readdirSync(dir).length, 16, 'and after a start');
  await partials.append('large', Buffer.alloc(100));
  t.equal((await partials.read('large', 99)).length, 0, 'more than the file may have is none of it');
});

test('the site stops', async () => {
  await site.stop();
});
