import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs';
import { freemem } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { packageRoot } from '../core/package-root.js';
import { networkToolsEnv } from './own-network.js';
import { CARD_PRIORITY, inRealTime } from './precedence.js';

const run = promisify(execFile);
const program = join(packageRoot, 'native/build/power-cut');
/** Whoever was killed has not let go of its files at once. */
const MOST_TRIES = 100;
const TRY_EVERY_MS = 50;
/** So many times its size are to be free. */
const MEMORY_FOR_IT = 4;

/**
 * An ext4 file system of its own, in a file, whose power `powerCut` can cut: the kernel writes nothing to it from that moment on
 * (ext4's shutdown), and when it is mounted again its journal is replayed. What was not synced is lost then, as on a board.
 *
 * Needs root, and a mount namespace of one's own (`unshare --mount`): with it goes the mount.
 */
export class CutOffDisk {
  readonly folder: string;
  readonly #image: string;

  private constructor(folder: string, image: string) {
    this.folder = folder;
    this.#image = image;
  }

  /**
   * @param base a folder for what the file system is made of
   * @throws Error of `mkfs.ext4` and `mount` (e2fsprogs, mount)
   */
  static async make(folder: string, base: string, sizeBytes: number): Promise<CutOffDisk> {
    for (const one of [folder, base]) mkdirSync(one, { recursive: true });
    // A disk of memory is as good a disk, and waits for nobody else's.
    if (freemem() > MEMORY_FOR_IT * sizeBytes) await tool('mount', ['-t', 'tmpfs', 'tmpfs', base]);
    const image = join(base, 'disk');
    writeFileSync(image, '');
    truncateSync(image, sizeBytes);
    await tool('mkfs.ext4', ['-q', '-F', image]);
    const disk = new CutOffDisk(folder, image);
    await disk.#mount();
    return disk;
  }

  /** The power comes back. Nobody may use it any more. */
  async comeBack(): Promise<void> {
    await this.unmount();
    await this.#mount();
  }

  async unmount(): Promise<void> {
    for (let tries = 1; ; tries++) {
      try {
        await tool('umount', [this.folder]);
        return;
      } catch (error) {
        if (tries === MOST_TRIES) throw error;
        await new Promise<void>((resolve) => systemClock.after(TRY_EVERY_MS, resolve));
      }
    }
  }

  #mount(): Promise<void> {
    return tool('mount', ['-o', 'loop', this.#image, this.folder]);
  }
}

/** What waits for the moment. */
export interface AwaitedCut {
  /** The moment has come, and the power, where there is a disk to cut off, is gone. */
  readonly come: Promise<void>;
  giveUp(): void;
}

/**
 * Cuts the power as soon as a file, whenever it is renamed into its place, has all the texts in it.
 * @returns once it waits. @throws AppError `program-failed`
 */
export async function powerCut(
  disk: CutOffDisk | null,
  { folder, name, texts }: { readonly folder: string; readonly name: string; readonly texts: readonly string[] },
): Promise<AwaitedCut> {
  const words = [program, ...(disk === null ? ['-n'] : []), folder, name, ...texts];
  const [command = '', ...rest] = inRealTime(CARD_PRIORITY, words);
  const child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  const ended = once(child, 'close').then(([code]) => {
    if (code !== 0) throw new AppError('program-failed', `power-cut ended with ${code}: ${said.trim()}`);
  });
  ended.catch(() => {}); // whoever waits is told
  await Promise.race([once(child.stdout, 'data'), ended]);
  return { come: ended, giveUp: () => void child.kill() };
}

async function tool(name: string, words: readonly string[]): Promise<void> {
  await run(name, [...words], { env: networkToolsEnv() });
}
