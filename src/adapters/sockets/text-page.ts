import { createServer, request } from 'node:http';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { listenAt } from './socket-path.js';

const MOST_CONNECTIONS = 8;
const MOST_HEADER_BYTES = 4_096;
const REQUEST_WITHIN_MS = 2_000;
/** How often connections are looked over for those that take longer. */
const LOOK_OVER_MS = 1_000;

export interface TextPage {
  close(): Promise<void>;
}

/**
 * Serves one text by HTTP on a Unix socket, `GET url` and nothing else (404, 405). Who asks while the text is being made gets
 * the same one; connections above 8 are dropped, and so are requests that take longer than 2 s to come.
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
  const limits = {
    maxHeaderSize: MOST_HEADER_BYTES,
    headersTimeout: REQUEST_WITHIN_MS,
    requestTimeout: REQUEST_WITHIN_MS,
    connectionsCheckingInterval: LOOK_OVER_MS,
  };
  const server = createServer(limits, (asked, answer) => {
    // A body is of no interest, nor is another request on this connection.
    asked.resume();
    answer.setHeader('connection', 'close');
    if (asked.url !== url) return void answer.writeHead(404).end();
    if (asked.method !== 'GET') return void answer.writeHead(405, { allow: 'GET' }).end();
    text().then(
      (body) => answer.writeHead(200, { 'content-type': contentType }).end(body),
      (error: unknown) => {
        logger.error({ path, error: errorText(error) }, 'a page could not be made');
        answer.writeHead(500).end();
      },
    );
  });
  server.maxConnections = MOST_CONNECTIONS;
  await listenAt(server, path);
  server.on('error', (error) => logger.error({ path, error: errorText(error) }, 'the socket failed'));
  return {
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/** @throws AppError `page-unreadable`: nobody answers, not with 200, not within `timeoutMs`, or with more than `mostBytes` */
export function readText(options: {
  path: string;
  url: string;
  timeoutMs: number;
  mostBytes: number;
}): Promise<string> {
  const { path, url, timeoutMs, mostBytes } = options;
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
