import { createHash } from 'node:crypto';
import { lchownSync, readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { ReleaseRepository } from '../adapters/releases/release-repository.js';
import { machineDisk, pointDurably } from '../adapters/slots/slot-disk.js';
import { SlotStore } from '../adapters/slots/slot-store.js';
import { AppError } from '../core/errors.js';
import { makeFolder } from '../core/folder.js';
import { readManifest } from '../protocol/release-manifest.js';
import type { FirstRelease } from './plan.js';
import { checkSignature } from './release-signature.js';

/** The user who replaces releases: the station. */
const OWNER = 'entryphone-station';
const MOST_ROOT_BYTES = 512_000;

/**
 * Looks at a release that a station is to begin with: whether it is for it, and whether who signs its releases has signed this one.
 * @param place its folder in a repository, or its manifest
 * @param on the board that it is for; without an architecture any will do: an image may be another machine's. `trust` is the file of the
 * first root; that of the repository where it is left out, which vouches for nothing but that the repository is one
 * @throws AppError `release-absent`, `manifest-invalid`; `release-unfit`, `release-unsigned`, `trust-root-invalid` with what to do
 */
export async function firstRelease(
  place: string,
  on: {
    readonly board: string;
    readonly architecture: string | undefined;
    readonly trust: string | undefined;
    /** It may be anybody's: to try things out. */
    readonly mayBeUnsigned: boolean;
  },
): Promise<FirstRelease> {
  const { repository, manifest, file } = await ReleaseRepository.open(place);
  const bytes = readFileSync(file);
  const { kind, version, architecture, requires } = manifest;
  const unfit =
    kind !== 'firmware'
      ? `it has ${kind} alone`
      : on.architecture !== undefined && architecture !== on.architecture
        ? `it is for ${architecture}, this machine is ${on.architecture}`
        : requires.boards.length > 0 && !requires.boards.includes(on.board)
          ? `it is for ${requires.boards.join(', ')}`
          : undefined;
  if (unfit !== undefined) {
    throw new AppError('release-unfit', `${file} can't be what this station begins with: ${unfit}`, {
      remedy: 'Name a release of firmware for this board: REPOSITORY/releases/VERSION/ARCHITECTURE',
    });
  }
  const trustRoot = trustRootOf(on.trust, repository);
  if (!on.mayBeUnsigned) await checkSignature({ folder: repository.folder, file, bytes, manifest }, trustRoot);
  return { place: dirname(file), version, manifestSha256: sha256Of(bytes), trustRoot };
}

/** The version that runs from slots; undefined where nothing does. */
export function firstReleaseIn(slots: string): string | undefined {
  try {
    const current = readlinkSync(join(slots, 'current'));
    const read = readManifest(readFileSync(join(slots, current, 'manifest.json')));
    return read.ok ? read.value.version : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Unpacks a release into slot a, each chunk checked by its hash, and has the launcher start it. `current` is pointed there last of all:
 * before, the whole is done again.
 * @param root the folder whose `etc/passwd` knows the station's user
 * @throws AppError `release-changed`, `chunk-absent`, `chunk-wrong`, `user-absent`, `not-written`
 */
export async function putFirstRelease(release: FirstRelease, slots: string, root: string): Promise<void> {
  const { repository, file } = await ReleaseRepository.open(release.place);
  const text = readFileSync(file);
  const read = readManifest(text);
  if (!read.ok || sha256Of(text) !== release.manifestSha256) {
    throw new AppError('release-changed', `${file} is not the one that was looked at a moment ago`);
  }
  const manifest = read.value;
  const [uid, gid] = idsOf(OWNER, join(root, 'etc/passwd'));
  try {
    makeFolder(slots, 0o755);
    const disk = machineDisk(resolve(slots));
    const store = new SlotStore(disk);
    await disk.removeFolder('a');
    await store.unpack('a', manifest, (chunk) => repository.readChunk(chunk));
    await store.sync('a', manifest);
    await store.seal('a', text);
    await store.raiseFloor(manifest.version);
    await pointDurably(disk, 'previous', 'a');
    handOver(slots, uid, gid);
    await pointDurably(disk, 'current', 'a');
    lchownSync(join(slots, 'current'), uid, gid);
  } catch (cause) {
    if (cause instanceof AppError) throw cause;
    const { code, message } = cause as NodeJS.ErrnoException;
    throw new AppError('not-written', `${slots} can't be filled (${code ?? message})`, {
      remedy: code === 'EACCES' || code === 'EPERM' ? 'Use sudo' : 'Is the disk full, or read-only?',
      cause,
    });
  }
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** @throws AppError `trust-root-invalid` */
function trustRootOf(named: string | undefined, repository: ReleaseRepository): string | undefined {
  const file = named ?? join(repository.folder, 'metadata/1.root.json');
  const size = statSync(file, { throwIfNoEntry: false })?.size;
  if (size === undefined && named === undefined) return undefined;
  const remedy = 'Name metadata/1.root.json of the repository whose releases it is to take: --trust FILE';
  const invalid = (why: string) => new AppError('trust-root-invalid', `${file} ${why}`, { remedy });
  if (size === undefined) throw invalid('is not there');
  if (size > MOST_ROOT_BYTES) throw invalid(`has more than ${MOST_ROOT_BYTES} bytes`);
  const text = readFileSync(file, 'utf8');
  try {
    const { signed } = JSON.parse(text) as { signed?: { _type?: unknown } };
    if (signed?._type === 'root') return text;
  } catch {
    // Said below.
  }
  throw invalid('is no root metadata');
}

/** Of passwd(5): those of the image, which this machine may not know. @throws AppError `user-absent` */
function idsOf(user: string, file: string): [number, number] {
  const [, uid, gid] = new RegExp(`^${user}:[^:]*:(\\d+):(\\d+):`, 'm').exec(readFileSync(file, 'utf8')) ?? [];
  if (uid === undefined || gid === undefined) throw new AppError('user-absent', `${file} has no ${user}`);
  return [Number(uid), Number(gid)];
}

/** A folder and all that is in it; links themselves, not what they lead to. */
function handOver(folder: string, uid: number, gid: number): void {
  lchownSync(folder, uid, gid);
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) handOver(path, uid, gid);
    else lchownSync(path, uid, gid);
  }
}
