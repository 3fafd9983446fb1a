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
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { buildRelease } from '../adapters/releases/release-builder.js';
import { ReleaseRepository } from '../adapters/releases/release-repository.js';
import type { TreeFile } from '../adapters/releases/release-tree.js';
import { ChunkStore } from '../adapters/slots/chunk-store.js';
import { SlotStore } from '../adapters/slots/slot-store.js';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { silentLogger } from '../core/logger.js';
import { packageRoot } from '../core/package-root.js';
import type { Chunk, Manifest } from '../fleet/manifest.js';
import type { SlotName } from '../fleet/slots.js';
import { newJob, type UpdateJournal } from '../fleet/update-journal.js';
import { JobFile } from '../update/job-file.js';
import type { ReleaseTarget, UpdateStation } from '../update/step-context.js';
import { UpdateRun } from '../update/update-run.js';
import { type DiskEntry, PowerCutDisk } from './power-cut-disk.js';

/** How a release behaves: it proves itself; it comes up but is not heard; its station ends as soon as it has begun. */
export type Behaviour = 'good' | 'mute' | 'crashing';

/** A release in a repository, and its manifest as it is signed. */
export interface LabRelease {
  readonly manifest: Manifest;
  readonly text: Uint8Array;
}

export interface LabReleases {
  readonly repository: ReleaseRepository;
  readonly old: LabRelease;
  readonly next: LabRelease;
}

const run = promisify(execFile);
const launcher = join(packageRoot, 'device/launcher.sh');
const startFile = join(packageRoot, 'device/start.sh');
const CHUNK_SIZES = { leastBytes: 2_048, normalBytes: 4_096, mostBytes: 16_384 };
const PROGRAM_BYTES = 30_000;
const STATION: UpdateStation = {
  facts: { architecture: 'x64', board: 'virtual-board', nodeAbi: 137, firmware: '1.0.0' },
  untilQuiet: async () => {},
  noise: () => null,
};

/** Two small releases of the layout of real ones; what stands for Node.js says whose it is. */
export async function labReleases(dir: string): Promise<LabReleases> {
  const repository = new ReleaseRepository(dir);
  const release = async (version: string): Promise<LabRelease> => {
    const text = (path: string, content: string, mode: 0o644 | 0o755 = 0o644): TreeFile => ({
      path,
      mode,
      content: { bytes: Buffer.from(content) },
    });
    const files: TreeFile[] = [
      { path: 'device/start.sh', mode: 0o755, content: { from: startFile } },
      text('.toolchain/bin/node', `#!/bin/sh\necho release ${version}\n`, 0o755),
      text('dist/src/bin/station.js', madeText('station', PROGRAM_BYTES) + version),
      text('dist/src/bin/media.js', madeText('media', PROGRAM_BYTES)),
      text('flows/door-station.json', `[] ${version}`),
      text('empty', ''),
    ];
    const description = { kind: 'firmware', version, architecture: 'x64', requires: { boards: [] } } as const;
    const { manifest, file } = await buildRelease(description, files, repository, { sizes: CHUNK_SIZES });
    return { manifest, text: readFileSync(file) };
  };
  return { repository, old: await release('1.0.0'), next: await release('1.1.0') };
}

/** Text that does not repeat, the same for the same name. */
function madeText(name: string, sizeBytes: number): string {
  let text = '';
  for (let i = 0; text.length < sizeBytes; i++) text += createHash('sha256').update(`${name} ${i}`).digest('base64');
  return text;
}

/** A disk on which the old release runs, confirmed. */
export async function diskWithOldRelease({ repository, old }: LabReleases): Promise<PowerCutDisk> {
  const disk = new PowerCutDisk();
  const slots = new SlotStore(disk);
  await slots.unpack('a', old.manifest, (chunk) => repository.readChunk(chunk));
  await slots.seal('a', old.text);
  await disk.link('a', 'current');
  await disk.link('a', 'previous');
  await slots.raiseFloor(old.manifest.version);
  return disk.after({ changes: disk.unsyncedChanges, content: 'kept' });
}

