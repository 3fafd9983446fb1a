/** Releases of flows for a station under test, made and ordered, and how their jobs end. */
import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { FlowNodes } from '../../src/adapters/node-red/admin-api.js';
import { buildRelease } from '../../src/adapters/releases/release-builder.js';
import { ReleaseRepository } from '../../src/adapters/releases/release-repository.js';
import type { SlotDisk } from '../../src/adapters/slots/slot-disk.js';
import type { Clock } from '../../src/core/clock.js';
import { silentLogger } from '../../src/core/logger.js';
import { isOver, type UpdateJournal } from '../../src/fleet/update-journal.js';
import { folderSource } from '../../src/update/folder-source.js';
import type { ReleaseTargets } from '../../src/update/step-context.js';
import { Updater } from '../../src/update/updater.js';

const untaken = { untaken: 'of no concern here' };

export class FlowsOrders {
  readonly dir: string;
  /** The way that the job went. */
  readonly steps: string[] = [];
  onStep: (step: string) => void = () => {};
  #updater: Updater | undefined;
  readonly #repository: ReleaseRepository;
  #ended = Promise.withResolvers<UpdateJournal>();

  /** @param name of a folder that is new, for the releases and all else */
  protected constructor(name: string) {
    this.dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), name));
    this.#repository = new ReleaseRepository(join(this.dir, 'repository'));
  }

  /** The updates of a station; also once more, as after a crash of its process: the one before tells nothing any more. */
  protected async serve({
    disk,
    flows,
    clock,
  }: {
    disk: SlotDisk;
    flows: ReleaseTargets['flows'];
    clock: Clock;
  }): Promise<void> {
    this.close();
    const updater = new Updater({
      disk,
      station: {
        facts: { architecture: 'x64', board: 'virtual-board', nodeAbi: 137, firmware: '1.0.0' },
        ...{ noise: () => 'a call lives', untilQuiet: () => new Promise(() => {}) },
      },
      targets: { firmware: untaken, config: untaken, models: untaken, flows },
      ...{ source: folderSource, clock, logger: silentLogger },
      told: (journal) => updater === this.#updater && this.#told(journal),
    });
    this.#updater = updater;
    await updater.resume();
  }

  /** The process of the station is gone. */
  close(): void {
    this.#updater?.close();
    this.#updater = undefined;
  }

  get updater(): Updater {
    if (this.#updater === undefined) throw new Error('not started');
    return this.#updater;
  }

  /** Has a release installed. */
  async order(version: string, content: FlowNodes | string | Buffer, path = 'flows.json'): Promise<void> {
    const bytes = Buffer.isBuffer(content)
      ? content
      : Buffer.from(typeof content === 'string' ? content : JSON.stringify(content));
    const { file } = await buildRelease(
      { kind: 'flows', version, architecture: 'any', requires: { boards: [] } },
      [{ path, mode: 0o644, content: { bytes } }],
      this.#repository,
    );
    this.#ended = Promise.withResolvers<UpdateJournal>();
    this.steps.length = 0;
    await this.updater.order({
      ...{ jobId: `job-${version}`, origin: this.#repository.folder, deadlineMs: null, mayRetry: false },
      manifestText: readFileSync(file),
    });
  }

  ended(): Promise<UpdateJournal> {
    return this.#ended.promise;
  }

  /** The same, to the end of the job. */
  async install(...order: Parameters<FlowsOrders['order']>): Promise<UpdateJournal> {
    await this.order(...order);
    return this.ended();
  }

  async installed(): Promise<string | undefined> {
    const on = await this.updater.slots('flows');
    return on.manifests[on.current]?.version;
  }

  #told(journal: UpdateJournal): void {
    const { at } = journal;
    if (at !== null && !at.isDone && this.steps.at(-1) !== at.do) {
      this.steps.push(at.do);
      this.onStep(at.do);
    }
    if (isOver(journal.state)) this.#ended.resolve(journal);
  }
}
