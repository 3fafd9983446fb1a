import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { errorText } from '../src/core/errors.js';
import { quantile } from '../src/lab/alignment.js';
import { labSpeech } from '../src/lab/speech.js';
import { startVirtualSound } from '../src/lab/virtual-sound.js';
import { type CpuFigures, measureCpu, WARM_UP_S } from './cpu.js';
import { type Forwarding, measureForwarding } from './forwarding.js';
import { type DelayFigures, measureMouthToEar } from './mouth-to-ear.js';

const OPUS = { bitrateBps: 24_000, complexity: 10, inbandFec: true, expectedLossPct: 5, packetTimeMs: 20 } as const;
const PLAYOUT_DELAY_MS = 40;
const LOSS_PCT = 5;
const SEED = 2_026;
const SPEECH_S = 20;
const FORWARDING_S = 10;

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    runs: { type: 'string', default: '1' },
    json: { type: 'boolean', default: false },
  },
});

interface Run {
  readonly cpu: { readonly sender: CpuFigures; readonly receiver: CpuFigures };
  readonly mouthToEarMs: { readonly ours: DelayFigures; readonly bare: DelayFigures };
  readonly forwarding: Forwarding;
}

try {
  const seconds = wholeNumber('seconds', values.seconds);
  const runs = wholeNumber('runs', values.runs);
  const results: Run[] = [];
  for (let run = 1; run <= runs; run++) {
    note(
      `run ${run} of ${runs}: CPU for ${WARM_UP_S} + ${seconds} s, then mouth to ear for ${SPEECH_S} s, then forwarding`,
    );
    results.push(await measure(seconds));
  }
  report(results, seconds);
  process.exit(0);
} catch (error) {
  process.stderr.write(`bench: ${errorText(error)}\n`);
  process.exit(1);
}

async function measure(seconds: number): Promise<Run> {
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-bench-'));
  const speech = await labSpeech(SPEECH_S);
  const sound = await startVirtualSound({ dir: join(dir, 'sound'), stations: ['ours', 'yardstick'] });
  try {
    const env = { ...process.env, ...sound.env };
    const common = { sound, env, opus: OPUS, playoutDelayMs: PLAYOUT_DELAY_MS, speech: speech.human };
    const cpu = await measureCpu({ ...common, seconds, lossPct: LOSS_PCT, seed: SEED });
    const mouthToEarMs = await measureMouthToEar({ ...common, other: speech.other });
    return { cpu, mouthToEarMs, forwarding: await measureForwarding({ dir, seconds: FORWARDING_S }) };
  } finally {
    await sound.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Medians over the runs, rounded to what they are good for. */
function report(results: readonly Run[], seconds: number): void {
  const median = (of: (run: Run) => number) => Number(quantile(results.map(of), 0.5).toFixed(2));
  const cpu = (end: 'sender' | 'receiver') => ({
    oursMsPerS: median((run) => run.cpu[end].oursMsPerS),
    gstreamerMsPerS: median((run) => run.cpu[end].gstreamerMsPerS),
    ratio: median((run) => run.cpu[end].ratio),
  });
  const delay = (chain: 'ours' | 'bare') => ({
    p50: median((run) => run.mouthToEarMs[chain].p50),
    p95: median((run) => run.mouthToEarMs[chain].p95),
    similarity: median((run) => run.mouthToEarMs[chain].similarity),
  });
  const outcome = {
    runs: results.length,
    seconds,
    opus: OPUS,
    rateHz: 48_000,
    receiverLossPct: LOSS_PCT,
    playoutDelayMs: PLAYOUT_DELAY_MS,
    cpu: { sender: cpu('sender'), receiver: cpu('receiver') },
    mouthToEarMs: { ours: delay('ours'), bare: delay('bare') },
    forwarding: forwardingOf(results, median),
  };
  if (values.json) {
    process.stdout.write(`${JSON.stringify(outcome)}\n`);
    return;
  }
  const style = { head: [], border: [] };
  const cpuTable = new Table({ head: ['CPU, ms a second', 'ours', 'GStreamer', 'ratio'], style });
  for (const end of ['sender', 'receiver'] as const) {
    const { oursMsPerS, gstreamerMsPerS, ratio } = outcome.cpu[end];
    cpuTable.push([end, oursMsPerS, gstreamerMsPerS, ratio]);
  }
  const delayTable = new Table({ head: ['mouth to ear, ms', 'median', 'p95', 'similarity'], style });
  for (const chain of ['ours', 'bare'] as const) {
    const { p50, p95, similarity } = outcome.mouthToEarMs[chain];
    delayTable.push([
      chain === 'ours' ? `ours (holds back ${PLAYOUT_DELAY_MS})` : 'the bare chain',
      p50,
      p95,
      similarity,
    ]);
  }
  const { worker, rtpengine, ratio, fault } = outcome.forwarding;
  const head = ['forwarded packets a second of CPU', 'a room worker', 'rtpengine in user space', 'ratio'];
  const forwardingTable = new Table({ head, style });
  forwardingTable.push([`${outcome.forwarding.calls} calls`, worker, rtpengine ?? fault ?? '', ratio ?? '']);
  process.stdout.write(`${cpuTable}\n${delayTable}\n${forwardingTable}\n`);
}

function forwardingOf(results: readonly Run[], median: (of: (run: Run) => number) => number) {
  const fault = results.map(({ forwarding }) => forwarding.rtpengineFault).find((text) => text !== null) ?? null;
  const of = (figure: (forwarding: Forwarding) => number | null | undefined) =>
    fault === null ? median(({ forwarding }) => figure(forwarding) ?? Number.NaN) : null;
  return {
    calls: results[0]?.forwarding.calls ?? 0,
    worker: Math.round(median(({ forwarding }) => forwarding.worker.packetsPerCpuS)),
    workerArrivedPct: median(({ forwarding }) => forwarding.worker.arrivedPct),
    rtpengine: of(({ rtpengine }) => Math.round(rtpengine?.packetsPerCpuS ?? Number.NaN)),
    rtpengineArrivedPct: of(({ rtpengine }) => rtpengine?.arrivedPct),
    ratio: of(({ ratio }) => ratio),
    fault,
  };
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1 && value <= 3_600) return value;
  throw new Error(`--${name} must be a whole number from 1 to 3600`);
}

function note(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}