/** A station that is updated on a disk in memory, started by the real launcher on a real one. */
export class UpdateMachine {
  disk: PowerCutDisk;
  readonly #releases: LabReleases;
  readonly #behaviour: Behaviour;
  readonly #dir: string;
  #callsBefore = 0;
  #cutAt = Number.POSITIVE_INFINITY;
  running: SlotName | null = 'a';
  /** What the launcher said, at each start. */
  readonly starts: { readonly slot: SlotName | null; readonly isWhole: boolean }[] = [];
  /** Steps that were begun. */
  readonly steps: string[] = [];

  /** @param dir real folder for the launcher's copies */
  constructor(options: { releases: LabReleases; behaviour: Behaviour; disk: PowerCutDisk; dir: string }) {
    this.#releases = options.releases;
    this.#behaviour = options.behaviour;
    this.disk = options.disk;
    this.#dir = options.dir;
  }

  /** The power goes at the call of the file system of this number, counted from now on, through every restart. */
  cutAfterCalls(count: number): void {
    this.#cutAt = count;
    this.disk.cutAt = count;
  }

  /** Changing calls of the file system so far, through every restart. */
  get calls(): number {
    return this.#callsBefore + this.disk.calls;
  }

  /** What runs, and below what nothing is taken. */
  async runs(): Promise<{ version: string | null; floor: string | null }> {
    const { state, manifests } = await new SlotStore(this.disk).read();
    const version = this.running === null ? null : (manifests[this.running]?.version ?? null);
    return { version, floor: state.floor };
  }

  /**
   * Takes the job, or goes on with it, through every restart, until it is over.
   * @throws PowerCut where the disk says so
   */
  async update(onStep: (run: UpdateRun, step: string) => void = () => {}): Promise<UpdateJournal> {
    for (let lives = 0; lives < 12; lives++) {
      const journal = await this.#live(onStep);
      if (journal !== null) return journal;
      await this.start();
    }
    throw new AppError('update-stuck', 'the update comes to no end');
  }

