import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { createConnection, type Server, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { AppError } from '../../core/errors.js';
import { makeFolder } from '../../core/folder.js';

/** Room for `sun_path` (unix(7)), the closing zero apart. */
const MOST_PATH_BYTES = 107;

/**
 * Listens on a Unix socket (mode 0660; the folder is made, a file that a dead server left is removed).
 * @throws AppError `socket-taken` if another server listens there, `socket-failed` if the path can't be used
 */
export async function listenAt(server: Server, path: string): Promise<void> {
  await makeWay(path);
  await new Promise<void>((resolve, reject) => {
    const fail = (error: NodeJS.ErrnoException) => reject(socketFailed(path, error.code ?? error.message));
    server.once('error', fail);
    server.listen(path, () => {
      server.off('error', fail);
      resolve();
    });
  });
  chmodSync(path, 0o660);
}

/** @throws AppError `socket-unreachable` */
export function openSocket(path: string, timeoutMs: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    const fail = (why: string) => {
      clearTimeout(timer);
      socket.destroy();
      reject(new AppError('socket-unreachable', `nobody answers on ${path} (${why})`));
    };
    const onError = (error: NodeJS.ErrnoException) => fail(error.code ?? error.message);
    const timer = setTimeout(() => fail('timeout'), timeoutMs);
    socket.once('error', onError);
    socket.once('connect', () => {
      clearTimeout(timer);
      socket.off('error', onError);
      resolve(socket);
    });
  });
}

async function makeWay(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MOST_PATH_BYTES) {
    throw socketFailed(path, `longer than ${MOST_PATH_BYTES} bytes; choose a shorter folder`);
  }
  makeFolder(dirname(path), 0o777);
  const socket = await openSocket(path, 1_000).catch(() => undefined);
  if (socket !== undefined) {
    socket.destroy();
    throw new AppError('socket-taken', `another process serves ${path}`, {
      remedy: 'End it, or choose another folder',
    });
  }
  const left = lstatSync(path, { throwIfNoEntry: false });
  if (left === undefined) return;
  if (!left.isSocket()) throw socketFailed(path, 'what is there is no socket');
  unlinkSync(path);
}

function socketFailed(path: string, why: string): AppError {
  return new AppError('socket-failed', `can't serve ${path} (${why})`);
}
