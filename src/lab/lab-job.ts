import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ReleaseRepository } from '../adapters/releases/release-repository.js';
import { ChunkStore } from '../adapters/slots/chunk-store.js';
import type { SlotDisk } from '../adapters/slots/slot-disk.js';
import type { SlotStore } from '../adapters/slots/slot-store.js';
import { systemClock } from '../core/clock.js';
import { silentLogger } from '../core/logger.js';
import { chunkFile, type Manifest } from '../fleet/manifest.js';
import { newJob, type UpdateJournal } from '../fleet/update-journal.js';
import { JobFile } from '../update/job-file.js';
import type { ReleaseTarget, UpdateStation } from '../update/step-context.js';
import { UpdateRun } from '../update/update-run.js';

/** A release as it is signed: its manifest, and the manifest's bytes. */
export interface SignedRelease {
  readonly manifest: Manifest;
  readonly text: Uint8Array;
}

/** A quiet station, of no kind of board in particular. */
const STATION: UpdateStation = {
  facts: { architecture: 'x64', board: 'virtual-board', nodeAbi: 137, firmware: '1.0.0' },
  untilQuiet: async () => {},
  noise: () => null,
};

/** What was told of a job, through every life of its station. */
export class JobWatch {
  /** Steps that were begun. */
  readonly steps: string[] = [];
  /** The last with each step and state: by its `seq`, what is on the disk must be no older. */
  told: UpdateJournal | null = null;

  /** The job of `release` in one life of its station: taken, or gone on with. */
  async run(parts: {
    readonly release: SignedRelease;
    readonly repository: ReleaseRepository;
    /** The station's, where the job is kept. */
    readonly disk: SlotDisk;
    /** Of the release's kind. */
    readonly slotsDisk: SlotDisk;
    readonly slots: SlotStore;
    readonly target: ReleaseTarget;
    readonly onStep: (run: UpdateRun, step: string) => void;
  }): Promise<UpdateRun> {
    const { release, repository, slotsDisk, slots, target, onStep } = parts;
    const jobs = new JobFile(parts.disk);
    let job = await jobs.read();
    if (job === null) {
      const { manifest, text: manifestText } = release;
      const { kind, version, hash } = manifest;
      const journal = newJob({ jobId: 'job-0001', kind, version, hash });
      job = { journal, manifest, manifestText, origin: 'lab', deadlineMs: null, mayRetry: false };
      await jobs.begin(job);
    }
    const { current, manifests } = await slots.read();
    const installed = manifests[current];
    let at = '';
    const run = new UpdateRun({
      ...{ job, jobs, disk: slotsDisk, slots, target, station: STATION, clock: systemClock, logger: silentLogger },
      chunks: new ChunkStore(slotsDisk, installed === null ? null : { slot: current, manifest: installed }),
      fetch: async ({ id }) => readFileSync(join(repository.folder, chunkFile(id))),
      told: (journal) => {
        if (isNews(this.told, journal)) this.told = journal;
        const step = journal.at === null || journal.at.isDone ? '' : journal.at.do;
        if (step === at || step === '') return;
        at = step;
        this.steps.push(step);
        onStep(run, step);
      },
    });
    return run;
  }
}

/** Another step or state: progress alone is told, but not written down. */
function isNews(before: UpdateJournal | null, now: UpdateJournal): boolean {
  const textOf = ({ state, at, ending }: UpdateJournal) => JSON.stringify([state, at, ending]);
  return before === null || textOf(before) !== textOf(now);
}
