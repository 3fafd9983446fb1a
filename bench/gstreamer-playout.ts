import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { AppError } from '../src/core/errors.js';
import { arrivalsOf, type NetworkTrace, TRACE_PACKET_MS } from '../src/lab/network-traces.js';

/** What a listener gets of one trace. */
export interface Heard {
  /** Time at the speaker, from the first packet to the last, in which nothing that was sent is played. */
  readonly concealedMs: number;
  /** From sending to playing, over all packets that are played. */
  readonly meanDelayMs: number;
}

export interface GstreamerHeard extends Heard {
  readonly latencyMs: number;
}

/** What the Python program says. */
interface Given {
  readonly version: string;
  /** Number, when it was given on, and the running time that it was stamped with. */
  readonly pushed: readonly (readonly [number: number, pushedMs: number, ptsMs: number])[];
  readonly lost: number;
  readonly unsettled: number;
}

const PROGRAM = resolve(import.meta.dirname, '../../bench/gstreamer-playout.py');
const LIMIT_MS = 60_000;
const LEAST_LATENCY_MS = 5;
/** Steps of the timestamps up to this are those of its clock recovery, which a sink absorbs. */
const LEAST_GAP_MS = 5;
/** Start-up is apart: ours gets to know the way meanwhile, GStreamer's has been told its latency. */
export const START_UP_MS = 5_000;
/** Delays within this are equal. */
const EQUAL_MS = 0.5;

/**
 * GStreamer's `rtpjitterbuffer` on a trace at its best: with the longest `latency` whose mean delay is not above
 * `meanDelayMs`; where none is so quick, the quickest that was met. It is the real element, in simulated time
 * (`gstreamer-playout.py`).
 *
 * Its sink is an ideal one, in its favour: it plays each packet at its timestamp + latency, takes small steps of the
 * timestamps without a click, plays what is left of a packet that comes in the middle of its time, and gets by without a
 * buffer of its own. Blind to what `opusdec` and a real sink do with discontinuities.
 */
export async function gstreamerAtMost(meanDelayMs: number, trace: NetworkTrace): Promise<GstreamerHeard> {
  const quickestMs = Math.min(...arrivalsOf(trace).map(({ sentMs, arrivedMs }) => arrivedMs - sentMs));
  // No packet is played sooner than the quickest's transit and the latency. From there down: its delay rises by no more than
  // its latency does.
  let latencyMs = Math.floor(meanDelayMs - quickestMs + EQUAL_MS);
  let quickest: GstreamerHeard | undefined;
  for (;;) {
    const heard = await gstreamerHeard(Math.max(LEAST_LATENCY_MS, latencyMs), trace);
    const excessMs = heard.meanDelayMs - meanDelayMs;
    if (excessMs <= EQUAL_MS) return heard;
    if (quickest === undefined || heard.meanDelayMs < quickest.meanDelayMs) quickest = heard;
    if (latencyMs <= LEAST_LATENCY_MS) return quickest;
    latencyMs -= Math.max(1, Math.floor(excessMs));
  }
}

async function gstreamerHeard(latencyMs: number, trace: NetworkTrace): Promise<GstreamerHeard> {
  const arrivals = arrivalsOf(trace).map(({ number, arrivedMs }) => [number, arrivedMs]);
  const given = JSON.parse(await run(JSON.stringify({ latencyMs, arrivals }))) as Given;
  if (given.unsettled > 0) {
    throw new AppError(
      'bench-doubtful',
      `GStreamer's threads did not keep up with the simulated time in ${trace.name}`,
      {
        remedy: 'Is this machine very busy? Run it again',
      },
    );
  }
  let endMs = Number.NaN;
  let concealedMs = 0;
  let delays = 0;
  let played = 0;
  for (const [number, pushedMs, ptsMs] of given.pushed) {
    const dueMs = ptsMs + latencyMs;
    const startMs = Math.max(dueMs, pushedMs);
    if (startMs >= dueMs + TRACE_PACKET_MS) continue;
    const isStartUp = number * TRACE_PACKET_MS < START_UP_MS;
    if (startMs - endMs >= LEAST_GAP_MS && !isStartUp) concealedMs += startMs - endMs;
    endMs = Math.max(Number.isNaN(endMs) ? 0 : endMs, dueMs + TRACE_PACKET_MS);
    if (isStartUp) continue;
    delays += startMs - number * TRACE_PACKET_MS;
    played += 1;
  }
  return { latencyMs, concealedMs, meanDelayMs: delays / played };
}

/** With Debian's own Python, for which python3-gi is. */
function run(input: string): Promise<string> {
  return new Promise((done, fail) => {
    const child = spawn('/usr/bin/python3', [PROGRAM], { stdio: ['pipe', 'pipe', 'pipe'], timeout: LIMIT_MS });
    const out: Buffer[] = [];
    let said = '';
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => {
      said = (said + chunk.toString('utf8')).slice(-2_000);
    });
    child.stdin.on('error', () => {}); // told by its exit
    child.once('error', fail);
    child.once('close', (code) => {
      if (code === 0) done(Buffer.concat(out).toString('utf8'));
      else
        fail(
          new AppError('child-failed', `GStreamer's jitter buffer does not run: ${said.trim()}`, {
            remedy: 'The benchmark needs what `sh setup/setup.sh bench` installs',
          }),
        );
    });
    child.stdin.end(input);
  });
}
