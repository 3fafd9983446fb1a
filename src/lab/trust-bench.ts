import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Metadata, MetadataKind, Signature } from '@tufjs/models';
import { folderSource, type MetadataSource } from '../adapters/tuf/metadata-source.js';
import { TufRepository } from '../adapters/tuf/repository.js';
import { RepositoryFiles, sha256Of } from '../adapters/tuf/repository-files.js';
import type { Role } from '../adapters/tuf/roles.js';
import { newPrivateKey, type SigningKey, signingKey } from '../adapters/tuf/signing-key.js';
import { TufTrust } from '../adapters/tuf/tuf-trust.js';
import type { Clock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import { silentLogger } from '../core/logger.js';
import { contentHash, type ReleaseKind } from '../fleet/manifest.js';
import { writeManifest } from '../protocol/release-manifest.js';

export const DAY_MS = 86_400_000;
export const FIRMWARE = 'releases/1.2.0/arm64/manifest.json';
export const FLOWS = 'flows/1.2.0/any/manifest.json';

/** How long a file may take: long, since the machine may be busy, but for an attack that waits for it. */
const FETCH_MS = 30_000;
const IMPATIENT_FETCH_MS = 500;

const KIND_OF: Readonly<Record<Role, MetadataKind>> = {
  root: MetadataKind.Root,
  targets: MetadataKind.Targets,
  flows: MetadataKind.Targets,
  snapshot: MetadataKind.Snapshot,
  timestamp: MetadataKind.Timestamp,
};

/** The signed part of metadata, to be changed by whoever forges it. */
// biome-ignore lint/suspicious/noExplicitAny: what is forged has no form
export type Forged = Record<string, any>;

/** The repository that all begin with. */
let pattern: { readonly keys: TrustBench['keys']; readonly files: ReadonlyMap<string, Buffer> } | undefined;

/**
 * A repository with all its keys, a station that trusts it, and an attacker between them: what is served in the place of a
 * file is what the station gets. The wall clock is moved by hand; timers are real.
 */
export class TrustBench {
  readonly keys: Record<Role, SigningKey[]>;
  readonly repository: TufRepository;
  readonly clock: Clock;
  readonly #dir: string;
  readonly #served = new Map<string, Uint8Array | MetadataSource['read']>();
  #wallMs = Date.UTC(2026, 5, 1);
  #uptimeMs = 0;
  #mostFetchMs = FETCH_MS;
  #trust: TufTrust | undefined;

  private constructor(dir: string, keys?: TrustBench['keys']) {
    this.#dir = dir;
    this.clock = {
      nowMs: () => this.#uptimeMs,
      wallMs: () => this.#wallMs,
      after: (delayMs, action) => {
        const timer = setTimeout(action, delayMs);
        return { cancel: () => clearTimeout(timer) };
      },
    };
    const make = (count: number) => Array.from({ length: count }, () => signingKey(newPrivateKey()));
    this.keys =
      keys === undefined
        ? { root: make(3), targets: make(1), flows: make(1), snapshot: make(1), timestamp: make(1) }
        : { ...keys };
    this.repository = new TufRepository({ dir: join(dir, 'repository'), clock: this.clock });
  }

  /**
   * With a firmware and flows in it, which the station has not asked for yet. A repository that was made before is copied,
   * keys and all, to save the time that its files take to be safe on a disk: `isOther` has keys of its own.
   */
  static async make(dir: string, { isOther = false } = {}): Promise<TrustBench> {
    const bench = new TrustBench(dir, isOther ? undefined : pattern?.keys);
    if (pattern === undefined || isOther) {
      await bench.repository.init(bench.keys);
      await bench.repository.addTargets([
        { path: FIRMWARE, bytes: manifest('firmware') },
        { path: FLOWS, bytes: manifest('flows') },
      ]);
      await bench.publish();
    } else await writeFiles(join(dir, 'repository'), pattern.files);
    if (pattern === undefined) pattern = { keys: { ...bench.keys }, files: await readFiles(join(dir, 'repository')) };
    bench.serve(FIRMWARE, manifest('firmware'));
    bench.serve(FLOWS, manifest('flows'));
    return bench;
  }

  /** All holders of keys sign. @throws AppError `lab-fault` where something still waits */
  async publish(): Promise<void> {
    const { waiting } = await this.repository.sign(Object.values(this.keys).flat());
    if (waiting.length > 0) throw new AppError('lab-fault', `${waiting[0]?.role} waits for signatures`);
  }

  /** The station's own. */
  async trust(): Promise<TufTrust> {
    this.#trust ??= await this.open(join(this.#dir, 'trust'));
    return this.#trust;
  }

  /** The station's process starts again, with what it has on disk. */
  restart(): void {
    this.#trust = undefined;
  }

  /** The station starts again, and from now on gives a fetch up soon. */
  async impatient(): Promise<TufTrust> {
    this.restart();
    this.#mostFetchMs = IMPATIENT_FETCH_MS;
    return this.trust();
  }

  async open(dir: string, rootVersion = 1): Promise<TufTrust> {
    return TufTrust.open({
      dir,
      initialRoot: (await this.published('root', rootVersion)).toString('utf8'),
      source: this.source(),
      clock: this.clock,
      logger: silentLogger,
      mostFetchMs: this.#mostFetchMs,
    });
  }

  source(): MetadataSource {
    const repository = folderSource(join(this.#dir, 'repository'));
    return {
      read: async (name, signal) => {
        const served = this.#served.get(name);
        if (served === undefined) return repository.read(name, signal);
        return typeof served === 'function' ? served(name, signal) : oneByOne(served);
      },
    };
  }

  serve(name: string, instead: Uint8Array | string | MetadataSource['read']): void {
    this.#served.set(name, typeof instead === 'string' ? Buffer.from(instead) : instead);
  }

  serveNothingElse(): void {
    this.#served.clear();
  }

  /** Time passes for everybody, and the station stays up. */
  pass(ms: number): void {
    this.#wallMs += ms;
    this.#uptimeMs += ms;
  }

  /** The station's clock alone: it has no battery, and the power was cut. */
  setClock(wallMs: number): void {
    this.#wallMs = wallMs;
  }

  /** The power is cut for so long. */
  wait(ms: number): void {
    this.#wallMs += ms;
    this.restart();
  }

  async published(role: Role, version?: number): Promise<Buffer> {
    const dir = join(this.#dir, 'repository');
    if (version !== undefined) return readFile(join(dir, 'metadata', `${version}.${role}.json`));
    return Buffer.from((await new RepositoryFiles(dir).published(role))?.text ?? '');
  }

  /** Metadata of `role`, changed and signed by `signers`, as the attacker makes it. */
  async forge(role: Role, change: (signed: Forged) => void, signers: readonly SigningKey[]): Promise<Buffer> {
    const signed: Forged = JSON.parse((await this.published(role)).toString('utf8')).signed;
    change(signed);
    return signedBy(role, signed, signers);
  }

  /** Forges and serves timestamp and snapshot over other targets, as whoever has both online keys could. */
  async forgeAbove(meta: Forged, by: { readonly timestamp: SigningKey; readonly snapshot: SigningKey }): Promise<void> {
    const snapshot = await this.forge(
      'snapshot',
      (signed) => nextVersion(signed, { meta: { ...signed.meta, ...meta } }),
      [by.snapshot],
    );
    const version: number = JSON.parse(snapshot.toString('utf8')).signed.version;
    this.serve(`metadata/${version}.snapshot.json`, snapshot);
    await this.forgeTimestamp({ version, ...described(snapshot) }, by.timestamp);
  }

  async forgeTimestamp(snapshotMeta: Forged, by: SigningKey): Promise<void> {
    const forged = await this.forge(
      'timestamp',
      (signed) => nextVersion(signed, { meta: { 'snapshot.json': snapshotMeta } }),
      [by],
    );
    this.serve('metadata/timestamp.json', forged);
  }

  /** Another key for a role, in the place of its first, which is returned. */
  async rotate(role: Role): Promise<SigningKey> {
    const [removed, ...others] = this.keys[role];
    if (removed === undefined) throw new AppError('lab-fault', `${role} has no key`);
    const added = signingKey(newPrivateKey());
    await this.repository.rotate(role, { removed: removed.keyId, added });
    // The old one of a root signs the change as well.
    this.keys[role] = [...others, added];
    await this.repository.sign([...Object.values(this.keys).flat(), removed]);
    return removed;
  }

  key(role: Role): SigningKey {
    const [first] = this.keys[role];
    if (first === undefined) throw new AppError('lab-fault', `${role} has no key`);
    return first;
  }
}

/** The manifest of a release of one small file. */
export function manifest(kind: ReleaseKind, version = '1.2.0'): Buffer {
  const architecture = kind === 'firmware' ? 'arm64' : 'any';
  const content = `${kind} ${version}`;
  const [id, sizeBytes] = [sha256Of(content), content.length];
  const files = [{ path: 'content', mode: 0o644, sizeBytes, sha256: id } as const];
  const chunks = [{ id, sizeBytes, storedBytes: sizeBytes }];
  const requires = { boards: [], freeBytes: 0 };
  const hash = contentHash(files);
  return Buffer.from(writeManifest({ kind, version, architecture, requires, sizeBytes, hash, files, chunks }));
}

export function signedBy(role: Role, signed: Forged, signers: readonly SigningKey[]): Buffer {
  const metadata = Metadata.fromJSON(KIND_OF[role] as MetadataKind.Targets, { signed, signatures: [] });
  for (const key of signers) {
    metadata.sign((data) => new Signature({ keyID: key.keyId, sig: key.sign(data).toString('hex') }));
  }
  return Buffer.from(JSON.stringify(metadata.toJSON()));
}

export function nextVersion(signed: Forged, change: Forged = {}): void {
  Object.assign(signed, { version: signed.version + 1 }, change);
}

export function described(bytes: Uint8Array): Forged {
  return { length: bytes.length, hashes: { sha256: sha256Of(bytes) } };
}

/** A station that has trusted the repository once. */
export async function trusting(dir: string) {
  const bench = await TrustBench.make(dir);
  const trust = await bench.trust();
  await trust.refresh();
  return { bench, trust };
}

/** One more release: new targets or flows, snapshot and timestamp. */
export async function another(bench: TrustBench, path = 'releases/1.3.0/arm64/manifest.json'): Promise<void> {
  await bench.repository.addTargets([{ path, bytes: manifest('firmware', '1.3.0') }]);
  await bench.publish();
}

export const online = (bench: TrustBench) => ({ timestamp: bench.key('timestamp'), snapshot: bench.key('snapshot') });

async function* oneByOne(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

async function readFiles(dir: string): Promise<Map<string, Buffer>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const paths = entries.filter((entry) => entry.isFile()).map(({ parentPath, name }) => join(parentPath, name));
  return new Map(await Promise.all(paths.map(async (path) => [path.slice(dir.length), await readFile(path)] as const)));
}

async function writeFiles(dir: string, files: ReadonlyMap<string, Buffer>): Promise<void> {
  for (const [path, bytes] of files) {
    await mkdir(dirname(join(dir, path)), { recursive: true });
    await writeFile(join(dir, path), bytes);
  }
}
