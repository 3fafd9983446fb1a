import * as z from 'zod';
import { AppError } from '../../core/errors.js';
import type { Chunk, Manifest } from '../../fleet/manifest.js';
import { filePieces } from '../../fleet/release-stream.js';
import { otherSlot, type SlotContent, type SlotName, type SlotState, type Trial } from '../../fleet/slots.js';
import { isVersion, newerVersion } from '../../fleet/version.js';
import { readManifest } from '../../protocol/release-manifest.js';
import { type DiskFile, dropDurably, pointDurably, putDurably, type SlotDisk } from './slot-disk.js';

/** What the disk says of the slots. */
export interface SlotsOnDisk {
  readonly state: SlotState;
  /** Where the link leads; the slot that is whole where it leads nowhere. */
  readonly current: SlotName;
  readonly manifests: Readonly<Record<SlotName, Manifest | null>>;
}

/** The launcher went back by itself. */
export interface WentBack {
  readonly from: SlotName;
  readonly to: SlotName;
  readonly reason: string;
}

const SLOTS: readonly SlotName[] = ['a', 'b'];
const MANIFEST = 'manifest.json';
/** Releases that failed here and are not to be tried again: the last of them. */
const MOST_FAILED = 8;
const MOST_REASON_CHARS = 200;

const recordSchema = z.object({
  v: z.literal(1),
  /** Newest last. */
  failed: z.array(z.object({ hash: z.string(), version: z.string(), reason: z.string() })).max(MOST_FAILED),
  floor: z.string().refine(isVersion).nullable(),
});
type SlotRecord = z.infer<typeof recordSchema>;
const NOTHING: SlotRecord = { v: 1, failed: [], floor: null };

/**
 * The slots of one kind of release on a disk: what `fleet/slots.ts` tells of them, and each change that a step of an update makes.
 * Every change is durable once it has returned, may be made again after a power cut in the middle, and then comes to the same end.
 */
export class SlotStore {
  readonly #disk: SlotDisk;
  /** A manifest of thousands of files is read once. */
  readonly #manifests = new Map<SlotName, Manifest>();

  constructor(disk: SlotDisk) {
    this.#disk = disk;
  }

