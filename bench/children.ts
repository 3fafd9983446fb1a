import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { OpusEncoderSettings } from '../src/codec/codec.js';
import type { MicrophoneDriver } from '../src/config/schema.js';
import { systemClock } from '../src/core/clock.js';
import { AppError } from '../src/core/errors.js';

/** The argument of `media-end.js`. */
export interface MediaEndOptions {
  readonly role: 'sender' | 'receiver';
  /** ALSA device: of the microphone for a sender, of the speaker for a receiver. */
  readonly device: string;
  readonly localPort: number;
  readonly remotePort: number;
  readonly opus: OpusEncoderSettings;
  /** Of the microphone; `auto` where it is left out. */
  readonly driver?: MicrophoneDriver;
}

/** The argument of `bare-chain.js`. */
export interface BareChainOptions {
  readonly microphone: string;
  readonly speaker: string;
  readonly opus: OpusEncoderSettings;
}

const READY_WITHIN_MS = 15_000;
const STOP_WITHIN_MS = 1_000;
const TICKS_PER_S = Number(execFileSync('getconf', ['CLK_TCK'], { encoding: 'utf8' }));

/** A program that is measured as a whole. It ends with this process, whatever ends that. */
export class Measured {
  readonly name: string;
  readonly #child: ChildProcess;
  #said = '';

  private constructor(name: string, child: ChildProcess) {
    this.name = name;
    this.#child = child;
    const hear = (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString('utf8')).slice(-4_000);
    };
    child.stdout?.on('data', hear);
    child.stderr?.on('data', hear);
  }

  /** Resolves when it has said what fits `ready`. @throws AppError `child-failed` */
  static async start(
    name: string,
    command: readonly string[],
    env: NodeJS.ProcessEnv,
    ready: RegExp,
  ): Promise<Measured> {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', ...command], { env, stdio: ['ignore', 'pipe', 'pipe'] });
    const measured = new Measured(name, child);
    const deadlineMs = systemClock.nowMs() + READY_WITHIN_MS;
    while (!ready.test(measured.#said)) {
      if (child.exitCode !== null || child.signalCode !== null || systemClock.nowMs() > deadlineMs) {
        child.kill('SIGKILL');
        throw new AppError('child-failed', `${name} does not run: ${measured.#said.trim()}`, {
          remedy: 'The benchmark needs what `sh setup/setup.sh bench` installs',
        });
      }
      await sleep(20);
    }
    return measured;
  }

  static node(name: string, program: string, options: object, env: NodeJS.ProcessEnv): Promise<Measured> {
    const command = [process.execPath, join(import.meta.dirname, program), JSON.stringify(options)];
    return Measured.start(name, command, env, /^ready$/m);
  }

  static gstreamer(name: string, pipeline: readonly string[], env: NodeJS.ProcessEnv): Promise<Measured> {
    return Measured.start(
      name,
      ['gst-launch-1.0', ...pipeline],
      env,
      /Setting pipeline to PLAYING|PREROLLED|New clock/,
    );
  }

  /** User and system time of the whole process so far, in ms (proc(5)). @throws AppError `child-failed` */
  cpuMs(): number {
    try {
      return cpuMsOf(this.#child.pid ?? 0);
    } catch (cause) {
      throw new AppError('child-failed', `${this.name} has ended: ${this.#said.trim()}`, { cause });
    }
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    const force = systemClock.after(STOP_WITHIN_MS, () => child.kill('SIGKILL'));
    await ended;
    force.cancel();
  }
}

/** User and system time of a whole process so far, in ms (proc(5)). Throws where it has ended. */
export function cpuMsOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_S;
}

/** UDP ports of the loopback that were free just now. */
export async function freePorts(count: number): Promise<number[]> {
  const sockets = Array.from({ length: count }, () => createSocket('udp4'));
  const ports: number[] = [];
  for (const socket of sockets) {
    socket.bind(0, '127.0.0.1');
    await once(socket, 'listening');
    ports.push(socket.address().port);
  }
  await Promise.all(sockets.map((socket) => new Promise<void>((closed) => socket.close(() => closed()))));
  return ports;
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => systemClock.after(ms, resolve));
}
