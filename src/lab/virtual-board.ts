import { type ChildProcess, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { AppError } from '../core/errors.js';
import { packageRoot } from '../core/package-root.js';

export type PinLevel = 0 | 1;

/** A GPIO chip as sysfs shows it: `gpiochip<base>/label`, lines counted from 0. */
export interface VirtualChip {
  readonly label: string;
  /** sysfs number of its first line; kernels from 6.6 start at 512, hence the default. */
  readonly base?: number;
  readonly lines?: number;
}

interface BoardEvents {
  level: [line: number, level: PinLevel, atMs: number];
  ended: [];
}

const program = join(packageRoot, 'native/build/virtual-gpio');
const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 2_000;

/**
 * A GPIO chip with the kernel's sysfs semantics, served under /sys/class/gpio in a mount namespace of its own, so that several
 * boards stand side by side and the machine's own /sys is untouched. It ends with the process that started it, however that
 * ends. Needs root, or user namespaces and a /dev/fuse that one may open.
 * @throws AppError `virtual-board-failed`
 */
export async function startVirtualBoard(
  options: VirtualChip & {
    readonly others?: readonly VirtualChip[];
    /** Number of the group that may use the lines, as root may; on a board udev gives it this right. */
    readonly groupId?: number;
  },
): Promise<VirtualBoard> {
  const chips = [options, ...(options.others ?? [])];
  const rows = chips.map((chip) => [chip.label, `${chip.base ?? 512}`, `${chip.lines ?? 32}`]);
  const group = options.groupId === undefined ? [] : ['--group', `${options.groupId}`];
  // A group of its own: a signal to the whole group, as by a terminal, must not take the board from under who makes it safe.
  const child = spawn(program, [...group, ...rows.flat()], { stdio: ['pipe', 'pipe', 'pipe'], detached: true });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said = (said + chunk.toString()).slice(-2_000);
  });
  child.stdin.on('error', () => {}); // it has ended: `exit` tells
  let timer: NodeJS.Timeout | undefined;
  const outcome = await new Promise<'ready' | Error>((done) => {
    timer = setTimeout(() => done(new Error(`not mounted within ${START_TIMEOUT_MS} ms`)), START_TIMEOUT_MS);
    child.once('error', done);
    child.once('close', () => done(new Error(said.trim() || 'it ended at once')));
    child.stdout.once('data', () => done('ready'));
  });
  clearTimeout(timer);
  if (outcome instanceof Error || child.pid === undefined) {
    child.kill('SIGKILL');
    const why = outcome instanceof Error ? outcome.message : 'no process';
    throw new AppError('virtual-board-failed', `the virtual GPIO chip does not start: ${why}`, {
      remedy: 'It needs native/build/virtual-gpio (make setup), /dev/fuse, and root or user namespaces',
      cause: outcome,
    });
  }
  return new VirtualBoard(child, child.pid, options.base ?? 512);
}

/** A running virtual chip; lines are those of the first chip, counted from 0. */
export class VirtualBoard {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #base: number;
  readonly #levels = new Map<number, PinLevel>();
  readonly #events = new EventEmitter<BoardEvents>();

  /** Made by `startVirtualBoard`. */
  constructor(child: ChildProcess, pid: number, base: number) {
    this.pid = pid;
    this.#child = child;
    this.#base = base;
    this.#events.setMaxListeners(0);
    // What the kernel's CLOCK_MONOTONIC showed when performance.now() was 0.
    const originMs = Number(process.hrtime.bigint()) / 1e6 - performance.now();
    if (child.stdout === null) throw new Error('the virtual GPIO chip has no stdout');
    createInterface({ input: child.stdout }).on('line', (row) => {
      const [verb, number, level, atUs] = row.split(' ');
      if (verb !== 'level') return;
      const line = Number(number) - base;
      const now: PinLevel = level === '1' ? 1 : 0;
      this.#levels.set(line, now);
      this.#events.emit('level', line, now, Number(atUs) / 1_000 - originMs);
    });
    child.once('exit', () => this.#events.emit('ended'));
  }

  /**
   * The command, where it sees this board's /sys/class/gpio. The process keeps the pid that spawn() returns, the working
   * directory, stdio, the IPC channel, and its user.
   */
  wrap(command: readonly string[]): string[] {
    return [program, '--enter', String(this.pid), ...command];
  }

  /** Puts a level on a line from outside, as a contact does. An output shows it once it is an input again. */
  drive(line: number, level: PinLevel): void {
    this.#say(`drive ${this.#base + line} ${level}`);
  }

  /** A contact that the relay moves: its line has the relay's level; null: it sticks where it is. */
  follow(contact: number, relay: number | null): void {
    this.#say(`follow ${this.#base + contact} ${relay === null ? -1 : this.#base + relay}`);
  }

  /** Closes and opens a contact that pulls its line to `pressed`; resolves when it has been let go. */
  async press(line: number, holdMs = 150, pressed: PinLevel = 1): Promise<void> {
    this.drive(line, pressed);
    await new Promise((done) => setTimeout(done, holdMs));
    this.drive(line, pressed === 1 ? 0 : 1);
  }

  /** A kernel driver takes the line (`held`), so that exporting it is EBUSY, or gives it back. */
  hold(line: number, held: boolean): void {
    this.#say(`${held ? 'take' : 'free'} ${this.#base + line}`);
  }

  /** The level at the pin, inputs and outputs alike, as last reported. */
  level(line: number): PinLevel {
    return this.#levels.get(line) ?? 0;
  }

  /** Every change at the pins; `atMs` is taken by the chip itself and is on this process's performance.now() timeline. */
  onLevel(listener: (line: number, level: PinLevel, atMs: number) => void): () => void {
    this.#events.on('level', listener);
    return () => this.#events.off('level', listener);
  }

  /**
   * Resolves with the time (performance.now() timeline) of the next change of `line` to `level`, or at once with now if it is
   * there already.
   * @throws AppError `virtual-board-ended`
   */
  async reached(line: number, level: PinLevel): Promise<number> {
    if (this.level(line) === level) return performance.now();
    return new Promise((done, failed) => {
      const forget = this.onLevel((changed, now, atMs) => {
        if (changed !== line || now !== level) return;
        forget();
        done(atMs);
      });
      this.#events.once('ended', () => failed(new AppError('virtual-board-ended', 'the virtual GPIO chip has ended')));
    });
  }

  /** Unmounts and ends it; programs that are still on the board find an empty /sys/class/gpio. */
  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const ended = once(this.#child, 'exit');
    this.#child.stdin?.end();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await ended;
    clearTimeout(timer);
  }

  #say(row: string): void {
    if (this.#child.stdin?.writable) this.#child.stdin.write(`${row}\n`);
  }
}
