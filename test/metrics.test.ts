import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttpServer, request } from 'node:http';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Test, test } from 'tap';
import { Metrics } from '../src/adapters/metrics/metrics.js';
import { readText, serveText } from '../src/adapters/sockets/text-page.js';
import { ManualClock } from '../src/core/clock.js';
import { silentLogger } from '../src/core/logger.js';
import { agreement, started } from './support/engine.js';
import { freeUdpPort, Site } from './support/site.js';
import { configFile, Post } from './support/station-post.js';

const url = '/metrics';
const read = (path: string) => readText({ path, url, timeoutMs: 5_000, mostBytes: 262_144 });

function folder(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 'ep-metrics-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Status of one request, whatever it asks for. */
function statusOf(path: string, method: string, page: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: path, path: page, method, agent: false }, (answer) => {
      answer.resume().on('end', () => resolve(answer.statusCode));
    });
    asked.on('error', reject).end();
  });
}

/** What a raw connection was told until its end. */
function say(path: string, bytes: string): Promise<string> {
  return new Promise((resolve) => {
    let heard = '';
    const socket = createConnection(path, () => socket.write(bytes));
    socket.on('data', (chunk: Buffer) => {
      heard += chunk.toString('latin1');
    });
    socket.on('error', () => {}).on('close', () => resolve(heard));
  });
}

test('figures are those of the status: what is gone from it is gone from the text, and series are bounded', async (t) => {
  const metrics = new Metrics<{ counts: Record<string, number>; delayS: number | null }>('x_', {
    counted_total: {
      kind: 'counter',
      help: 'Counted',
      labels: ['class'],
      of: ({ counts }) => Object.entries(counts).map(([name, count]) => [count, { class: name }] as const),
    },
    delay_seconds: { kind: 'gauge', help: 'Delay', of: ({ delayS }) => (delayS === null ? [] : [[delayS]]) },
  });
  const first = await metrics.text({ counts: { a: 3, 'b"\n': 1 }, delayS: 0.5 });
  t.match(first, '# TYPE x_counted_total counter');
  t.match(first, 'x_counted_total{class="a"} 3\nx_counted_total{class="b\\"\\n"} 1\n');
  t.match(first, 'x_delay_seconds 0.5\n');
  const second = await metrics.text({ counts: { a: 2 }, delayS: null });
  t.match(second, 'x_counted_total{class="a"} 2\n');
  t.notMatch(second, /class="b|x_delay_seconds \d/);
  const many = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`class-${i}`, i]));
  t.equal((await metrics.text({ counts: many, delayS: null })).match(/^x_counted_total\{/gm)?.length, 64);
});

test('a page answers GET at its address alone, and lives through hostile clients', async (t) => {
  const path = join(folder(t), 'page.sock');
  let made = 0;
  let release = (_text: string): void => {};
  let text = (): Promise<string> => Promise.resolve('fine\n');
  const options = { path, url, contentType: 'text/plain', logger: silentLogger };
  const page = await serveText({
    ...options,
    text: () => {
      made += 1;
      return text();
    },
  });
  await t.rejects(serveText({ ...options, text }), { code: 'socket-taken' });
  t.equal(await read(path), 'fine\n');
  t.equal(await statusOf(path, 'GET', '/'), 404);
  t.equal(await statusOf(path, 'GET', '/metrics/../../etc/passwd'), 404);
  t.equal(await statusOf(path, 'POST', url), 405);
  t.match(await say(path, `GET ${url} HTTP/1.1\r\nHost: x\r\nX: ${'x'.repeat(10_000)}\r\n\r\n`), /^HTTP\/1.1 431/);
  t.match(await say(path, '\0\0\0 not HTTP at all\r\n\r\n'), /^HTTP\/1.1 400/);
  t.equal(made, 1, 'none of them had the text made');

  text = () =>
    new Promise((resolve) => {
      release = resolve;
    });
  const twice = [read(path), read(path)];
  while (made < 2) await new Promise(setImmediate);
  // The second has been taken in once a third, which needs no text, is answered.
  t.equal(await statusOf(path, 'GET', '/'), 404);
  release('once\n');
  t.same(await Promise.all(twice), ['once\n', 'once\n']);
  t.equal(made, 2, 'two who ask at once share one');

  text = () => Promise.reject(new Error('broken'));
  await t.rejects(read(path), { code: 'page-unreadable' });
  t.equal(await statusOf(path, 'GET', url), 500);
  // Connections that say nothing are ended, and then there is room again.
  text = () => Promise.resolve('still fine\n');
  await Promise.all(Array.from({ length: 12 }, () => say(path, `GET ${url} HTTP/1.1\r\n`)));
  t.equal(await read(path), 'still fine\n');
  await page.close();
  t.notOk(existsSync(path));
  await t.rejects(read(path), { code: 'page-unreadable' });
});

