import { mkdtempSync, rmSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import type { Command } from 'commander';
import { signMinisign } from '../../adapters/minisign/minisign.js';
import { rescueComment } from '../../adapters/minisign/rescue.js';
import { openKey, readKeyFolder } from '../../adapters/tuf/key-folder.js';
import { folderSource } from '../../adapters/tuf/metadata-source.js';
import { targetOf } from '../../adapters/tuf/roles.js';
import { publicBytes } from '../../adapters/tuf/signing-key.js';
import { TufTrust } from '../../adapters/tuf/tuf-trust.js';
import { systemClock } from '../../core/clock.js';
import { AppError } from '../../core/errors.js';
import { silentLogger } from '../../core/logger.js';
import type { Manifest } from '../../fleet/manifest.js';
import { readManifest } from '../../protocol/release-manifest.js';
import { openNamed, repositoryOf, signAndTell } from './keys.js';
import { note, printJson } from './output.js';

interface SignOptions {
  readonly repository?: string;
  readonly keys: string;
  readonly rescue?: boolean;
  readonly json?: boolean;
}

interface VerifyOptions {
  readonly repository?: string;
  readonly root: string;
  readonly json?: boolean;
}

/** Adds to `release` what has to do with who vouches for one. */
export function addReleaseTrustCommands(release: Command): void {
  release
    .command('sign <release>')
    .description("vouches for a release by the repository's metadata: REPOSITORY/releases/VERSION/ARCHITECTURE")
    .option('--repository <folder>', "where the metadata is (the release's own repository)")
    .requiredOption('--keys <folder>', 'the keys that are here (entryphone keys)')
    .option('--rescue', 'signs it for a stick as well: manifest.json.minisig, by the rescue key')
    .option('--json', 'one JSON object')
    .action(signRelease);
  release
    .command('verify-signature <release>')
    .description(
      'as a station would that trusts this root: who signed it, what has expired, whether it is this manifest',
    )
    .requiredOption('--root <file>', 'metadata/1.root.json, as the stations have it')
    .option('--repository <folder>', "where the metadata is (the release's own repository)")
    .option('--json', 'one JSON object')
    .action(verifySignature);
}

async function signRelease(place: string, options: SignOptions): Promise<void> {
  const { file, bytes, manifest } = await manifestOf(place);
  const repository = options.repository ?? repositoryAbove(place);
  const tuf = repositoryOf({ repository });
  await tuf.addTargets([{ path: targetOf(manifest), bytes }]);
  if (options.rescue === true) await signForRescue(options.keys, file, bytes, manifest);
  await signAndTell(tuf, { ...options, repository }, { target: targetOf(manifest) });
}

/** @throws AppError `keys-missing` */
async function signForRescue(folder: string, file: string, bytes: Uint8Array, manifest: Manifest): Promise<void> {
  const key = (await readKeyFolder(folder)).find(({ role, hasPrivate }) => role === 'rescue' && hasPrivate);
  if (key === undefined) {
    throw new AppError('keys-missing', `${folder} has no rescue key`, {
      remedy: 'entryphone keys create rescue; and it must stand in the root',
    });
  }
  const privateKey = await openNamed(key, openKey);
  const own = { privateKey, publicBytes: publicBytes(privateKey), trustedComment: rescueComment(manifest) };
  await writeFile(`${file}.minisig`, signMinisign(bytes, own));
}

async function verifySignature(place: string, options: VerifyOptions): Promise<void> {
  const { bytes, manifest } = await manifestOf(place);
  const initialRoot = await readFile(options.root, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new AppError('usage', `--root ${options.root} can't be read (${error.code})`, {
      remedy: 'It is REPOSITORY/metadata/1.root.json, or your own copy of that',
    });
  });
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-verify-'));
  try {
    const source = folderSource(resolve(options.repository ?? repositoryAbove(place)));
    const trust = await TufTrust.open({ dir, initialRoot, source, clock: systemClock, logger: silentLogger });
    await trust.check(targetOf(manifest), bytes);
    const { versions, expiresMs } = trust.report();
    const expires = new Date(expiresMs).toISOString();
    if (options.json === true) printJson({ ok: true, failed: [], target: targetOf(manifest), versions, expires });
    else note(`signed: ${targetOf(manifest)}; the metadata is good until ${expires}`);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

/** @throws AppError `usage` for what is no folder of a release */
async function manifestOf(place: string) {
  const file = basename(place) === 'manifest.json' ? place : join(place, 'manifest.json');
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new AppError('usage', `${file} can't be read (${error.code})`, {
      remedy: 'Name the folder of a release: REPOSITORY/releases/VERSION/ARCHITECTURE',
    });
  });
  const found = readManifest(bytes);
  if (!found.ok) throw new AppError('manifest-invalid', `${file} is no manifest: ${found.why}`);
  return { file, bytes, manifest: found.value };
}

/** REPOSITORY/releases/VERSION/ARCHITECTURE → REPOSITORY */
function repositoryAbove(place: string): string {
  const folder = basename(place) === 'manifest.json' ? join(place, '..') : place;
  return resolve(folder, '..', '..', '..');
}
