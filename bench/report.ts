import Table from 'cli-table3';
import { quantile } from '../src/lab/alignment.js';
import type { Collections } from './collections.js';
import type { CpuFigures } from './cpu.js';
import type { Forwarding } from './forwarding.js';
import type { InferenceRow } from './inference.js';
import { mediaTables } from './media-tables.js';
import type { Memory } from './memory.js';
import type { DelayFigures } from './mouth-to-ear.js';
import type { OpusCost } from './opus-cost.js';
import type { Pacing } from './pacing.js';
import type { PlayoutComparison } from './playout.js';
import type { CodecFigures, QualityFigures } from './quality.js';
import type { SrtpCost } from './srtp.js';

/** What one run measured: all sections, or those that were asked for. */
export interface Run {
  readonly cpu?: { readonly sender: CpuFigures; readonly receiver: CpuFigures };
  readonly mouthToEarMs?: { readonly ours: DelayFigures; readonly bare: DelayFigures };
  readonly forwarding?: Forwarding;
  readonly pacing?: Pacing;
  readonly memory?: Memory;
  readonly inference?: readonly InferenceRow[];
  readonly opusEngines?: readonly OpusCost[];
  readonly srtp?: readonly SrtpCost[];
  readonly collections?: Collections;
  readonly playout?: PlayoutComparison;
  readonly quality?: QualityFigures;
  readonly codec?: CodecFigures;
}

/** Medians of every figure over the runs, rounded to what they are good for. */
export function summary(results: readonly Run[]) {
  const forwarding = results.flatMap((run) => run.forwarding ?? []);
  return {
    ...medianOf(results.map(({ forwarding: _, ...others }) => others)),
    ...(forwarding.length === 0 ? {} : { forwarding: forwardingOf(forwarding) }),
  };
}

/** Tables for people, one a section. */
export function tablesOf(outcome: ReturnType<typeof summary>): string {
  const { cpu, mouthToEarMs, forwarding, pacing, memory, inference, opusEngines, srtp } = outcome;
  const tables: string[] = [];
  const add = (head: string[], rows: (string | number)[][]): void => {
    const table = new Table({ head, style: { head: [], border: [] } });
    table.push(...rows);
    tables.push(`${table}\n`);
  };
  if (cpu !== undefined) {
    const row = (end: 'sender' | 'receiver') => [end, cpu[end].oursMsPerS, cpu[end].gstreamerMsPerS, cpu[end].ratio];
    add(['CPU, ms a second', 'ours', 'GStreamer', 'ratio'], [row('sender'), row('receiver')]);
  }
  if (mouthToEarMs !== undefined) {
    const row = (name: string, { p50, p95, similarity }: DelayFigures) => [name, p50, p95, similarity];
    add(
      ['mouth to ear, ms', 'median', 'p95', 'similarity'],
      [row('ours', mouthToEarMs.ours), row('the bare chain', mouthToEarMs.bare)],
    );
  }
  if (forwarding !== undefined) {
    const { calls, worker, rtpengine, ratio, fault } = forwarding;
    add(
      ['forwarded packets a second of CPU', 'a room worker', 'rtpengine in user space', 'ratio'],
      [[`${calls} calls`, worker, rtpengine ?? fault ?? '', ratio ?? '']],
    );
  }
  if (pacing !== undefined) {
    const row = (name: string, { packetsMs, loopMs }: Pacing['quiet']) => [
      name,
      packetsMs.p99,
      packetsMs.max,
      loopMs.p99,
      loopMs.max,
    ];
    add(
      ["media's lateness, ms", 'packets p99', 'max', 'event loop p99', 'max'],
      [
        row('alone', pacing.quiet),
        row('beside a flow that spins', pacing.spinning),
        row('beside a flow that floods', pacing.flooding),
      ],
    );
  }
  if (memory !== undefined) {
    const { processes, rssMb, pssMb, mostRssMb } = memory;
    add(
      ['memory in a call, MiB', 'resident (RSS)', 'shared parts divided (PSS)'],
      [...processes.map((one) => [one.process, one.rssMb, one.pssMb]), [`together (aim: ${mostRssMb})`, rssMb, pssMb]],
    );
  }
  if (inference !== undefined) {
    add(
      ['inference (aim: 10 % of a core, 120 MB)', '% of a core', 'resident, MiB', 'model asked a second', 'spared'],
      inference.map(({ state, cpuPct, rssMb, asked, spared }) => [state, cpuPct, rssMb, asked, spared]),
    );
  }
  if (opusEngines !== undefined) {
    const rows = (what: 'encodeUs' | 'decodeUs') =>
      Object.keys(opusEngines[0]?.[what] ?? {}).map((name) => [
        `${what === 'encodeUs' ? 'encode' : 'decode'} ${name}`,
        ...opusEngines.map((engine) => engine[what]?.[name] ?? ''),
      ]);
    add(
      ['Opus, CPU µs for 20 ms', ...opusEngines.map(({ engine }) => engine)],
      [...rows('encodeUs'), ...rows('decodeUs')],
    );
  }
  if (srtp !== undefined) {
    const row = (one: SrtpCost) => [
      one.suite,
      one.protectUs,
      one.openUs,
      one.libsrtpProtectUs ?? 'not installed',
      one.libsrtpOpenUs ?? 'not installed',
      one.callMsPerS,
    ];
    add(['SRTP, µs of CPU a packet', 'protect', 'open', 'libsrtp', 'open', 'ms a second of a call'], srtp.map(row));
  }
  for (const { head, rows } of mediaTables(outcome)) add(head, rows);
  return tables.join('');
}

/** Of things of one shape the thing with the median of each number in it; texts are the first's. */
function medianOf<T>(all: readonly T[]): T {
  const [first] = all;
  if (typeof first === 'number') return Number(quantile(all as readonly unknown[] as number[], 0.5).toFixed(2)) as T;
  if (Array.isArray(first)) return first.map((_, i) => medianOf(all.map((one) => (one as unknown[])[i]))) as T;
  if (typeof first !== 'object' || first === null) return first as T;
  const keys = Object.keys(first) as (keyof T)[];
  return Object.fromEntries(keys.map((key) => [key, medianOf(all.map((one) => one[key]))])) as T;
}

function forwardingOf(all: readonly Forwarding[]) {
  const fault = all.map(({ rtpengineFault }) => rtpengineFault).find((text) => text !== null) ?? null;
  const median = (of: (forwarding: Forwarding) => number) => medianOf(all.map(of));
  const of = (figure: (forwarding: Forwarding) => number | null | undefined) =>
    fault === null ? median((forwarding) => figure(forwarding) ?? Number.NaN) : null;
  return {
    calls: all[0]?.calls ?? 0,
    worker: Math.round(median(({ worker }) => worker.packetsPerCpuS)),
    workerArrivedPct: median(({ worker }) => worker.arrivedPct),
    rtpengine: of(({ rtpengine }) => Math.round(rtpengine?.packetsPerCpuS ?? Number.NaN)),
    rtpengineArrivedPct: of(({ rtpengine }) => rtpengine?.arrivedPct),
    ratio: of(({ ratio }) => ratio),
    fault,
  };
}
