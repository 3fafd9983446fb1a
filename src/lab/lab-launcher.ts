import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { AppError } from '../core/errors.js';
import { packageRoot } from '../core/package-root.js';
import type { SlotName } from '../fleet/slots.js';
import type { DiskEntry, PowerCutDisk } from './power-cut-disk.js';

/** What came of a start. */
export interface Launch {
  /** Null: no release was started. */
  readonly slot: SlotName | null;
  /** What its program said of itself. */
  readonly version: string | null;
}

/** What a program that the launcher called was about to do; `file`: what the shell had written before. */
type Deed =
  | { readonly do: 'file'; readonly path: string; readonly text: string }
  | { readonly do: 'call'; readonly program: string; readonly words: readonly string[] };

interface Run extends Launch {
  readonly deeds: readonly Deed[];
}

const run = promisify(execFile);
const LAUNCHER = join(packageRoot, 'device/launcher.sh');
const LOG = 'ENTRYPHONE_LAB_LOG';
/** Of the launcher's programs, those that change a disk. */
const CHANGING = ['mv', 'ln', 'rm', 'sync'];
/** Says what it is called for, and with what the files in it, then is what it stands for. */
const WRAPPER = `#!/bin/sh
PATH=\${PATH#*:}
for one; do
  if [ -f "$one" ] && ! [ -L "$one" ]; then printf 'file\\0%s\\0' "$one"; cat "$one"; printf '\\0'; fi
done >>"$${LOG}"
printf 'call\\0%s\\0%s\\0' "\${0##*/}" "$*" >>"$${LOG}"
exec "\${0##*/}" "$@"
`;
/** The station's own, of which the launcher knows nothing. */
const NOT_READ = ['fetched', 'job.json', 'desired.json', 'state.json'];
/** Of a release the launcher runs these, and of all else asks at most whether it is there and not empty. */
const RUN_OF_RELEASE = /^[ab]\/(?:device\/start\.sh|\.toolchain\/bin\/node)$/;

/**
 * Runs the real launcher for disks in memory: in a copy of the disk in a real folder, where each program that changes something is
 * written down before it runs; then the same is done to the disk in memory, where the power can go in the middle of it. What it does
 * depends on nothing but the disk: for disks that it can't tell apart it is run once.
 */
export class LabLauncher {
  readonly #dir: string;
  readonly #script: string;
  readonly #known = new Map<string, Promise<Run>>();