  /** The processes are started, as after power-on: by the real launcher, until they stay. */
  async start(): Promise<void> {
    for (let times = 0; times < 8; times++) {
      const root = mkdtempSync(join(this.#dir, 'slots-'));
      try {
        toFolder(this.disk, root);
        const stdout = await launched(root);
        const { calls } = this.disk;
        this.#callsBefore += calls;
        this.disk = new PowerCutDisk(fromFolder(root));
        this.#cutAt -= calls;
        this.disk.cutAt = this.#cutAt;
        const version = /^release (\S+)/.exec(stdout)?.[1];
        const slot = version === undefined ? null : slotNamed(root);
        const isWhole = slot !== null && this.#isWhole(root, slot, version);
        this.starts.push({ slot, isWhole });
        this.running = slot;
        if (slot === null) return;
        const isNext = version === this.#releases.next.manifest.version;
        if (!(isNext && this.#behaviour === 'crashing')) return;
      } finally {
        rmSync(root, { recursive: true });
      }
    }
  }

  /** @returns null where the process was restarted */
  async #live(onStep: (run: UpdateRun, step: string) => void): Promise<UpdateJournal | null> {
    const { repository, next } = this.#releases;
    const { disk } = this;
    const jobs = new JobFile(disk);
    const slots = new SlotStore(disk);
    let kept = await jobs.read();
    if (kept === null) {
      const { kind, version, hash } = next.manifest;
      const journal = newJob({ jobId: 'job-0001', kind, version, hash });
      kept = {
        journal,
        manifest: next.manifest,
        manifestText: next.text,
        origin: 'lab',
        deadlineMs: null,
        mayRetry: false,
      };
      await jobs.begin(kept);
    }
    const { current, manifests } = await slots.read();
    const manifest = manifests[current];
    const chunks = new ChunkStore(disk, manifest === null ? null : { slot: current, manifest });
    let at = '';
    const ended = Promise.withResolvers<null>();
    const update = new UpdateRun({
      ...{
        job: kept,
        jobs,
        disk,
        slots,
        chunks,
        station: STATION,
        target: this.#target(() => ended.resolve(null)),
        clock: systemClock,
        logger: silentLogger,
      },
      fetch: async (chunk: Chunk) => readFileSync(join(repository.folder, chunkPath(chunk))),
      told: (journal) => {
        const step = journal.at === null || journal.at.isDone ? '' : journal.at.do;
        if (step === at || step === '') return;
        at = step;
        this.steps.push(step);
        onStep(update, step);
      },
    });
    return Promise.race([update.run(), ended.promise]);
  }

  #target(end: () => void): ReleaseTarget {
    return {
      seed: () => Promise.reject(new AppError('slot-not-whole', 'the first release was installed')),
      check: async () => null,
      running: async () => this.running,
      isReady: async () => this.running !== null,
      hasKept: async () => false,
      settle: async () => {},
      // As it is for the process that orders it: what was under way is written, and nothing comes after.
      restart: () => {
        setImmediate(end);
        return new Promise(() => {});
      },
      prove: async (proof) => {
        const runs = await new SlotStore(this.disk).read();
        const isNext =
          this.running !== null && runs.manifests[this.running]?.hash === this.#releases.next.manifest.hash;
        return isNext && this.#behaviour === 'mute' && proof === 'self-test' ? 'the self-test heard nothing' : null;
      },
    };
  }

  /** Whether every file of the slot that was started is the one of its release. */
  #isWhole(root: string, slot: SlotName, version: string | undefined): boolean {
    const { old, next } = this.#releases;
    const release = [old, next].find(({ manifest }) => manifest.version === version);
    if (release === undefined) return false;
    return release.manifest.files.every(({ path, sha256, mode }) => {
      try {
        const file = join(root, slot, path);
        return sha256Of(readFileSync(file)) === sha256 && (statSync(file).mode & 0o777) === mode;
      } catch {
        return false;
      }
    });
  }
}

/** What the program said that the launcher started; nothing where it found none to start. */
async function launched(root: string): Promise<string> {
  try {
    return (await run('sh', [launcher, root, 'start', 'station'])).stdout;
  } catch (error) {
    if (typeof (error as { code?: unknown }).code === 'number') return '';
    throw error;
  }
}

function chunkPath({ id }: Chunk): string {
  return `chunks/${id.slice(0, 2)}/${id}.zst`;
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Where current leads after a start. */
function slotNamed(root: string): SlotName | null {
  const name = readlinkSync(join(root, 'current'));
  return name === 'a' || name === 'b' ? name : null;
}

function toFolder(disk: PowerCutDisk, root: string): void {
  for (const [path, entry] of disk.entries()) {
    const at = join(root, path);
    if (entry.is === 'folder') mkdirSync(at, { recursive: true });
    else if (entry.is === 'link') symlinkSync(entry.target, at);
    else {
      writeFileSync(at, entry.bytes);
      chmodSync(at, entry.mode);
    }
  }
}

/** Links as they are: what is behind one stands there once. */
function fromFolder(root: string, below = ''): [string, DiskEntry][] {
  return readdirSync(join(root, below), { withFileTypes: true }).flatMap((found): [string, DiskEntry][] => {
    const path = below === '' ? found.name : `${below}/${found.name}`;
    const at = join(root, path);
    if (found.isDirectory()) return [[path, { is: 'folder' }], ...fromFolder(root, path)];
    if (found.isSymbolicLink()) return [[path, { is: 'link', target: readlinkSync(at) }]];
    return [[path, { is: 'file', mode: statSync(at).mode & 0o777, bytes: readFileSync(at) }]];
  });
}
