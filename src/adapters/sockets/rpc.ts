import { createServer, type Socket } from 'node:net';
import {
  createMessageConnection,
  ErrorCodes,
  type MessageConnection,
  ResponseError,
  StreamMessageWriter,
} from 'vscode-jsonrpc/node';
import * as z from 'zod';
import type { Counters } from '../../core/counters.js';
import { AppError, errorText } from '../../core/errors.js';
import type { Logger } from '../../core/logger.js';
import { BoundedMessageReader } from './bounded-message-reader.js';
import { listenAt, openSocket } from './socket-path.js';

/** JSON-RPC 2.0 over Unix sockets; every message is checked by its zod schema when it is sent and when it comes. */
export type RequestMap = Record<string, { readonly params: z.ZodType; readonly result: z.ZodType }>;
export type NotificationMap = Record<string, z.ZodType>;

type Name<T> = keyof T & string;
type Maybe<T> = T | Promise<T>;

/** What answers each request of a client. An AppError that is thrown crosses the socket; any other error is logged and hidden. */
export type RpcHandlers<R extends RequestMap, N extends NotificationMap> = {
  readonly [K in Name<R>]: (params: z.output<R[K]['params']>, peer: RpcPeer<N>) => Maybe<z.input<R[K]['result']>>;
};

/** One client, seen from the server. */
export interface RpcPeer<N extends NotificationMap> {
  notify<K extends Name<N>>(name: K, params: z.input<N[K]>): void;
  onClose(listener: () => void): void;
}

export interface RpcServer<N extends NotificationMap> {
  /** To every client. */
  notify<K extends Name<N>>(name: K, params: z.input<N[K]>): void;
  readonly clientCount: number;
  /** Ends every connection and removes the socket file. */
  close(): Promise<void>;
}

export interface RpcClient<R extends RequestMap> {
  /**
   * @throws AppError as the handler threw it, or `timeout`, `connection-closed`, `unknown-method`, `bad-params`,
   * `bad-result`, `internal`
   * @param most for what takes its time: how long it may, in the place of the connection's `timeoutMs`
   */
  call<K extends Name<R>>(
    name: K,
    params: z.input<R[K]['params']>,
    most?: { readonly timeoutMs: number },
  ): Promise<z.output<R[K]['result']>>;
  close(): void;
}

/** The code of an error that carries an AppError in its `data` (JSON-RPC 2.0, 5.1: -32000 to -32099 are the server's). */
const APP_ERROR = -32_000;
const MOST_UNSENT_BYTES = 1_048_576;
const MOST_REQUESTS_AT_ONCE = 64;

const errorData = z.object({ code: z.string().max(64), remedy: z.string().max(1_000).optional() });

/**
 * Serves requests on a Unix socket (mode 0660; the folder is made, a file that a dead server left is removed).
 *
 * What clients do wrong is counted in `refused`: `bad-header`, `too-large`, `bad-json`, `bad-message` and `too-slow` (that
 * client is closed), `unknown-method`, `bad-params`, `too-many` (it gets an error), `unexpected-notification` (dropped).
 * @throws AppError `socket-taken` if another server listens there, `socket-failed` if the path can't be used
 */
export async function serveRpc<R extends RequestMap, N extends NotificationMap>(options: {
  path: string;
  requests: R;
  notifications: N;
  handlers: RpcHandlers<R, N>;
  onConnect?: (peer: RpcPeer<N>) => void;
  logger: Logger;
  refused: Counters<string>;
}): Promise<RpcServer<N>> {
  const { path, requests, notifications, handlers, logger, refused } = options;
  const clients = new Map<Socket, MessageConnection>();

  const notify = <K extends Name<N>>(
    targets: Iterable<[Socket, MessageConnection]>,
    name: K,
    params: z.input<N[K]>,
  ) => {
    const checked = notifications[name]?.safeParse(params);
    if (checked?.success !== true) {
      refused.count('bad-notification');
      logger.error(
        { notification: name, fault: checked?.error.issues[0]?.message },
        'a notification breaks its schema',
      );
      return;
    }
    for (const [socket, connection] of targets) {
      if (socket.writableLength > MOST_UNSENT_BYTES) {
        refused.count('too-slow');
        socket.destroy();
      } else {
        connection.sendNotification(name, checked.data).catch(() => socket.destroy());
      }
    }
  };

  const answer = async (name: string, params: unknown, peer: RpcPeer<N>): Promise<unknown> => {
    const request = Object.hasOwn(requests, name) ? requests[name] : undefined;
    const handler = Object.hasOwn(handlers, name) ? handlers[name] : undefined;
    if (request === undefined || handler === undefined) {
      refused.count('unknown-method');
      throw failure(ErrorCodes.MethodNotFound, new AppError('unknown-method', `there is no request ${name}`));
    }
    const checked = request.params.safeParse(params ?? {});
    if (!checked.success) {
      refused.count('bad-params');
      throw failure(ErrorCodes.InvalidParams, new AppError('bad-params', `${name}: ${firstFault(checked.error)}`));
    }
    let result: unknown;
    try {
      result = await (handler as (params: unknown, peer: RpcPeer<N>) => unknown)(checked.data, peer);
    } catch (error) {
      if (error instanceof AppError) throw failure(APP_ERROR, error);
      logger.error({ request: name, error: errorText(error) }, 'a request failed');
      throw failure(ErrorCodes.InternalError, new AppError('internal', `${name} failed`));
    }
    const checkedResult = request.result.safeParse(result);
    if (checkedResult.success) return checkedResult.data;
    refused.count('bad-result');
    logger.error({ request: name, fault: firstFault(checkedResult.error) }, 'a result breaks its schema');
    throw failure(ErrorCodes.InternalError, new AppError('internal', `${name} failed`));
  };

  const serve = (socket: Socket): void => {
    const connection = converse(socket, (fault) => {
      refused.count(fault);
      logger.warn({ fault, path }, 'a client of the socket sent what is no message; closed');
      socket.destroy();
    });
    const peer: RpcPeer<N> = {
      notify: (name, params) => notify([[socket, connection]], name, params),
      onClose: (listener) => void socket.once('close', listener),
    };
    let busy = 0;
    connection.onRequest(async (name, params) => {
      if (busy >= MOST_REQUESTS_AT_ONCE || socket.writableLength > MOST_UNSENT_BYTES) {
        refused.count('too-many');
        throw failure(APP_ERROR, new AppError('too-many', `more than ${MOST_REQUESTS_AT_ONCE} requests at once`));
      }
      busy += 1;
      try {
        return await answer(name, params, peer);
      } finally {
        busy -= 1;
      }
    });
    connection.onNotification(() => refused.count('unexpected-notification'));
    clients.set(socket, connection);
    socket.once('close', () => {
      clients.delete(socket);
      connection.dispose();
    });
    connection.listen();
    options.onConnect?.(peer);
  };

  const server = createServer(serve);
  await listenAt(server, path);
  server.on('error', (error) => logger.error({ path, error: errorText(error) }, 'the socket failed'));

  return {
    notify: (name, params) => notify([...clients], name, params),
    get clientCount() {
      return clients.size;
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of clients.keys()) socket.destroy();
      }),
  };
}

