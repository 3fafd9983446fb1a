import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Garbage collections of one process since it started. */
export interface GcFigures {
  readonly collections: number;
  readonly longestMs: number;
  readonly over5Ms: number;
}

export const LONG_PAUSE_MS = 5;

/** Node processes that this one starts from now on, and those that they start, have their collections watched, until the end. */
export function watchCollections(folder: string): { of(pid: number): GcFigures; end(): void } {
  const { NODE_OPTIONS: before } = process.env;
  const preload = pathToFileURL(resolve(import.meta.dirname, 'gc-watch.js')).href;
  process.env.NODE_OPTIONS = `${before ?? ''} --import=${preload}`.trim();
  process.env.ENTRYPHONE_GC_WATCH = folder;
  return {
    of: (pid) => JSON.parse(readFileSync(join(folder, `gc-${pid}.json`), 'utf8')) as GcFigures,
    end: () => {
      if (before === undefined) delete process.env.NODE_OPTIONS;
      else process.env.NODE_OPTIONS = before;
      delete process.env.ENTRYPHONE_GC_WATCH;
    },
  };
}

/** What came about between two looks; the longest since the first look can't be told from those before it, so it is the whole's. */
export function collectionsBetween(before: GcFigures, after: GcFigures): GcFigures {
  return {
    collections: after.collections - before.collections,
    longestMs: after.longestMs,
    over5Ms: after.over5Ms - before.over5Ms,
  };
}
