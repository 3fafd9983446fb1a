import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../src/core/errors.js';
import { sleep, startScenarioSite, talk, watchBoth } from '../src/lab/scenario.js';
import { flowsAre } from '../src/lab/site-flows.js';

/** What one process holds, in MiB: what is resident, and that with what it shares divided among those who share it. */
export interface ProcessMemory {
  readonly process: string;
  readonly rssMb: number;
  readonly pssMb: number;
}

const SETTLED_MS = 10_000;
const MOST_RSS_MB = 350;

export interface Memory {
  /** Of the site host with its broker, in a call, its flows running. */
  readonly processes: readonly ProcessMemory[];
  readonly rssMb: number;
  readonly pssMb: number;
  readonly mostRssMb: number;
}

/** Two stations with flows on this machine; the one that has the broker is measured after 10 s of a call. */
export async function measureMemory({ dir, log }: { dir: string; log: (text: string) => void }): Promise<Memory> {
  const site = await startScenarioSite({ dir: join(dir, 'memory'), log }, { flows: true });
  try {
    const watches = await watchBoth(site);
    try {
      const running = {
        withinMs: 60_000,
        text: 'running',
        fits: ({ state }: { state: string }) => state === 'running',
      };
      await Promise.all([flowsAre(watches, 'door', running), flowsAre(watches, 'indoor', running)]);
      await talk(site, watches);
      await sleep(SETTLED_MS);
      const { pid, engine, flows, calls } = await watches.indoor.client.call('station.status', {});
      if (calls.at(-1)?.state !== 'answered') throw new AppError('call-lost', 'the call has ended');
      const processes = [
        memoryOf('media', engine?.pid),
        memoryOf('station', pid),
        memoryOf('flows', flows?.pid),
        memoryOf('mosquitto', childOf(pid, 'mosquitto')),
      ];
      const sum = (of: (one: ProcessMemory) => number) => rounded(processes.map(of).reduce((a, b) => a + b, 0));
      return {
        processes,
        rssMb: sum(({ rssMb }) => rssMb),
        pssMb: sum(({ pssMb }) => pssMb),
        mostRssMb: MOST_RSS_MB,
      };
    } finally {
      watches.door.close();
      watches.indoor.close();
    }
  } finally {
    await site.stop();
  }
}

/** By proc(5). @throws AppError `child-failed` */
function memoryOf(name: string, pid: number | null | undefined): ProcessMemory {
  try {
    const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8');
    const mb = (key: string) => rounded(Number(new RegExp(`^${key}:\\s+(\\d+) kB$`, 'm').exec(text)?.[1]) / 1024);
    return { process: name, rssMb: mb('Rss'), pssMb: mb('Pss') };
  } catch (cause) {
    throw new AppError('child-failed', `the memory of ${name} (${pid}) can't be read`, { cause });
  }
}

function childOf(pid: number, name: string): number | undefined {
  return readdirSync(`/proc/${pid}/task`)
    .flatMap((task) => readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').trim().split(' '))
    .map(Number)
    .find((child) => child > 0 && readFileSync(`/proc/${child}/comm`, 'utf8').trim() === name);
}

function rounded(mb: number): number {
  return Math.round(mb * 10) / 10;
}
