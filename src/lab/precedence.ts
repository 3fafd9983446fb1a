import { spawnSync } from 'node:child_process';

/**
 * Real-time priorities (sched(7)), for machines with fewer processors than a site has processes: what stands in for hardware is
 * not late for want of one, and media comes next, as on a board; so do the gateway's workers, which have a machine of their own elsewhere.
 */
export const CARD_PRIORITY = 20;
export const MEDIA_PRIORITY = 10;

let allowed: boolean | undefined;

/**
 * The command in real time where this user may, else as it is. `SCHED_RR`, not `SCHED_FIFO`: where as many media processes as
 * processors start at once, each waits in a circle for threads of V8, which under FIFO never get their turn.
 */
export function inRealTime(priority: number, command: readonly string[]): string[] {
  return isAllowed() ? ['chrt', '--rr', String(priority), ...command] : [...command];
}

/** The same for the main thread of a process that has taken its place in the queue itself, as PulseAudio does. */
export function putInRealTime(priority: number, pid: number | undefined): void {
  if (pid === undefined || !isAllowed()) return;
  spawnSync('chrt', ['--rr', '--pid', String(priority), String(pid)], { stdio: 'ignore' });
}

function isAllowed(): boolean {
  allowed ??= spawnSync('chrt', ['--rr', '1', 'true'], { stdio: 'ignore' }).status === 0;
  return allowed;
}
