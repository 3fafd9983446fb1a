import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { readRescue, verifyRescue } from '../adapters/minisign/rescue.js';
import { diskOfKind, machineDisk, type SlotDisk } from '../adapters/slots/slot-disk.js';
import type { MetadataSource } from '../adapters/tuf/metadata-source.js';
import { TufTrust } from '../adapters/tuf/tuf-trust.js';
import { AppError } from '../core/errors.js';
import type { Logger } from '../core/logger.js';
import { packageRoot } from '../core/package-root.js';
import { RELEASE_KINDS, type ReleaseKind } from '../fleet/manifest.js';
import { SEED_VERSION, type SlotContent, type SlotName } from '../fleet/slots.js';
import { isOver, type UpdateJournal } from '../fleet/update-journal.js';
import { MOST_MANIFEST_BYTES, readManifest } from '../protocol/release-manifest.js';
import { type SlotsView, type UpdateStatus, type UpdateView, viewOfJob } from '../protocol/update.js';
import { folderSource, repositoryOf } from '../update/folder-source.js';
import type { ReleaseTargets } from '../update/step-context.js';
import { type FetchChunk, type UpdateOrder, Updater, type UpdaterOptions } from '../update/updater.js';
import { firmwareTarget } from './firmware-target.js';
import { UpdatedStation, type UpdatedStationOptions } from './updated-station.js';

/** What takes up releases of the kinds beside firmware. */
export type OtherTargets = Omit<ReleaseTargets, 'firmware'>;

export interface StationUpdatesOptions extends UpdatedStationOptions {
  /** Brings chunks of a job that comes from the fleet manager, by its origin. */
  readonly fleetSource?: (origin: string) => FetchChunk | undefined;
  /** Where metadata of releases come from. */
  readonly repository?: MetadataSource;
  readonly others: (parts: {
    readonly station: UpdatedStation;
    readonly diskOf: (kind: keyof OtherTargets) => SlotDisk;
    readonly logger: Logger;
  }) => OtherTargets;
  readonly told: (journal: UpdateJournal) => void;
}

const NO_REPOSITORY: MetadataSource = { read: async () => undefined };
const MOST_SIGNATURE_BYTES = 4_096;

/** The updates of a station that runs from slots (`update.slots`): what it believes of releases, and the one job that changes them. */
export class StationUpdates {
  readonly trust: TufTrust | undefined;
  readonly #updater: Updater;

  /**
   * @returns undefined where the configuration has no slots, or this program was not started from one
   * @throws AppError `trust-root-invalid`
   */
  static async open(options: StationUpdatesOptions): Promise<StationUpdates | undefined> {
    const { config, logger, clock } = options;
    const { slots, root } = config.update;
    if (slots === undefined) return undefined;
    const slot = slotOf(packageRoot, slots);
    if (slot === null) {
      logger.warn({ slots, program: packageRoot }, 'not started from a slot: there are no updates until it is');
      return undefined;
    }
    const trust =
      root === undefined
        ? undefined
        : await TufTrust.open({
            dir: join(config.state, 'trust'),
            initialRoot: readFileSync(root, 'utf8'),
            source: options.repository ?? NO_REPOSITORY,
            clock,
            logger,
          });
    return new StationUpdates(options, slots, slot, trust);
  }

  private constructor(options: StationUpdatesOptions, slots: string, slot: SlotName, trust: TufTrust | undefined) {
    const { clock, told } = options;
    const logger = options.logger.child({ about: 'update' });
    const source: UpdaterOptions['source'] = (origin) => {
      const folder = /^folder:(\/.*)$/.exec(origin)?.[1];
      if (folder !== undefined) return folderSource(folder);
      return options.fleetSource?.(origin) ?? unknownSource(origin);
    };
    const station = new UpdatedStation(options);
    const disk = machineDisk(slots);
    const others = options.others({ station, diskOf: (kind) => diskOfKind(disk, kind), logger });
    const targets: ReleaseTargets = { firmware: firmwareTarget(station, slot), ...others };
    this.trust = trust;
    this.#updater = new Updater({ disk, station, targets, source, clock, logger, told });
  }

  /** The job that runs, or was the last. */
  get journal(): UpdateJournal | null {
    return this.#updater.journal;
  }

  /** The version of a release that runs, or is about to, and has yet to prove itself. */
  get onTrial(): string | null {
    const { journal } = this;
    return journal?.hasSwitched && !journal.isConfirmed && !isOver(journal.state) ? journal.version : null;
  }