/**
 * Connects to a served socket. `timeoutMs` bounds the connecting and each call. `onNotification` gets what fits its schema,
 * the rest is dropped. `onClose` is called once, if the connection ends otherwise than by `close()`.
 * @throws AppError `socket-unreachable`
 */
export async function connectRpc<R extends RequestMap, N extends NotificationMap>(options: {
  path: string;
  requests: R;
  notifications: N;
  onNotification: <K extends Name<N>>(name: K, params: z.output<N[K]>) => void;
  onClose: () => void;
  timeoutMs: number;
}): Promise<RpcClient<R>> {
  const { path, requests, notifications, timeoutMs } = options;
  const socket = await openSocket(path, timeoutMs);
  let closedByUs = false;
  const connection = converse(socket, () => socket.destroy());
  connection.onNotification((name, params) => {
    const checked = Object.hasOwn(notifications, name) ? notifications[name]?.safeParse(params) : undefined;
    if (checked?.success === true) options.onNotification(name, checked.data as z.output<N[string]>);
  });
  socket.once('close', () => {
    connection.dispose();
    if (!closedByUs) options.onClose();
  });
  connection.listen();

  return {
    call: async (name, params, most) => {
      const request = requests[name];
      const checked = request?.params.safeParse(params);
      if (request === undefined || checked === undefined) throw new AppError('unknown-method', `no request ${name}`);
      if (!checked.success) throw new AppError('bad-params', `${name}: ${firstFault(checked.error)}`);
      if (socket.destroyed) throw connectionClosed(name);
      const withinMs = most?.timeoutMs ?? timeoutMs;
      const result = await withTimeout(connection.sendRequest(name, checked.data), withinMs, name).catch((error) => {
        throw toAppError(error, name);
      });
      const checkedResult = request.result.safeParse(result);
      if (!checkedResult.success) throw new AppError('bad-result', `${name}: ${firstFault(checkedResult.error)}`);
      return checkedResult.data as z.output<R[typeof name]['result']>;
    },
    close: () => {
      closedByUs = true;
      socket.destroy();
    },
  };
}

function converse(socket: Socket, onFault: (fault: string) => void): MessageConnection {
  // Without a listener of our own a reset connection would end the process.
  socket.on('error', () => socket.destroy());
  const connection = createMessageConnection(
    new BoundedMessageReader(socket, onFault),
    new StreamMessageWriter(socket),
  );
  connection.onError(() => socket.destroy());
  return connection;
}

function withTimeout<T>(promise: Promise<T>, timeoutMs: number, name: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new AppError('timeout', `${name}: no answer in ${timeoutMs} ms`)), timeoutMs);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

function failure(code: number, error: AppError): ResponseError<z.infer<typeof errorData>> {
  const { remedy } = error;
  return new ResponseError(code, error.message, { code: error.code, ...(remedy === undefined ? {} : { remedy }) });
}

function toAppError(error: unknown, name: string): AppError {
  if (error instanceof AppError) return error;
  if (!(error instanceof ResponseError)) return connectionClosed(name);
  const data = errorData.safeParse(error.data);
  if (!data.success) return connectionClosed(name);
  const { code, remedy } = data.data;
  return new AppError(code, error.message, remedy === undefined ? {} : { remedy });
}

function connectionClosed(name: string): AppError {
  return new AppError('connection-closed', `${name}: the connection ended before the answer`);
}

function firstFault(error: z.ZodError): string {
  const issue = error.issues[0];
  return issue === undefined ? 'invalid' : `${issue.path.join('.') || 'params'}: ${issue.message}`;
}
