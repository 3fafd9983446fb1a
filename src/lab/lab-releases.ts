import { mkdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { applicationTree } from '../adapters/releases/application-tree.js';
import { buildRelease } from '../adapters/releases/release-builder.js';
import { ReleaseRepository } from '../adapters/releases/release-repository.js';
import { contentOf, type TreeFile } from '../adapters/releases/release-tree.js';
import { machineDisk, pointDurably } from '../adapters/slots/slot-disk.js';
import { SlotStore } from '../adapters/slots/slot-store.js';
import { TufRepository } from '../adapters/tuf/repository.js';
import { targetOf } from '../adapters/tuf/roles.js';
import { newPrivateKey, signingKey } from '../adapters/tuf/signing-key.js';
import { systemClock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { packageRoot } from '../core/package-root.js';
import { distinctChunks, type Manifest, type ReleaseKind } from '../fleet/manifest.js';
import { storedBytesOf } from '../fleet/release-diff.js';

/** What the lab's stations are made to run: this very checkout, changed. */
export interface LabRelease {
  readonly manifest: Manifest;
  /** The whole of it, as it is sent. */
  readonly storedBytes: number;
}

/** A stick of a lab is not kept for years: quicker to make, a tenth larger. */
const LEVEL = 3;
/** What the programs load at run time; what stands in none of them is Node-RED's, without which the lab's stations are. */
const USED_PACKAGES = ['alsa-capture', '@discordjs/opus', 'libopus-wasm', 'onoff', 'onnxruntime-node'];
/** What the release that is installed first lacks: it hears nothing by itself yet. */
const HEARING = /^(?:models\/|node_modules\/onnxruntime-)/;
/** Where the loudspeaker's next samples are taken from the mixer. */
const PULL = /this\.#listener\?\.pull\(\)\s*\?\?\s*silence/;

/** What is done to this checkout's files. */
type Recipe = (tree: readonly TreeFile[]) => TreeFile[];

const STATION = 'dist/src/bin/station.js';
const without =
  (pattern: RegExp): Recipe =>
  (tree) =>
    tree.filter(({ path }) => !pattern.test(path));
const mute: Recipe = (tree) => changed(tree, PULL, '(this.#listener?.pull(),silence)');
const line: Recipe = (tree) => withALineMore(tree, STATION);
/** A sixth of the bytes: nothing to hear by itself with, and the Node.js of this checkout, which a script stands for. */
const small: Recipe = (tree) => withNodeFrom(process.execPath, without(HEARING)(tree));

const RECIPES = {
  /** To be installed already: it can't hear by itself yet. */
  old: { version: '9.0.0', made: without(HEARING) },
  /** Brings what it takes to hear. */
  good: { version: '9.1.0', made: (tree) => [...tree] },
  /** Its loudspeaker is silent. */
  bad: { version: '9.2.0', made: mute },
  /** `good` but for a line. */
  line: { version: '9.3.0', made: line },
  smallOld: { version: '9.0.0', made: small },
  smallLine: { version: '9.1.0', made: (tree) => line(small(tree)) },
  smallMute: { version: '9.2.0', made: (tree) => mute(small(tree)) },
  /** The station ends as soon as it has begun. */
  smallCrashing: { version: '9.3.0', made: (tree) => ending(small(tree), STATION) },
  smallWithoutMedia: { version: '9.4.0', made: (tree) => ending(small(tree), 'dist/src/bin/media.js') },
  /** Half a release: its manifest knows nothing of the programs that are not there. */
  /** With Node-RED. */
  flowsOld: { version: '9.6.0', made: small, hasNodeRed: true },
  flowsCrashing: { version: '9.7.0', made: (tree) => ending(small(tree), 'dist/src/bin/flows.js'), hasNodeRed: true },
  smallHalf: { version: '9.5.0', made: (tree) => without(/^dist\/src\/bin\//)(small(tree)) },
} as const satisfies Record<string, { version: string; made: Recipe; hasNodeRed?: boolean }>;
export type ReleaseName = keyof typeof RECIPES;

/** A repository with releases of this checkout, signed by keys of its own. */
export class LabReleases {
  readonly folder: string;
  readonly #repository: ReleaseRepository;

  private constructor(folder: string) {
    this.folder = folder;
    this.#repository = new ReleaseRepository(folder, { level: LEVEL });
  }

  /** @throws AppError `not-set-up`, `lab-fault` */
  static async make<N extends ReleaseName>(
    folder: string,
    names: readonly N[],
    told: (text: string) => void,
  ): Promise<{ releases: LabReleases } & Readonly<Record<N, LabRelease>>> {
    mkdirSync(folder, { recursive: true });
    const releases = new LabReleases(folder);
    const made = {} as Record<N, LabRelease>;
    for (const name of names) {
      const recipe = RECIPES[name];
      told(`building release ${recipe.version}`);
      made[name] = await releases.#firmware(recipe.version, recipe.made, 'hasNodeRed' in recipe);
    }
    await releases.#sign(Object.values<LabRelease>(made));
    return { releases, ...made };
  }

  /**
   * A repository with a firmware and releases of the other kinds, of the files that are given.
   * @throws AppError `not-set-up`, `lab-fault`
   */
  static async makeParts(
    folder: string,
    parts: readonly { readonly kind: ReleaseKind; readonly version: string; readonly files: readonly TreeFile[] }[],
  ): Promise<{ releases: LabReleases; firmware: LabRelease }> {
    mkdirSync(folder, { recursive: true });
    const releases = new LabReleases(folder);
    const firmware = await releases.#firmware('9.1.0', (tree) => [...tree]);
    const all = [firmware];
    for (const { files, kind, version } of parts) {
      const description = { kind, version, architecture: 'any', requires: { boards: [], firmware: '9.0.0' } } as const;
      all.push(described((await buildRelease(description, files, releases.#repository)).manifest));
    }
    await releases.#sign(all);
    return { releases, firmware };
  }

  /** Lays a release into slot a of a new folder, as an installer does. */
  async install({ manifest }: LabRelease, slots: string): Promise<void> {
    mkdirSync(slots, { recursive: true });
    const disk = machineDisk(slots);
    const store = new SlotStore(disk);
    await store.unpack('a', manifest, (chunk) => this.#repository.readChunk(chunk));
    await store.sync('a', manifest);
    await store.seal('a', await readFile(join(this.folder, targetOf(manifest))));
    await pointDurably(disk, 'current', 'a');
  }

  /** The first root, which a station is made with. */
  get root(): string {
    return join(this.folder, 'metadata', '1.root.json');
  }

  async #firmware(version: string, change: Recipe, hasNodeRed = false): Promise<LabRelease> {
    const architecture = process.arch === 'arm64' ? 'arm64' : 'x64';
    const whole = await applicationTree({ root: packageRoot, version, architecture });
    const tree = hasNodeRed ? whole : withoutNodeRed(whole);
    const description = { kind: 'firmware', version, architecture, requires: { boards: [] } } as const;
    return described((await buildRelease(description, change(tree), this.#repository)).manifest);
  }

  async #sign(all: readonly LabRelease[]): Promise<void> {
    const make = (count: number) => Array.from({ length: count }, () => signingKey(newPrivateKey()));
    const keys = { root: make(3), targets: make(1), flows: make(1), snapshot: make(1), timestamp: make(1) };
    const tuf = new TufRepository({ dir: this.folder, clock: systemClock });
    await tuf.init(keys);
    await tuf.sign(Object.values(keys).flat());
    const targets = all.map(async ({ manifest }) => {
      const path = targetOf(manifest);
      return { path, bytes: await readFile(join(this.folder, path)) };
    });
    await tuf.addTargets(await Promise.all(targets));
    const { waiting } = await tuf.sign(Object.values(keys).flat());
    if (waiting.length > 0) throw new AppError('lab-fault', `${waiting[0]?.role} waits for signatures`);
  }
}

function described(manifest: Manifest): LabRelease {
  return { manifest, storedBytes: storedBytesOf(distinctChunks(manifest)) };
}

/** Node-RED and what it brings are half of the files and a fifth of the bytes. */
function withoutNodeRed(tree: readonly TreeFile[]): TreeFile[] {
  const manifests = new Map(tree.filter(({ path }) => path.endsWith('/package.json')).map((file) => [file.path, file]));
  const used = new Set<string>();
  const wanted = [...USED_PACKAGES];
  for (let name = wanted.pop(); name !== undefined; name = wanted.pop()) {
    const file = manifests.get(`node_modules/${name}/package.json`);
    if (file === undefined || used.has(name)) continue;
    used.add(name);
    const { dependencies = {} } = JSON.parse(textOf(file)) as { dependencies?: Record<string, string> };
    wanted.push(...Object.keys(dependencies));
  }
  return tree.filter(({ path }) => {
    const [, name] = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path) ?? [];
    return name === undefined || used.has(name);
  });
}

/** @throws AppError `lab-fault` where there is no such place */
function changed(tree: readonly TreeFile[], place: RegExp, instead: string): TreeFile[] {
  let found = 0;
  const files = tree.map((file) => {
    if (!/^dist\/src\/(?:bin\/|adapters\/alsa\/).*\.js$/.test(file.path)) return file;
    const text = textOf(file);
    if (!place.test(text)) return file;
    if (file.path.startsWith('dist/src/bin/')) found += 1;
    return { ...file, content: { bytes: Buffer.from(text.replace(place, instead)) } };
  });
  if (found === 0) throw new AppError('lab-fault', `no program has ${place}: the bad release can't be made`);
  return files;
}

function withALineMore(tree: readonly TreeFile[], path: string): TreeFile[] {
  return tree.map((file) => {
    if (file.path !== path) return file;
    const lines = textOf(file).split('\n');
    const at = lines.findIndex((line, index) => index > lines.length / 2 && line.endsWith(';'));
    if (at < 0) throw new AppError('lab-fault', `${path} has no line that ends a statement`);
    lines[at] += 'globalThis.isChanged=true;';
    return { ...file, content: { bytes: Buffer.from(lines.join('\n')) } };
  });
}

/** @param node absolute */
function withNodeFrom(node: string, tree: readonly TreeFile[]): TreeFile[] {
  return tree.map((file) => {
    if (file.path !== '.toolchain/bin/node') return file;
    return { ...file, content: { bytes: Buffer.from(`#!/bin/sh\nexec '${node}' "$@"\n`) } };
  });
}

function ending(tree: readonly TreeFile[], path: string): TreeFile[] {
  return tree.map((file) =>
    file.path === path ? { ...file, content: { bytes: Buffer.from('process.exit(1);\n') } } : file,
  );
}

function textOf(file: TreeFile): string {
  return Buffer.concat([...contentOf(file)]).toString('utf8');
}