  resume(): Promise<void> {
    return this.#updater.resume();
  }

  close(): void {
    this.#updater.close();
  }

  /** Takes a job whose manifest's signature was checked. @throws as `Updater.order` */
  order(order: UpdateOrder): Promise<void> {
    return this.#updater.order(order);
  }

  cancel(jobId: string, reason: string): Promise<boolean> {
    return this.#updater.cancel(jobId, reason);
  }

  /** The release of a kind that runs; null where there is none yet, or the slot can't be read. */
  async running(kind: ReleaseKind): Promise<{ readonly version: string; readonly hash: string } | null> {
    const { current, manifests } = await this.#updater.slots(kind);
    const manifest = manifests[current];
    if (manifest === null || manifest.version === SEED_VERSION) return null;
    return { version: manifest.version, hash: manifest.hash };
  }

  async status(): Promise<UpdateStatus> {
    const viewOf = (content: SlotContent) => ({
      is: content.is,
      version: 'version' in content ? content.version : null,
      isConfirmed: content.is === 'whole' && content.isConfirmed,
      reason: content.is === 'failed' ? content.reason : null,
    });
    const slotsOf = async (kind: ReleaseKind): Promise<SlotsView> => {
      const { state, current } = await this.#updater.slots(kind);
      return { current, slots: { a: viewOf(state.slots.a), b: viewOf(state.slots.b) }, floor: state.floor };
    };
    const others = RELEASE_KINDS.filter((kind) => kind !== 'firmware');
    const views = await Promise.all(others.map(async (kind) => ({ kind, ...(await slotsOf(kind)) })));
    const { journal } = this.#updater;
    return {
      ...(await slotsOf('firmware')),
      others: views.filter(({ slots }) => slots.a.is !== 'empty' || slots.b.is !== 'empty'),
      job: journal === null ? null : viewOfJob(journal),
    };
  }

  /**
   * A rescue: a release from a folder, signed by a rescue key, under the version floor of any release.
   * @throws AppError `no-trust-root`, `release-absent`, `update-busy`, those of `readRescue`
   */
  async installFrom(folder: string): Promise<UpdateView> {
    if (this.trust === undefined) {
      throw new AppError('no-trust-root', 'this station knows nobody who may sign its releases', {
        remedy: 'Give it a root: update.root of its configuration',
      });
    }
    const manifestText = readBounded(join(folder, 'manifest.json'), MOST_MANIFEST_BYTES);
    const signature = readBounded(join(folder, 'manifest.json.minisig'), MOST_SIGNATURE_BYTES).toString('utf8');
    const keys = this.trust.rescueKeys();
    verifyRescue({ manifest: manifestText, signature, keys });
    const said = readManifest(manifestText);
    const { state } = await this.#updater.slots(said.ok ? said.value.kind : 'firmware');
    const manifest = readRescue({ manifest: manifestText, signature, keys, slots: state });
    const origin = `folder:${repositoryOf(resolve(folder), manifest)}`;
    // Somebody stands before it: a release that failed before may be wanted again.
    const jobId = `rescue-${randomUUID()}`;
    await this.#updater.order({ jobId, manifestText, origin, deadlineMs: null, mayRetry: true });
    const { journal } = this.#updater;
    if (journal === null) throw new AppError('update-busy', 'the job has gone');
    return viewOfJob(journal);
  }
}

function unknownSource(origin: string): FetchChunk {
  return () => Promise.reject(new AppError('source-unknown', `nobody brings chunks from ${origin.slice(0, 100)}`));
}

function readBounded(file: string, mostBytes: number): Buffer {
  try {
    const found = statSync(file);
    // A pipe or a device on the stick would be read without end.
    if (!found.isFile() || found.size > mostBytes)
      throw new AppError('release-absent', `${file} is no file of at most ${mostBytes} bytes`);
    return readFileSync(file);
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    throw new AppError('release-absent', `${file} can't be read (${(cause as NodeJS.ErrnoException).code})`, {
      remedy:
        'Name the folder of a release, with manifest.json and manifest.json.minisig in it, readable for the station',
      cause,
    });
  }
}

/** The slot that a program was started from; null where it was from none. */
function slotOf(program: string, slots: string): SlotName | null {
  if (dirname(program) !== slots) return null;
  const name = basename(program);
  return (name === 'a' || name === 'b') && existsSync(join(program, 'manifest.json')) ? name : null;
}
