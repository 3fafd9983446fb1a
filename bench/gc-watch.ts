/**
 * Preloaded (`node --import`) into a process whose garbage collections are to be watched: writes how many there were, and how
 * long the longest stopped it, to `gc-{pid}.json` in the folder that ENTRYPHONE_GC_WATCH names, every second.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PerformanceObserver } from 'node:perf_hooks';
import { type GcFigures, LONG_PAUSE_MS } from './gc-figures.js';

const folder = process.env.ENTRYPHONE_GC_WATCH;
if (folder !== undefined) {
  const figures = { collections: 0, longest: 0, long: 0 };
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) {
      figures.collections += 1;
      figures.longest = Math.max(figures.longest, duration);
      if (duration > LONG_PAUSE_MS) figures.long += 1;
    }
  }).observe({ entryTypes: ['gc'] });
  setInterval(() => {
    const { collections, longest, long } = figures;
    const said: GcFigures = { collections, longestMs: longest, over5Ms: long };
    writeFileSync(join(folder, `gc-${process.pid}.json`), JSON.stringify(said));
  }, 1_000).unref();
}
