import type { RequestListener, Server } from 'node:http';
import { createServer, type Socket } from 'node:net';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { listenAt } from './socket-path.js';

const MOST_CONNECTIONS = 8;
const MOST_HEADER_BYTES = 4_096;
const REQUEST_WITHIN_MS = 2_000;

export interface TextPage {
  close(): Promise<void>;
}

/**
 * Serves one text by HTTP on a Unix socket, `GET url` and nothing else (404, 405). Who asks while the text is being made gets
 * the same one; connections above 8 are dropped, and so is one that is not done within 2 s.
 * @throws AppError `socket-taken`, `socket-failed`
 */
export async function serveText(options: {
  path: string;
  url: string;
  contentType: string;
  text: () => Promise<string>;
  logger: Logger;
}): Promise<TextPage> {
  const { path, url, contentType, logger } = options;
  let making: Promise<string> | undefined;
  const text = (): Promise<string> => {
    making ??= options.text().finally(() => {
      making = undefined;
    });
    return making;
  };
  const answer: RequestListener = (asked, response) => {
    // A body is of no interest, nor is another request on this connection.
    asked.resume();
    response.setHeader('connection', 'close');
    if (asked.url !== url) return void response.writeHead(404).end();
    if (asked.method !== 'GET') return void response.writeHead(405, { allow: 'GET' }).end();
    text().then(
      (body) => response.writeHead(200, { 'content-type': contentType }).end(body),
      (error: unknown) => {
        logger.error({ path, error: errorText(error) }, 'a page could not be made');
        response.writeHead(500).end();
      },
    );
  };
  // Whoever connects first makes node:http load: 6 MB of memory that a process which nobody asks does without.
  let http: Promise<Server> | undefined;
  const connections = new Set<Socket>();
  const server = createServer((socket) => {
    const tooLate = setTimeout(() => socket.destroy(), REQUEST_WITHIN_MS);
    connections.add(socket);
    socket
      .on('error', () => socket.destroy())
      .on('close', () => {
        clearTimeout(tooLate);
        connections.delete(socket);
      });
    http ??= import('node:http').then((module) => module.createServer({ maxHeaderSize: MOST_HEADER_BYTES }, answer));
    http.then((one) => one.emit('connection', socket));
  });
  server.maxConnections = MOST_CONNECTIONS;
  await listenAt(server, path);
  server.on('error', (error) => logger.error({ path, error: errorText(error) }, 'the socket failed'));
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of connections) socket.destroy();
      }),
  };
}

/** @throws AppError `page-unreadable`: nobody answers, not with 200, not within `timeoutMs`, or with more than `mostBytes` */
export async function readText(options: {
  path: string;
  url: string;
  timeoutMs: number;
  mostBytes: number;
}): Promise<string> {
  const { path, url, timeoutMs, mostBytes } = options;
  const { request } = await import('node:http');
  return new Promise((resolve, reject) => {
    const fail = (why: string) => reject(new AppError('page-unreadable', `${path} gives no ${url} (${why})`));
    const asked = request(
      { socketPath: path, path: url, agent: false, signal: AbortSignal.timeout(timeoutMs) },
      (answer) => {
        const chunks: Buffer[] = [];
        let sizeBytes = 0;
        answer.on('data', (chunk: Buffer) => {
          sizeBytes += chunk.length;
          if (sizeBytes > mostBytes) asked.destroy(new Error(`more than ${mostBytes} bytes`));
          else chunks.push(chunk);
        });
        answer.on('error', (error) => fail(errorText(error)));
        answer.on('end', () => {
          if (answer.statusCode === 200) resolve(Buffer.concat(chunks).toString('utf8'));
          else fail(`status ${answer.statusCode}`);
        });
      },
    );
    asked.on('error', (error) => fail(errorText(error)));
    asked.end();
  });
}
