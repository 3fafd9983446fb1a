import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { nodeProgram } from '../src/adapters/supervisor/node-program.js';
import { TapSender } from '../src/adapters/udp/tap-sender.js';
import { systemClock } from '../src/core/clock.js';
import { Counters } from '../src/core/counters.js';
import { AppError } from '../src/core/errors.js';
import { silentLogger } from '../src/core/logger.js';
import { packageRoot } from '../src/core/package-root.js';
import { INFERENCE_SOCKET } from '../src/protocol/inference-api.js';
import { L16_RATE_HZ, L16Writer } from '../src/rtp/l16.js';
import { sceneOf } from '../src/sounds/scene.js';
import { EdgeCounters } from '../src/station/edge-counters.js';
import { Hearing } from '../src/station/hearing.js';
import { cpuMsOf, sleep } from './children.js';

const FRAME = L16_RATE_HZ / 100;
const FRAME_MS = 10;
const LISTENING_S = 20;
const IDLE_S = 5;
const READY_WITHIN_MS = 30_000;
const SEED = 390_000;

/** What the inference process takes: in percent of one core, and MiB resident. */
export interface InferenceRow {
  readonly state: string;
  readonly cpuPct: number;
  readonly rssMb: number;
  /** Models asked, and not asked since nothing stood out, a second. */
  readonly asked: number;
  readonly spared: number;
}

/** The real process with the model that ships, as a station runs it: before anybody wants decisions, in a steady noise, in talk. */
export async function measureInference({ dir }: { dir: string }): Promise<InferenceRow[]> {
  const run = join(dir, 'inference');
  mkdirSync(run, { recursive: true });
  const file = join(run, 'station.yaml');
  writeFileSync(file, configuration(run));
  let port = 0;
  const hearing = await Hearing.serve({
    path: join(run, INFERENCE_SOCKET),
    isEnabled: true,
    taps: {
      open: async (order) => {
        port = order.port;
        return 1;
      },
      release: () => {},
    },
    edge: new EdgeCounters(systemClock),
    clock: systemClock,
    logger: silentLogger,
    listener: { changed: () => {}, decided: () => {}, logged: () => {} },
  });
  const [program = '', ...args] = [...nodeProgram(join(packageRoot, 'dist/src/bin/inference.js')), '--config', file];
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', program, ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = once(child, 'exit');
  try {
    const pid = child.pid ?? 0;
    await until(() => hearing.view.state === 'running');
    const during = async (state: string, what: () => Promise<void>): Promise<InferenceRow> => {
      const [cpuMs, atMs, before] = [cpuMsOf(pid), systemClock.nowMs(), hearing.status.figures];
      await what();
      const seconds = (systemClock.nowMs() - atMs) / 1000;
      const after = hearing.status.figures;
      const perS = (key: 'modelRuns' | 'skippedRuns') =>
        Math.round((10 * ((after?.[key] ?? 0) - (before?.[key] ?? 0))) / seconds) / 10;
      return {
        state,
        cpuPct: Math.round(((cpuMsOf(pid) - cpuMs) / seconds / 10) * 10) / 10,
        rssMb: residentMb(pid),
        asked: perS('modelRuns'),
        spared: perS('skippedRuns'),
      };
    };
    const idle = await during('nobody wants decisions', () => sleep(IDLE_S * 1000));
    hearing.want(true);
    await until(() => port > 0);
    const sender = await TapSender.open({ address: '127.0.0.1', port }, new Counters());
    const common = { seed: SEED, seconds: LISTENING_S, eventAtS: 0, snrDb: 20, peakDb: -12, event: null } as const;
    const [noise, talk] = [await sceneOf({ ...common, over: 'noise' }), await sceneOf({ ...common, over: 'speech' })];
    const rows = [
      idle,
      await during('steady noise', () => play(noise.samples, sender)),
      await during('talk without a pause', () => play(talk.samples, sender)),
    ];
    sender.close();
    return rows;
  } finally {
    child.kill('SIGTERM');
    await ended;
    await hearing.close();
  }
}

/** At the pace of a microphone. */
async function play(samples: Int16Array, sender: TapSender): Promise<void> {
  const writer = new L16Writer({ ssrc: randomInt(2 ** 32), sequence: 0, timestamp: 0 });
  const beganMs = systemClock.nowMs();
  for (let n = 0; (n + 1) * FRAME <= samples.length; n++) {
    const dueMs = beganMs + n * FRAME_MS;
    const waitMs = dueMs - systemClock.nowMs();
    if (waitMs > 0) await sleep(waitMs);
    const datagram = writer.push(samples.subarray(n * FRAME, (n + 1) * FRAME), dueMs);
    if (datagram !== null) sender.send(datagram);
  }
}

function configuration(run: string): string {
  return stringify({
    station: { id: 'door', name: 'Door', site: 'home' },
    board: join(packageRoot, 'device/virtual-board.yaml'),
    audio: { capture: 'none', playback: 'none' },
    rtp: { address: '127.0.0.1' },
    inference: { enabled: true },
    mqtt: { url: 'mqtts://127.0.0.1:1', ca: 'none', cert: 'none', key: 'none' },
    state: run,
    run,
  });
}

function residentMb(pid: number): number {
  const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  return Math.round((10 * kib) / 1024) / 10;
}

async function until(holds: () => boolean): Promise<void> {
  const deadlineMs = systemClock.nowMs() + READY_WITHIN_MS;
  while (!holds()) {
    if (systemClock.nowMs() > deadlineMs) throw new AppError('child-failed', 'the inference process does not run');
    await sleep(20);
  }
}
