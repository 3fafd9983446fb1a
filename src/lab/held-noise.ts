import { spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { CARD_PRIORITY, inRealTime } from './precedence.js';
import { LAB_RATE_HZ } from './speech.js';

const LOOP_S = 5;

/** Noise into a playback device until it is stopped: the surroundings of a microphone. Uniform, `dbfs` RMS. */
export function holdNoise(options: { device: string; dbfs: number; env: Readonly<Record<string, string>> }): {
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
  const amplitude = 32_768 * Math.sqrt(3) * 10 ** (options.dbfs / 20);
  const samples = Int16Array.from({ length: LOOP_S * LAB_RATE_HZ }, () =>
    Math.round((2 * Math.random() - 1) * amplitude),
  );
  const block = Buffer.from(samples.buffer);
  const endless = new Readable({ highWaterMark: block.length, read: () => void endless.push(block) });
  endless.pipe(child.stdin);
  return {
    stop: () => {
      endless.destroy();
      child.kill('SIGKILL');
    },
  };
}
