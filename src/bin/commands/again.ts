import { spawn, spawnSync } from 'node:child_process';
import { networkToolsEnv } from '../../lab/own-network.js';

/** Whether this very command can be run again by `unshare` (util-linux) with these words. @returns why not, in words; null: it can */
export function whyNotAgain(wordsFor: (command: readonly string[]) => string[]): string | null {
  const can = spawnSync('unshare', wordsFor(['true']), { env: networkToolsEnv(), encoding: 'utf8' });
  return can.status === 0 ? null : (can.error?.message ?? can.stderr.trim());
}

/** Runs this very command in namespaces of its own, and ends as it did. @param mark variable of its environment: it is the second */
export async function again(wordsFor: (command: readonly string[]) => string[], mark: string): Promise<void> {
  const command = [process.execPath, ...process.execArgv, ...process.argv.slice(1)];
  const child = spawn('unshare', wordsFor(command), { env: { ...networkToolsEnv(), [mark]: '1' }, stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise<number>((done) => {
    child.once('error', () => done(1));
    child.once('exit', (code) => done(code ?? 1));
  });
}