  /** @param dir real folder for the copies. @param change of the launcher, to see whether a fault in it is noticed */
  constructor(dir: string, change: (text: string) => string = (text) => text) {
    this.#dir = mkdtempSync(join(dir, 'launcher-'));
    this.#script = join(this.#dir, 'launcher.sh');
    writeFileSync(this.#script, change(readFileSync(LAUNCHER, 'utf8')));
    mkdirSync(join(this.#dir, 'bin'));
    for (const program of CHANGING) writeFileSync(join(this.#dir, 'bin', program), WRAPPER, { mode: 0o755 });
  }

  /** How often the real one ran. */
  get runs(): number {
    return this.#known.size;
  }

  /** Starts the station. @throws PowerCut where the disk says so, with all that was done before */
  async start(disk: PowerCutDisk): Promise<Launch> {
    const key = keyOf(disk);
    const known = this.#known.get(key);
    const running = known ?? this.#run(disk);
    this.#known.set(key, running);
    const { deeds, slot, version } = await running;
    for (const deed of deeds) await redo(disk, deed);
    return { slot, version };
  }

  async #run(disk: PowerCutDisk): Promise<Run> {
    const root = mkdtempSync(join(this.#dir, 'slots-'));
    const log = `${root}.log`;
    try {
      toFolder(disk, root);
      writeFileSync(log, '');
      const path = `${join(this.#dir, 'bin')}:${process.env.PATH ?? ''}`;
      const command = [this.#script, root, 'start', 'station'];
      const said = await run('sh', command, { env: { ...process.env, PATH: path, [LOG]: log } }).catch((error) => {
        if (typeof error.code !== 'number') throw error;
        return { stdout: '' };
      });
      const deeds = deedsOf(readFileSync(log, 'utf8'));
      await mustBeTheSame(disk, deeds, root);
      const version = /^release (\S+)/.exec(said.stdout)?.[1] ?? null;
      return { deeds, version, slot: version === null ? null : slotNamed(root) };
    } finally {
      rmSync(root, { recursive: true });
      rmSync(log, { force: true });
    }
  }
}

/** Its own files and links as they are; of releases what it asks. */
function keyOf(disk: PowerCutDisk): string {
  const hash = createHash('sha256');
  for (const [path, entry] of disk.entries()) {
    if (isNotRead(path)) continue;
    hash.update(`${path}\0${entry.is}\0`);
    if (entry.is === 'link') hash.update(entry.target);
    if (entry.is !== 'file') continue;
    const isAsked = path.includes('/') && !RUN_OF_RELEASE.test(path);
    hash.update(`${entry.mode}\0`).update(isAsked ? `${entry.bytes.length > 0}` : entry.bytes);
  }
  return hash.digest('hex');
}

function deedsOf(log: string): Deed[] {
  const fields = log.split('\0');
  const deeds: Deed[] = [];
  for (let i = 0; i + 2 < fields.length; i += 3) {
    const [kind, name = '', rest = ''] = fields.slice(i, i + 3);
    if (kind === 'file') deeds.push({ do: 'file', path: name, text: rest });
    else deeds.push({ do: 'call', program: name, words: rest.split(' ') });
  }
  return deeds;
}

async function redo(disk: PowerCutDisk, deed: Deed): Promise<void> {
  if (deed.do === 'file') {
    const there = await disk.read(deed.path);
    if (there !== null && Buffer.from(there).toString() === deed.text) return;
    const file = await disk.create(deed.path, 0o644);
    await file.append(Buffer.from(deed.text));
    await file.close();
    return;
  }
  const { program, words } = deed;
  const [first = '', second = ''] = words.filter((word) => !word.startsWith('-'));
  if (program === 'mv') await disk.rename(first, second);
  else if (program === 'ln') await disk.link(first, second);
  else if (program === 'rm') await disk.unlink(first);
  else if (first !== '.' && (await disk.read(first)) !== null) await disk.syncFile(first);
  else await disk.syncFolder(first);
}

/** @throws AppError `lab-fault` where the launcher did more than was written down */
async function mustBeTheSame(disk: PowerCutDisk, deeds: readonly Deed[], root: string): Promise<void> {
  const copy = disk.twin();
  for (const deed of deeds) await redo(copy, deed);
  const textOf = (path: string, entry: DiskEntry): string =>
    `${path} ${entry.is} ${entry.is === 'link' ? entry.target : entry.is === 'file' ? entry.bytes.toString() : ''}`;
  const expected = copy.entries().filter(([path]) => !path.includes('/') && !isNotRead(path));
  const found = readdirSync(root, { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((one) => {
      const at = join(root, one.name);
      if (one.isSymbolicLink()) return textOf(one.name, { is: 'link', target: readlinkSync(at) });
      if (one.isDirectory()) return textOf(one.name, { is: 'folder' });
      return textOf(one.name, { is: 'file', mode: 0, bytes: readFileSync(at) });
    });
  if (found.join('\n') === expected.map(([path, entry]) => textOf(path, entry)).join('\n')) return;
  throw new AppError('lab-fault', `the launcher did what the lab does not know of: ${found.join(', ')}`);
}

function toFolder(disk: PowerCutDisk, root: string): void {
  for (const [path, entry] of disk.entries()) {
    if (isNotRead(path)) continue;
    const at = join(root, path);
    if (entry.is === 'folder') mkdirSync(at, { recursive: true });
    else if (entry.is === 'link') symlinkSync(entry.target, at);
    else {
      writeFileSync(at, entry.bytes);
      chmodSync(at, entry.mode);
    }
  }
}

function isNotRead(path: string): boolean {
  return NOT_READ.includes(path.split('/', 1)[0] ?? '') || /^(?:job|desired|state)\.json\.new$/.test(path);
}

/** Where current leads after a start. */
function slotNamed(root: string): SlotName | null {
  const name = readlinkSync(join(root, 'current'));
  return name === 'a' || name === 'b' ? name : null;
}
