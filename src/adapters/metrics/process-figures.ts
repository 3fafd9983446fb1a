import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Figures } from './metrics.js';

export interface ProcessStatus {
  readonly rssBytes: number;
  readonly cpuS: number;
  readonly loopDelayS: { readonly p50: number; readonly p99: number; readonly max: number };
}

const RESOLUTION_MS = 10;
const S_PER_NS = 1e-9;

/** How this process is: memory, processor time, and how late its event loop comes to what is due. */
export class ProcessWatch {
  readonly #loop = monitorEventLoopDelay({ resolution: RESOLUTION_MS });

  constructor() {
    this.#loop.enable();
  }

  /** The event loop's delays are those since the last reading. */
  read(): ProcessStatus {
    const { user, system } = process.cpuUsage();
    const loopDelayS = { p50: this.#lateS(50), p99: this.#lateS(99), max: this.#lateS(100) };
    this.#loop.reset();
    return { rssBytes: process.memoryUsage.rss(), cpuS: (user + system) / 1e6, loopDelayS };
  }

  close(): void {
    this.#loop.disable();
  }

  /** The histogram has times from one look to the next, of which the resolution is no delay. */
  #lateS(percentile: number): number {
    if (this.#loop.count === 0) return 0;
    return Math.max(0, this.#loop.percentile(percentile) * S_PER_NS - RESOLUTION_MS / 1000);
  }
}

export const PROCESS_FIGURES: Figures<{ readonly process: ProcessStatus }> = {
  resident_memory_bytes: { kind: 'gauge', help: 'Resident memory', of: ({ process }) => [[process.rssBytes]] },
  cpu_seconds_total: { kind: 'counter', help: 'User and system time', of: ({ process }) => [[process.cpuS]] },
  event_loop_delay_seconds: {
    kind: 'gauge',
    help: 'How late the event loop came to what was due, since the last reading',
    labels: ['quantile'],
    of: ({ process: { loopDelayS } }) => [
      [loopDelayS.p50, { quantile: '0.5' }],
      [loopDelayS.p99, { quantile: '0.99' }],
      [loopDelayS.max, { quantile: '1' }],
    ],
  },
};

/** Resident memory of another process (proc(5)); null where it is gone, or not for us to see. */
export function residentBytes(pid: number): number | null {
  try {
    const kib = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return kib === undefined ? null : Number(kib) * 1024;
  } catch {
    return null;
  }
}
