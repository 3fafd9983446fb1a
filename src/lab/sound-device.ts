import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { quantile } from './alignment.js';
import { CARD_PRIORITY, inRealTime } from './precedence.js';

export interface DeviceOptions {
  /** ALSA device name. */
  readonly device: string;
  readonly rateHz: number;
  readonly clock: Clock;
  /** Added to the environment of `aplay` or `arecord`: where ALSA finds the device. */
  readonly env?: Readonly<Record<string, string>>;
}

const PERIOD_MS = 10;
const BUFFER_MS = 80;
const CUSHION_MS = 50;
const LEAD_IN_MS = 200;
const TAIL_MS = 200;
const READY_WITHIN_MS = 8_000;
const MOST_SAID_BYTES = 16_384;

/**
 * When each sample of a stream crossed an ALSA device, on the monotonic clock. Made of marks "sample `index` at `atMs`";
 * a single mark is as late as the scheduler made it, so a sample's time is read off the median of the marks around it.
 */
export class SampleTimes {
  readonly #rateHz: number;
  readonly #marks: { readonly index: number; readonly startedAtMs: number }[] = [];

  constructor(rateHz: number) {
    this.#rateHz = rateHz;
  }

  mark(index: number, atMs: number): void {
    this.#marks.push({ index, startedAtMs: atMs - (index * 1000) / this.#rateHz });
  }

  /** In ms; NaN where there is no mark within a second of the sample. */
  timeOfMs(index: number): number {
    const reach = this.#rateHz;
    const near = this.#marks.filter((mark) => Math.abs(mark.index - index) <= reach).map((mark) => mark.startedAtMs);
    return quantile(near, 0.5) + (index * 1000) / this.#rateHz;
  }

  /** The sample that crossed the device at `atMs`, with a fraction; NaN without marks. */
  indexAt(atMs: number): number {
    const timeOf = (mark: { index: number; startedAtMs: number }) =>
      mark.startedAtMs + (mark.index * 1000) / this.#rateHz;
    let nearest = this.#marks[0];
    if (nearest === undefined) return Number.NaN;
    for (const mark of this.#marks) {
      if (Math.abs(timeOf(mark) - atMs) < Math.abs(timeOf(nearest) - atMs)) nearest = mark;
    }
    return nearest.index + ((atMs - this.timeOfMs(nearest.index)) * this.#rateHz) / 1000;
  }
}

/**
 * Feeds a recording to a playback device in real time, through `aplay` with an 80 ms buffer: 10 ms are written every
 * 10 ms, on top of a cushion of 50 ms of silence that keeps the device fed when this process is late.
 * @returns when each of its samples was spoken, so to say: when the cushion before it had been played. A mouth has spoken
 *   all of the 10 ms when they are written, so a delay that is taken from here is never too short
 * @throws AppError `feed-failed`
 */
export async function feedRecording(options: DeviceOptions & { readonly samples: Int16Array }): Promise<SampleTimes> {
  const { clock, rateHz } = options;
  const child = alsaProgram('aplay', options);
  try {
    await settled(child);
    const times = new SampleTimes(rateHz);
    const samplesOf = (ms: number) => Math.round((ms * rateHz) / 1000);
    const leadIn = samplesOf(LEAD_IN_MS);
    const all = new Int16Array(leadIn + options.samples.length + samplesOf(TAIL_MS));
    all.set(options.samples, leadIn);
    const step = samplesOf(PERIOD_MS);
    const cushion = Buffer.alloc(samplesOf(CUSHION_MS) * 2);
    child.stdin.write(cushion);
    let dueMs = clock.nowMs();
    for (let at = 0; at < all.length; at += step) {
      const waitMs = dueMs - clock.nowMs();
      if (waitMs > 0) await sleep(clock, waitMs);
      // So late that the device ran dry: what follows is late too, instead of piling up in the pipe.
      const lateMs = clock.nowMs() - dueMs;
      if (lateMs > CUSHION_MS) {
        dueMs += lateMs;
        child.stdin.write(cushion);
      }
      times.mark(at + step - leadIn, clock.nowMs() + CUSHION_MS);
      child.stdin.write(Buffer.from(all.buffer, at * 2, Math.min(step, all.length - at) * 2));
      dueMs += PERIOD_MS;
    }
    child.stdin.end();
    const code = await exitOf(child);
    if (code !== 0) throw failed('feed-failed', 'aplay', options.device, `it ended with ${code}`);
    return times;
  } finally {
    child.kill('SIGKILL');
  }
}

export interface Heard {
  readonly samples: Int16Array;
  /** When each sample came out of the device. */
  readonly times: SampleTimes;
}

/** Records a capture device through `arecord`, with 10 ms periods, until it is stopped or `mostSeconds` are full. */
export class DeviceRecorder {
  readonly #child: AlsaChild;
  readonly #samples: Int16Array;
  readonly #times: SampleTimes;
  #length = 0;
  #said = '';
  #oddByte: Buffer = Buffer.alloc(0);

