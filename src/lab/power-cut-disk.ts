import type { DiskFile, SlotDisk } from '../adapters/slots/slot-disk.js';
import { AppError } from '../core/errors.js';

/** What stands under a name. */
type Node =
  | { readonly is: 'folder' }
  | { readonly is: 'link'; readonly target: string }
  | { readonly is: 'file'; readonly mode: number; readonly data: FileData };

/** `written` is what programs read; `synced` is what is on the platter. */
interface FileData {
  written: Buffer;
  synced: Buffer;
}

/** What stands under a name, for a copy on a real disk, or of one. */
export type DiskEntry =
  | { readonly is: 'folder' }
  | { readonly is: 'link'; readonly target: string }
  | { readonly is: 'file'; readonly mode: number; readonly bytes: Buffer };

/** One change of names that no `syncFolder` has made lasting yet. */
interface Change {
  readonly folders: readonly string[];
  /** A name that is taken away with all that is in it. */
  readonly gone?: string | undefined;
  apply(names: Map<string, Node>): void;
}

/** What the disk did with that which was not synced when the power went. */
export interface Loss {
  /** How many of the changes of names that were not synced made it, in their order (a journalled file system commits them so). */
  readonly changes: number;
  /** But for this one of them, counted from 0: a file system that keeps no order. */
  readonly without?: number;
  /** Of content that was not synced: nothing of it, the first half, or all of it. */
  readonly content: 'lost' | 'torn' | 'kept';
}

/** Thrown by every call from the moment of the cut on. */
export class PowerCut extends AppError {
  constructor() {
    super('power-cut', 'the power is cut');
  }
}

/**
 * A disk in memory that knows what would be left of it if the power went now: names last once their folder was synced, content once
 * its file was. It promises less than ext4, which commits names in their order: here a folder that is synced makes no other lasting.
 * Of what is not synced a prefix may be left, or all but one; content may be written at any time, so that a name can last without its
 * content (the file is empty then, as after a rename without fsync), and content without its name.
 *
 * `cutAt` cuts the power in the middle: the call of that number, counted from 1, is not carried out and throws `PowerCut`, as does
 * every one after it.
 */
export class PowerCutDisk implements SlotDisk {
  /** Changing calls that were made. */
  calls = 0;
  cutAt = Number.POSITIVE_INFINITY;
  freeBytesLeft = Number.POSITIVE_INFINITY;
  readonly #lasting: Map<string, Node>;
  #changes: Change[] = [];
  #names: Map<string, Node>;

  /** @param entries what is on it, all of it lasting */
  constructor(entries: Iterable<[string, DiskEntry]> = []) {
    const nodes = [...entries].map(([path, entry]): [string, Node] => [path, nodeOf(entry)]);
    this.#lasting = new Map(nodes);
    this.#names = new Map(nodes);
  }

  /** Changes of names that would be in doubt now. */
  get unsyncedChanges(): number {
    return this.#changes.length;
  }

