import { spawn } from 'node:child_process';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { CARD_PRIORITY, inRealTime } from './precedence.js';
import type { DeviceRecorder } from './sound-device.js';
import { LAB_RATE_HZ } from './speech.js';

const PITCH_HZ = 440;
const AMPLITUDE = 8_000;
const WINDOW_MS = 5;
const SILENT = 32_768 * 10 ** (-50 / 20);

/** Plays a tone into a playback device, by a program and a buffer of its own: no lateness of this process shows in it. */
export function holdTone(options: { device: string; seconds: number; env: Readonly<Record<string, string>> }): {
  stop(): void;
} {
  const args = ['-q', '-t', 'raw', '-f', 'S16_LE', '-c', '1', '-r', String(LAB_RATE_HZ), '--buffer-time=500000'];
  const command = inRealTime(CARD_PRIORITY, ['aplay', '-D', options.device, ...args]);
  const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', ...command], {
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.on('error', () => {});
  child.stdin.on('error', () => {});
  const samples = Int16Array.from({ length: options.seconds * LAB_RATE_HZ }, (_, at) =>
    Math.round(AMPLITUDE * Math.sin((2 * Math.PI * PITCH_HZ * at) / LAB_RATE_HZ)),
  );
  child.stdin.end(Buffer.from(samples.buffer));
  return { stop: () => void child.kill('SIGKILL') };
}

/**
 * Waits until the tone sounds at the other end. @returns from which sample on it does
 * @throws AppError `too-late` after 10 s
 */
export async function toneHeard(recorder: Pick<DeviceRecorder, 'soFar'>): Promise<number> {
  const half = LAB_RATE_HZ / 2;
  for (let tries = 0; tries < 100; tries++) {
    await new Promise<void>((resolve) => systemClock.after(100, resolve));
    const heard = recorder.soFar();
    if (heard.length > half && longestSilenceMs(heard.subarray(-half), LAB_RATE_HZ) === 0) return heard.length - half;
  }
  throw new AppError('too-late', 'the tone is not heard at the other end');
}

/** The longest stretch below -50 dB full scale, in ms, in steps of 5 ms. */
export function longestSilenceMs(samples: Int16Array, rateHz: number): number {
  const window = (rateHz * WINDOW_MS) / 1000;
  let longest = 0;
  let current = 0;
  for (let at = 0; at + window <= samples.length; at += window) {
    const power = samples.subarray(at, at + window).reduce((sum, sample) => sum + sample * sample, 0) / window;
    current = Math.sqrt(power) < SILENT ? current + WINDOW_MS : 0;
    longest = Math.max(longest, current);
  }
  return longest;
}