test('a reader bears with what comes: too much, too late', async (t) => {
  const path = join(folder(t), 'flood.sock');
  const server = createHttpServer((asked, answer) => {
    answer.writeHead(200);
    if (asked.url === '/flood') answer.end('x'.repeat(1_000_000));
    else answer.write('never done');
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  await t.rejects(readText({ path, url: '/flood', timeoutMs: 5_000, mostBytes: 1_000 }), { code: 'page-unreadable' });
  await t.rejects(readText({ path, url: '/slow', timeoutMs: 100, mostBytes: 1_000 }), { code: 'page-unreadable' });
});

test("the media process tells of its sessions by their calls' ids, and of itself", async (t) => {
  const dir = folder(t);
  const door = await started(dir, 'door', new ManualClock(), await freeUdpPort());
  t.teardown(() => door.engine.close());
  t.teardown(() => door.station.close());
  const path = join(dir, 'door', 'media-metrics.sock');
  const quiet = await read(path);
  t.match(quiet, /^entryphone_media_resident_memory_bytes [1-9]\d{6,}$/m);
  t.match(quiet, /^entryphone_media_event_loop_delay_seconds\{quantile="0.99"\} \d/m);
  t.match(quiet, /^entryphone_media_card_up\{card="playback"\} 1$/m);
  t.match(quiet, /^entryphone_media_playback_delay_seconds 0.02$/m);
  t.notMatch(quiet, 'call_id=');
  const sessionId = 'call-0001';
  const { local } = await door.station.call('session.open', { sessionId });
  await door.station.call('session.start', { sessionId, remote: { ...local, port: local.port + 1 }, ...agreement });
  const frame = { samples: new Int16Array(160), rateHz: 16_000, capturedAtMs: 0 } as const;
  for (let i = 0; i < 8; i++) door.microphone.listener?.frame(frame);
  const talking = await read(path);
  t.match(talking, 'entryphone_media_packets_sent_total{call_id="call-0001"} 4\n');
  t.match(talking, 'entryphone_media_card_up{card="capture"} 1\n');
  await door.station.call('session.close', { sessionId });
  t.notMatch(await read(path), 'call_id=', 'a call that is over leaves nothing behind');
});

test('the station gives its own figures, and those of the media process while that is there', async (t) => {
  const dir = folder(t);
  const site = await Site.start();
  t.teardown(() => site.stop());
  const url = `mqtts://127.0.0.1:${site.port}`;
  const credentials = site.host.credentialsOf('door');
  await Post.start(t, configFile(dir, 'door', url, credentials, 'flows: { enabled: false }'), dir);
  const path = join(dir, 'run', 'station-metrics.sock');
  const alone = await read(path);
  t.match(alone, 'entryphone_station_media_up 0\n');
  t.match(alone, /^entryphone_station_mqtt_waiting_messages \d+$/m);
  t.match(alone, 'entryphone_station_door_openings_total 0\n');
  t.notMatch(alone, /^entryphone_station_flows_running/m, 'without flows nothing is said of them');
  const good = [
    '# HELP entryphone_media_x Of {"things"}, \\n and more',
    '# TYPE entryphone_media_x gauge',
    'entryphone_media_x{a="1\\\\",b_2="{\\"}\\n",} -1.5e-7',
    'entryphone_media_x NaN',
    'entryphone_media_x 1',
  ];
  const bad = [
    '# TYPE entryphone_station_door_open gauge',
    'entryphone_station_door_open 0',
    'entryphone_media_x{a="1} 1',
    'entryphone_media_x one',
    'entryphone_media_x 1\rentryphone_station_door_open 0',
    'entryphone_media_x-y 1',
    '# TYPE entryphone_media_x house',
    `entryphone_media_x{${'a="1",'.repeat(5_000)}`,
  ];
  const media = await serveText({
    path: join(dir, 'run', 'media-metrics.sock'),
    url: '/metrics',
    contentType: 'text/plain',
    text: async () => `${[...bad, ...good].join('\n')}\n`,
    logger: silentLogger,
  });
  const both = await read(path);
  await media.close();
  t.match(both, 'entryphone_station_media_up 1\n');
  t.same(
    both.trimEnd().split('\n').slice(-good.length),
    good,
    'and nothing in the name of another, nor what nobody can read',
  );
  t.equal(both.match(/entryphone_media_x/g)?.length, good.length);
  const names = both.match(/(?<=^# TYPE )\S+/gm) ?? [];
  t.equal(new Set(names).size, names.length, 'each name once');
});
