import { closeSync, fsyncSync, openSync, renameSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { Clock } from '../../core/clock.js';
import { errorText } from '../../core/errors.js';
import { makeFolder } from '../../core/folder.js';
import type { Logger } from '../../core/logger.js';

/** SQLITE_CORRUPT and SQLITE_NOTADB; SQLITE_ERROR is a table of another making. */
const CORRUPT = 11;
const DAMAGE = new Set([1, CORRUPT, 26]);

/**
 * Opens a database of ours (mode 0600; made where there is none), so that what it has taken outlasts a power cut. A file that is not
 * ours, or damaged, is set aside under another name, and begun anew.
 * @param schema statements that make the tables, and some that fail where they are of another making
 * @returns `setAside`: where a damaged file went to; null where there was none
 * @throws what the folder's file system says when it can't be written
 */
export function openDatabase(options: { path: string; schema: readonly string[]; clock: Clock; logger: Logger }): {
  readonly db: DatabaseSync;
  readonly setAside: string | null;
} {
  const { path, schema, clock, logger } = options;
  makeFolder(dirname(path));
  try {
    return { db: open(path, schema), setAside: null };
  } catch (error) {
    if (!isDamage(error)) throw error;
    const setAside = `${path}.damaged-${clock.wallMs()}`;
    for (const suffix of ['', '-wal', '-shm']) moveAway(path + suffix, setAside + suffix);
    logger.error({ setAside }, `${path} is damaged (${errorText(error)}); it was set aside`);
    return { db: open(path, schema), setAside };
  }
}

function open(path: string, schema: readonly string[]): DatabaseSync {
  closeSync(openSync(path, 'a', 0o600));
  const db = new DatabaseSync(path);
  try {
    db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;');
    const check = db.prepare('PRAGMA quick_check').get();
    if (check?.quick_check !== 'ok') throw Object.assign(new Error(String(check?.quick_check)), { errcode: CORRUPT });
    for (const statement of schema) db.exec(statement);
    const folder = openSync(dirname(path), 'r');
    fsyncSync(folder);
    closeSync(folder);
    return db;
  } catch (error) {
    db.close();
    throw error;
  }
}

function isDamage(error: unknown): boolean {
  const code = (error as { errcode?: unknown }).errcode;
  return typeof code === 'number' && DAMAGE.has(code & 0xff);
}

function moveAway(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}