  /** Resolves when the first samples have come. @throws AppError `record-failed` */
  static async start(options: DeviceOptions & { readonly mostSeconds: number }): Promise<DeviceRecorder> {
    const child = alsaProgram('arecord', options);
    const recorder = new DeviceRecorder(options, child);
    const timeout = options.clock.after(READY_WITHIN_MS, () => child.kill('SIGKILL'));
    const started = await Promise.race([
      new Promise<true>((resolve) => child.stdout.once('data', () => resolve(true))),
      exitOf(child),
    ]);
    timeout.cancel();
    if (started !== true) {
      const why = child.signalCode === null ? recorder.#said.trim().split('\n').at(-1) : 'it gave no samples';
      throw failed('record-failed', 'arecord', options.device, why ?? '');
    }
    return recorder;
  }

  private constructor(options: DeviceOptions & { readonly mostSeconds: number }, child: AlsaChild) {
    this.#child = child;
    this.#samples = new Int16Array(Math.round(options.mostSeconds * options.rateHz));
    this.#times = new SampleTimes(options.rateHz);
    child.stdout.on('data', (chunk: Buffer) => this.#take(chunk, options.clock.nowMs()));
    child.stderr.on('data', (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString('utf8')).slice(-MOST_SAID_BYTES);
    });
  }

  /** What was heard so far, without a copy; sample 0 is the first one recorded. */
  soFar(): Int16Array {
    return this.#samples.subarray(0, this.#length);
  }

  async stop(): Promise<Heard> {
    this.#child.kill('SIGTERM');
    await exitOf(this.#child);
    return { samples: this.soFar(), times: this.#times };
  }

  #take(chunk: Buffer, atMs: number): void {
    const bytes = this.#oddByte.length === 0 ? chunk : Buffer.concat([this.#oddByte, chunk]);
    const count = Math.min(bytes.length >> 1, this.#samples.length - this.#length);
    for (let i = 0; i < count; i++) this.#samples[this.#length + i] = bytes.readInt16LE(i * 2);
    this.#oddByte = Buffer.from(bytes.subarray(bytes.length & ~1));
    this.#length += count;
    if (count > 0) this.#times.mark(this.#length, atMs);
  }
}

type AlsaChild = ChildProcessByStdio<Writable, Readable, Readable>;

/** `aplay` or `arecord` on raw mono S16; it ends with its parent, whatever ends that. */
function alsaProgram(program: 'aplay' | 'arecord', { device, rateHz, env }: DeviceOptions): AlsaChild {
  const format = ['-t', 'raw', '-f', 'S16_LE', '-c', '1', '-r', String(rateHz)];
  const buffering = [`--buffer-time=${BUFFER_MS * 1000}`, `--period-time=${PERIOD_MS * 1000}`];
  const command = inRealTime(CARD_PRIORITY, [program, '-v', '-D', device, ...format, ...buffering]);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
    env: { ...process.env, ...env, LC_ALL: 'C' },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => {}); // EPIPE: its exit says what there is to say
  return child;
}

/** `aplay -v` tells the set-up of the device once it is open: only then does it take samples at once. */
async function settled(child: AlsaChild): Promise<void> {
  let said = '';
  const open = new Promise<true>((resolve) => {
    child.stderr.on('data', (chunk: Buffer) => {
      if (said.length < MOST_SAID_BYTES) said += chunk.toString('utf8');
      if (said.includes('boundary')) resolve(true);
    });
  });
  if ((await Promise.race([open, exitOf(child)])) !== true) {
    throw failed('feed-failed', 'aplay', 'the device', said.trim().split('\n').at(-1) ?? '');
  }
}

function exitOf(child: ChildProcess): Promise<number | string> {
  if (child.exitCode !== null || child.signalCode !== null) {
    return Promise.resolve(child.exitCode ?? child.signalCode ?? '');
  }
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => resolve(code ?? signal ?? ''));
    child.once('error', (error) => resolve(error.message));
  });
}

function failed(code: string, program: string, device: string, why: string): AppError {
  return new AppError(code, `${program} on ${device}: ${why}`, { remedy: 'Look at ALSA_CONFIG_PATH and the device' });
}

function sleep(clock: Clock, ms: number): Promise<void> {
  return new Promise((resolve) => clock.after(ms, resolve));
}