  async read(): Promise<SlotsOnDisk> {
    const manifests = { a: await this.#manifestOf('a'), b: await this.#manifestOf('b') };
    const named = slotName(await this.#disk.readLink('current'));
    const current = named ?? (manifests.a === null && manifests.b !== null ? 'b' : 'a');
    const record = await this.#record();
    const previous = slotName(await this.#disk.readLink('previous'));
    const written = await this.#trying();
    const trial: Trial | null =
      written === null || written.slot !== current ? null : { ...written, from: previous ?? otherSlot(current) };
    const contentOf = async (slot: SlotName): Promise<SlotContent> => {
      const manifest = manifests[slot];
      if (manifest === null) {
        return (await this.#disk.list(slot)).length === 0 ? { is: 'empty' } : { is: 'filling', hash: '' };
      }
      const { version, hash } = manifest;
      const failure = record.failed.find((one) => one.hash === hash);
      if (failure !== undefined) return { is: 'failed', version, hash, reason: failure.reason };
      const isConfirmed = slot === current ? trial === null : slot === previous;
      return { is: 'whole', version, hash, isConfirmed };
    };
    const slots = { a: await contentOf('a'), b: await contentOf('b') };
    return { state: { v: 1, slots, trial, floor: record.floor ?? floorOf(slots) }, current, manifests };
  }

  /**
   * What the launcher or a power cut has left: a trial of a slot that is not current means nothing; what went back is noted as failed.
   * @returns what went back since it was asked last
   */
  async tidy(): Promise<WentBack | null> {
    const { current } = await this.read();
    const trying = await this.#trying();
    if (trying !== null && trying.slot !== current) await dropDurably(this.#disk, 'trying');
    const text = await this.#disk.read('back');
    if (text === null) return null;
    const [, from, to, reason = ''] = /^from=([ab]) to=([ab]) reason=(.*)$/m.exec(Buffer.from(text).toString()) ?? [];
    const back: WentBack | null =
      from === undefined
        ? null
        : { from: from as SlotName, to: to as SlotName, reason: reason.slice(0, MOST_REASON_CHARS) };
    if (back !== null) await this.#noteFailure(back.from, back.reason);
    await dropDurably(this.#disk, 'back');
    return back;
  }

  /** The step `seed`, before the slot is filled: there is no release yet, and this slot gets the first. */
  async begin(slot: SlotName): Promise<void> {
    this.#manifests.delete(slot);
    await this.#disk.makeFolder('.');
    await dropDurably(this.#disk, 'trying');
    if ((await this.#disk.list(slot)).includes(MANIFEST)) await dropDurably(this.#disk, `${slot}/${MANIFEST}`);
    await this.#disk.removeFolder(slot);
    await pointDurably(this.#disk, 'previous', slot);
    await pointDurably(this.#disk, 'current', slot);
  }

  /** The step `clear`: from here on the slot is worth nothing, and the one that runs is what there is to go back to. */
  async clear(slot: SlotName, current: SlotName): Promise<void> {
    if (slot === current) throw new AppError('slot-in-use', `slot ${slot} runs`);
    await pointDurably(this.#disk, 'previous', current);
    this.#manifests.delete(slot);
    if ((await this.#disk.list(slot)).includes(MANIFEST)) await dropDurably(this.#disk, `${slot}/${MANIFEST}`);
    await this.#disk.removeFolder(slot);
    await this.#disk.syncFolder('.');
  }

  /**
   * The step `unpack`: every file of the release, as its chunks make it.
   * @param told how many bytes are written
   * @throws AppError `chunk-wrong`; what `readChunk` and the disk throw; the signal's reason
   */
  async unpack(
    slot: SlotName,
    manifest: Manifest,
    readChunk: (chunk: Chunk) => Promise<Uint8Array>,
    { signal, told }: { readonly signal?: AbortSignal; readonly told?: (bytes: number) => void } = {},
  ): Promise<void> {
    const folders = new Set<string>();
    let open: { readonly path: string; readonly file: DiskFile } | null = null;
    let writtenBytes = 0;
    try {
      for await (const { file, bytes, isLast } of filePieces(manifest, readChunk)) {
        signal?.throwIfAborted();
        const path = `${slot}/${file.path}`;
        if (open === null) {
          const folder = path.slice(0, path.lastIndexOf('/'));
          if (!folders.has(folder)) await this.#disk.makeFolder(folder);
          folders.add(folder);
          open = { path, file: await this.#disk.create(path, file.mode) };
        }
        if (bytes.length > 0) await open.file.append(bytes);
        writtenBytes += bytes.length;
        if (!isLast) continue;
        await open.file.close();
        open = null;
        told?.(writtenBytes);
      }
    } finally {
      await open?.file.close();
    }
  }

  /** The step `sync`: each file and each folder of the slot lasts from here on. */
  async sync(slot: SlotName, manifest: Manifest): Promise<void> {
    const folders = new Set<string>(['.', slot]);
    for (const { path } of manifest.files) {
      await this.#disk.syncFile(`${slot}/${path}`);
      for (let at = path.lastIndexOf('/'); at > 0; at = path.lastIndexOf('/', at - 1)) {
        folders.add(`${slot}/${path.slice(0, at)}`);
      }
    }
    for (const folder of folders) await this.#disk.syncFolder(folder);
  }

  /** The step `seal`: the slot is whole. @param text the manifest, as it was signed */
  async seal(slot: SlotName, text: Uint8Array): Promise<void> {
    this.#manifests.delete(slot);
    await putDurably(this.#disk, `${slot}/${MANIFEST}`, text);
  }

  /** The step `switch`. @throws AppError `slot-not-whole` */
  async switchTo(slot: SlotName, from: SlotName): Promise<void> {
    if ((await this.#manifestOf(slot)) === null) throw new AppError('slot-not-whole', `slot ${slot} is not whole`);
    await pointDurably(this.#disk, 'previous', from);
    await putDurably(this.#disk, 'trying', `slot=${slot} starts=0\n`);
    await pointDurably(this.#disk, 'current', slot);
  }

  /** The step `confirm`. @throws AppError `slot-not-current`: it has been gone back from */
  async confirm(slot: SlotName): Promise<void> {
    if (slotName(await this.#disk.readLink('current')) !== slot) {
      throw new AppError('slot-not-current', `slot ${slot} does not run any more`);
    }
    await dropDurably(this.#disk, 'trying');
  }

  /** The step `raise-floor`: nothing older is taken from now on. */
  async raiseFloor(version: string): Promise<void> {
    const record = await this.#record();
    const floor = record.floor === null ? version : newerVersion(record.floor, version);
    if (floor !== record.floor) await this.#keep({ ...record, floor });
  }

  /** The step `switch-back`. @param failure why it is not to be tried again; null where it may be */
  async switchBack(slot: SlotName, from: SlotName, failure: string | null): Promise<void> {
    if ((await this.#manifestOf(slot)) === null) throw new AppError('slot-not-whole', `slot ${slot} is not whole`);
    if (failure !== null) await this.#noteFailure(from, failure);
    await pointDurably(this.#disk, 'current', slot);
    await dropDurably(this.#disk, 'trying');
  }

  async #noteFailure(slot: SlotName, reason: string): Promise<void> {
    const manifest = await this.#manifestOf(slot);
    if (manifest === null) return;
    const { hash, version } = manifest;
    const record = await this.#record();
    const others = record.failed.filter((one) => one.hash !== hash);
    const failed = [...others, { hash, version, reason: reason.slice(0, MOST_REASON_CHARS) }].slice(-MOST_FAILED);
    await this.#keep({ ...record, failed });
  }

  /** The step `clear` of a release that is tried again forgets that it failed. */
  async forgetFailure(hash: string): Promise<void> {
    const record = await this.#record();
    const failed = record.failed.filter((one) => one.hash !== hash);
    if (failed.length !== record.failed.length) await this.#keep({ ...record, failed });
  }

  #keep(record: SlotRecord): Promise<void> {
    return putDurably(this.#disk, 'state.json', Buffer.from(`${JSON.stringify(record)}\n`));
  }

  /** One that can't be read is as none: `floorOf` stands in for it. */
  async #record(): Promise<SlotRecord> {
    const bytes = await this.#disk.read('state.json');
    if (bytes === null) return NOTHING;
    try {
      return recordSchema.parse(JSON.parse(Buffer.from(bytes).toString()));
    } catch {
      return NOTHING;
    }
  }

  async #trying(): Promise<{ slot: SlotName; starts: number } | null> {
    const bytes = await this.#disk.read('trying');
    const match = bytes === null ? null : /^slot=([ab]) starts=(\d)\n?$/.exec(Buffer.from(bytes).toString());
    return match === null ? null : { slot: match[1] as SlotName, starts: Number(match[2]) };
  }

  /** @returns null where the slot has none that can be read: it is not whole */
  async #manifestOf(slot: SlotName): Promise<Manifest | null> {
    const known = this.#manifests.get(slot);
    if (known !== undefined) return known;
    const bytes = await this.#disk.read(`${slot}/${MANIFEST}`);
    const read = bytes === null ? null : readManifest(bytes);
    if (read === null || !read.ok) return null;
    this.#manifests.set(slot, read.value);
    return read.value;
  }
}

function slotName(target: string | null): SlotName | null {
  return SLOTS.find((slot) => slot === target) ?? null;
}

/** Without a record, or with one that is lost: the newest that is confirmed here. */
function floorOf(slots: SlotState['slots']): string | null {
  const versions = SLOTS.flatMap((slot) => {
    const content = slots[slot];
    return content.is === 'whole' && content.isConfirmed ? [content.version] : [];
  });
  return versions.reduce<string | null>((floor, one) => (floor === null ? one : newerVersion(floor, one)), null);
}