  /** Whether any content would be. */
  get hasUnsyncedContent(): boolean {
    return [...this.#names.values()].some((node) => node.is === 'file' && node.data.written !== node.data.synced);
  }

  /** The disk as it is found when the power comes back. */
  after(loss: Loss): PowerCutDisk {
    const names = new Map(this.#lasting);
    for (const [index, change] of this.#changes.slice(0, loss.changes).entries()) {
      if (index !== loss.without) change.apply(names);
    }
    const found: [string, DiskEntry][] = [];
    for (const [path, node] of names) {
      if (!hasItsFolders(names, path)) continue;
      const { is } = node;
      found.push([path, is === 'file' ? { is, mode: node.mode, bytes: contentAfter(node.data, loss.content) } : node]);
    }
    return new PowerCutDisk(found);
  }

  /** The same again, with all of it lasting. */
  twin(): PowerCutDisk {
    return new PowerCutDisk(this.entries());
  }

  /** Everything that is there, by path, folders before what is in them. */
  entries(): [string, DiskEntry][] {
    return [...this.#names]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([path, node]) => [
        path,
        node.is === 'file' ? { is: 'file', mode: node.mode, bytes: node.data.written } : node,
      ]);
  }

  async read(path: string): Promise<Uint8Array | null> {
    const node = this.#names.get(this.#resolve(path));
    return node?.is === 'file' ? node.data.written : null;
  }

  async readRange(path: string, at: number, bytes: number): Promise<Uint8Array | null> {
    const content = (await this.read(path))?.subarray(at, at + bytes);
    return content?.length === bytes ? content : null;
  }

  async readLink(path: string): Promise<string | null> {
    const node = this.#names.get(path);
    return node?.is === 'link' ? node.target : null;
  }

  async list(path: string): Promise<string[]> {
    const before = path === '.' ? '' : `${this.#resolve(path)}/`;
    const below = [...this.#names.keys()].filter((one) => one.startsWith(before));
    return below
      .map((one) => one.slice(before.length))
      .filter((one) => one !== '' && !one.includes('/'))
      .sort();
  }

  async makeFolder(path: string): Promise<void> {
    const parts = path.split('/');
    for (let i = 1; i <= parts.length; i++) {
      const folder = parts.slice(0, i).join('/');
      if (this.#names.get(folder)?.is === 'folder') continue;
      this.#call();
      this.#change([folder], (names) => names.set(folder, { is: 'folder' }));
    }
  }

  async create(path: string, mode: number): Promise<DiskFile> {
    this.#call();
    this.#needFolder(path);
    this.#givesBack(path);
    const data: FileData = freshData(Buffer.alloc(0));
    this.#change([path], (names) => names.set(path, { is: 'file', mode, data }));
    return {
      append: async (bytes) => {
        this.#call();
        // As much as there is room for is written, and takes it.
        const taken = bytes.subarray(0, Math.max(0, Math.min(bytes.byteLength, this.freeBytesLeft)));
        this.freeBytesLeft -= taken.byteLength;
        data.written = Buffer.concat([data.written, taken]);
        if (taken.byteLength < bytes.byteLength) throw errorOf('ENOSPC', 'no space left on device', path);
      },
      sync: async () => {
        this.#call();
        data.synced = data.written;
      },
      close: async () => {},
    };
  }

  async unlink(path: string): Promise<void> {
    if (!this.#names.has(path)) return;
    this.#call();
    this.#givesBack(path);
    this.#change([path], (names) => names.delete(path));
  }

  /** One name after the other, as it is on a real disk: a cut may come between any two. */
  async removeFolder(path: string): Promise<void> {
    const below = [...this.#names.keys()].filter((one) => one === path || one.startsWith(`${path}/`));
    for (const one of below.sort().reverse()) {
      this.#call();
      this.#givesBack(one);
      this.#change([one], (names) => names.delete(one), one);
    }
  }

  async rename(from: string, to: string): Promise<void> {
    this.#call();
    if (!this.#names.has(from)) throw errorOf('ENOENT', 'no such file or directory', from);
    this.#needFolder(to);
    this.#givesBack(to);
    this.#change([from, to], (names) => {
      const moved = [...names].filter(([path]) => path === from || path.startsWith(`${from}/`));
      for (const [path] of moved) names.delete(path);
      for (const [path, node] of moved) names.set(`${to}${path.slice(from.length)}`, node);
    });
  }

  async link(target: string, path: string): Promise<void> {
    this.#call();
    if (this.#names.has(path)) throw errorOf('EEXIST', 'file already exists', path);
    this.#change([path], (names) => names.set(path, { is: 'link', target }));
  }

  async syncFile(path: string): Promise<void> {
    this.#call();
    const node = this.#names.get(this.#resolve(path));
    if (node?.is !== 'file') throw errorOf('ENOENT', 'no such file or directory', path);
    node.data.synced = node.data.written;
  }

  /** What was done to names of this folder lasts from here on; what was done before to those of others need not. */
  async syncFolder(path: string): Promise<void> {
    this.#call();
    const folder = path === '.' ? '' : this.#resolve(path);
    const lasts = new Set(this.#changes.filter(({ folders }) => folders.includes(folder)));
    // What is gone for good takes along what was done in it before.
    for (const [index, { gone }] of this.#changes.entries()) {
      if (gone === undefined || !lasts.has(this.#changes[index] as Change)) continue;
      const isIn = (one: string): boolean => one === gone || one.startsWith(`${gone}/`);
      for (const before of this.#changes.slice(0, index)) if (before.folders.every(isIn)) lasts.add(before);
    }
    for (const change of this.#changes) if (lasts.has(change)) change.apply(this.#lasting);
    this.#changes = this.#changes.filter((change) => !lasts.has(change));
  }

  async freeBytes(): Promise<number> {
    return this.freeBytesLeft;
  }

  #call(): void {
    this.calls += 1;
    if (this.calls >= this.cutAt) throw new PowerCut();
  }

  /** The room of a file that goes away. */
  #givesBack(path: string): void {
    const node = this.#names.get(path);
    if (node?.is === 'file') this.freeBytesLeft += node.data.written.length;
  }

  #change(paths: readonly string[], apply: (names: Map<string, Node>) => void, gone?: string): void {
    apply(this.#names);
    this.#changes.push({ folders: paths.map(folderOf), gone, apply });
  }

  #needFolder(path: string): void {
    const folder = folderOf(path);
    if (folder !== '' && this.#names.get(folder)?.is !== 'folder') {
      throw errorOf('ENOENT', 'no such file or directory', path);
    }
  }

  /** Through a link that is the first part of a path: `current/manifest.json`. */
  #resolve(path: string): string {
    const [first = '', ...rest] = path.split('/');
    const node = this.#names.get(first);
    return node?.is === 'link' ? [node.target, ...rest].join('/') : path;
  }
}

function nodeOf(entry: DiskEntry): Node {
  return entry.is === 'file' ? { is: 'file', mode: entry.mode, data: freshData(entry.bytes) } : entry;
}

function freshData(bytes: Buffer): FileData {
  return { written: bytes, synced: bytes };
}

function contentAfter({ written, synced }: FileData, content: Loss['content']): Buffer {
  if (content === 'kept' || written === synced) return written;
  return content === 'lost'
    ? synced
    : written.subarray(0, synced.length + Math.ceil((written.length - synced.length) / 2));
}

function hasItsFolders(names: ReadonlyMap<string, Node>, path: string): boolean {
  const folder = folderOf(path);
  return folder === '' || (names.get(folder)?.is === 'folder' && hasItsFolders(names, folder));
}

function folderOf(path: string): string {
  const at = path.lastIndexOf('/');
  return at < 0 ? '' : path.slice(0, at);
}

function errorOf(code: string, text: string, path: string): Error {
  return Object.assign(new Error(`${code}: ${text}, '${path}'`), { code });
}
