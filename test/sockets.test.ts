import { once } from 'node:events';
import { existsSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'tap';
import { z } from 'zod';
import { connectRpc, serveRpc } from '../src/adapters/sockets/rpc.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';

const requests = {
  double: { params: z.object({ value: z.int() }), result: z.object({ value: z.int() }) },
  refuse: { params: z.object({}), result: z.object({}) },
  break: { params: z.object({}), result: z.object({}) },
  lie: { params: z.object({}), result: z.object({ value: z.int() }) },
  wait: { params: z.object({}), result: z.object({ done: z.boolean() }) },
} as const;
const notifications = { ticked: z.object({ count: z.int() }) } as const;

const folder = mkdtempSync(join(tmpdir(), 'entryphone-sockets-'));
const path = join(folder, 'run', 'a.sock');
let finishWait = (): void => {};

function serve(refused = new Counters<string>()) {
  return serveRpc({
    path,
    requests,
    notifications,
    logger: silentLogger,
    refused,
    onConnect: (peer) => peer.notify('ticked', { count: 0 }),
    handlers: {
      double: ({ value }) => ({ value: value * 2 }),
      refuse: () => {
        throw new AppError('door-shut', 'the door is shut', { remedy: 'Knock' });
      },
      break: () => {
        throw new Error('secret detail');
      },
      lie: () => ({ value: 'many' }) as unknown as { value: number },
      wait: () =>
        new Promise<{ done: boolean }>((resolve) => {
          finishWait = () => resolve({ done: true });
        }),
    },
  });
}

function connect(events: string[] = [], timeoutMs = 2_000) {
  return connectRpc({
    path,
    requests,
    notifications,
    timeoutMs,
    onNotification: (name, params) => events.push(`${name} ${params.count}`),
    onClose: () => events.push('closed'),
  });
}

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise(setImmediate);
}

const frame = (body: string): string => `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

/** Sends raw bytes; resolves with what came back once the server closed the connection (or answered, where it answers). */
async function sendRaw(bytes: string | Buffer, until: 'close' | 'answer' = 'close'): Promise<string> {
  const socket: Socket = createConnection(path);
  let heard = '';
  socket.on('error', () => {});
  const ended = new Promise<void>((resolve) => {
    socket.on('close', () => resolve());
    socket.on('data', (chunk) => {
      heard += chunk.toString();
      if (until === 'answer' && heard.includes('"id":1')) resolve();
    });
  });
  socket.write(bytes);
  await ended;
  socket.destroy();
  return heard;
}

test('requests, notifications and errors cross, checked both ways', async (t) => {
  const refused = new Counters<string>();
  const server = await serve(refused);
  t.equal(statSync(path).mode & 0o777, 0o660);
  const events: string[] = [];
  const client = await connect(events);
  t.same(await client.call('double', { value: 21 }), { value: 42 });
  t.same(events, ['ticked 0'], 'onConnect speaks to the new client');
  const answers = await Promise.all(Array.from({ length: 60 }, (_, value) => client.call('double', { value })));
  t.same(
    answers.map((one) => one.value),
    Array.from({ length: 60 }, (_, value) => value * 2),
  );
  await t.rejects(client.call('refuse', {}), { code: 'door-shut', message: 'the door is shut', remedy: 'Knock' });
  await t.rejects(client.call('break', {}), { code: 'internal', message: 'break failed' }, 'details stay inside');
  await t.rejects(client.call('lie', {}), { code: 'internal' });
  await t.rejects(client.call('double', { value: 'x' } as unknown as { value: number }), { code: 'bad-params' });
  server.notify('ticked', { count: 7 });
  server.notify('ticked', { count: 0.5 });
  await client.call('double', { value: 1 });
  t.same(events, ['ticked 0', 'ticked 7'], 'a notification that breaks its schema is not sent');
  t.same(refused.all(), { 'bad-result': 1, 'bad-notification': 1 });

  const hasty = await connect([], 20);
  await t.rejects(hasty.call('wait', {}), { code: 'timeout' });
  hasty.close();
  const pending = client.call('wait', {});
  await Promise.all([t.rejects(pending, { code: 'connection-closed' }), server.close()]);
  await until(() => events.at(-1) === 'closed');
  t.notOk(existsSync(path), 'the socket file is gone');
  await t.rejects(client.call('double', { value: 1 }), { code: 'connection-closed' });
  await t.rejects(connect(), { code: 'socket-unreachable' });
});

test('bad input is counted, its client closed or told, and the others stay served', async (t) => {
  const refused = new Counters<string>();
  const server = await serve(refused);
  const witness = await connect();
  const garbage = Buffer.alloc(5_000, 0xa7);
  const closing: [fault: string, bytes: string | Buffer][] = [
    ['bad-header', garbage],
    ['bad-header', 'Content-Length: -5\r\n\r\n'],
    ['bad-header', 'Content-Kind: text\r\n\r\n{}'],
    ['too-large', 'Content-Length: 1048577\r\n\r\n'],
    ['too-large', 'Content-Length: 999999999999999\r\n\r\n'],
    ['bad-json', frame('{"jsonrpc":')],
    ['bad-json', frame('')],
    ['bad-message', frame('[]')],
    ['bad-message', frame('null')],
    ['bad-message', frame('{"jsonrpc":"2.0","method":"$/cancelRequest","params":null}')],
    ['bad-message', frame(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'm'.repeat(65) }))],
  ];
  for (const [fault, bytes] of closing) {
    const before = refused.get(fault);
    const heard = await sendRaw(bytes);
    t.equal(
      refused.get(fault),
      before + 1,
      `${fault}: ${bytes.toString('latin1', 0, 40).split('\r')[0]?.slice(0, 60)}`,
    );
    t.notMatch(heard, /"id":1/);
  }
  const request = (method: string, params: unknown) => frame(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }));
  t.match(await sendRaw(request('constructor', {}), 'answer'), /-32601.*unknown-method/);
  t.match(await sendRaw(request('double', { value: 'two' }), 'answer'), /-32602.*bad-params/);
  t.match(await sendRaw(request('double', [2]), 'answer'), /-32602/);
  const slowly = Buffer.from(request('double', { value: 4 }));
  const socket = createConnection(path);
  let heard = '';
  socket.on('data', (chunk) => {
    heard += chunk.toString();
  });
  for (const byte of slowly) {
    socket.write(Buffer.of(byte));
    await new Promise(setImmediate);
  }
  while (!heard.includes('"value":8')) await once(socket, 'data');
  socket.destroy();
  t.same(refused.all(), {
    'bad-header': 3,
    'too-large': 2,
    'bad-json': 2,
    'bad-message': 4,
    'unknown-method': 1,
    'bad-params': 2,
  });

  const vanishing = createConnection(path);
  vanishing.write(request('wait', {}));
  await until(() => server.clientCount === 2);
  await witness.call('double', { value: 1 });
  vanishing.destroy();
  await until(() => server.clientCount === 1);
  finishWait();
  t.same(await witness.call('double', { value: 2 }), { value: 4 }, 'its answer goes nowhere and hurts nobody');

  const flood = Array.from({ length: 500 }, () => request('wait', {})).join('');
  const flooding = createConnection(path);
  flooding.write(flood);
  const answers = await new Promise<string>((resolve) => {
    let text = '';
    flooding.on('data', (chunk) => {
      text += chunk.toString();
      if (text.split('too-many').length > 436) resolve(text);
    });
  });
  flooding.destroy();
  t.match(answers, /too-many/, 'what is above 64 requests at once is refused');
  t.same(await witness.call('double', { value: 3 }), { value: 6 });
  witness.close();
  await server.close();
});

test('a stale socket file makes way; a living server, a folder and an endless path are named', async (t) => {
  const dead = createServer().listen(`${path}-elsewhere`);
  await once(dead, 'listening');
  renameSync(`${path}-elsewhere`, path);
  dead.close();
  t.ok(statSync(path).isSocket(), 'as after a crash: a file and nobody behind it');
  const server = await serve();
  const client = await connect();
  t.same(await client.call('double', { value: 1 }), { value: 2 });
  await t.rejects(serve(), { code: 'socket-taken' });
  t.same(await client.call('double', { value: 2 }), { value: 4 }, 'the first server is untouched');
  client.close();
  await server.close();
  const again = await serve();
  await again.close();
  const elsewhere = (place: string) =>
    serveRpc({
      path: place,
      requests: {},
      notifications: {},
      handlers: {},
      logger: silentLogger,
      refused: new Counters(),
    });
  await t.rejects(elsewhere(folder), { code: 'socket-failed' });
  await t.rejects(elsewhere(join(folder, 'x'.repeat(120))), { code: 'socket-failed' });
  rmSync(folder, { recursive: true });
});
