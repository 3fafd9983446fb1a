import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { readFlowsFolder } from '../../adapters/node-red/flow-import.js';
import { modelsFault } from '../../adapters/onnx/models-check.js';
import { applicationTree } from '../../adapters/releases/application-tree.js';
import { buildRelease } from '../../adapters/releases/release-builder.js';
import { ReleaseRepository } from '../../adapters/releases/release-repository.js';
import { filesBelow, type TreeFile } from '../../adapters/releases/release-tree.js';
import { verifyRelease } from '../../adapters/releases/verify-release.js';
import { checkDefaultsAlone } from '../../config/load.js';
import { AppError } from '../../core/errors.js';
import { packageRoot } from '../../core/package-root.js';
import {
  type Architecture,
  distinctChunks,
  type Manifest,
  RELEASE_KINDS,
  type ReleaseKind,
} from '../../fleet/manifest.js';
import { diffReleases, storedBytesOf } from '../../fleet/release-diff.js';
import { isVersion } from '../../fleet/version.js';
import { note, printJson } from './output.js';

interface BuildOptions {
  readonly out: string;
  readonly arch?: Architecture;
  readonly kind: ReleaseKind;
  readonly version?: string;
  readonly from?: string;
  readonly native?: string;
  readonly board: readonly string[];
  readonly minFrom?: string;
  readonly firmware?: string;
  readonly json?: boolean;
}

/** @returns the command, for those that live elsewhere: what signs */
export function addReleaseCommands(program: Command): Command {
  const release = program.command('release').description('releases: built, checked, compared, published, signed');
  release
    .command('build')
    .description(
      'makes a release of this checkout, or of a folder: the same input makes the same bytes; only chunks that a repository lacks are added to it',
    )
    .requiredOption('--out <folder>', 'the repository')
    .addOption(
      new Option('--kind <kind>', 'what it is').choices([...RELEASE_KINDS]).default('firmware' satisfies ReleaseKind),
    )
    .addOption(
      new Option('--arch <architecture>', "this machine's; any for flows and configuration").choices([
        'x64',
        'arm64',
        'any',
      ]),
    )
    .option('--version <version>', 'such as 1.2.3 (that of package.json)', version)
    .option('--from <folder>', 'the files of it; a firmware has those of this checkout')
    .option('--native <folder>', 'a checkout of the other architecture, for its programs and native modules')
    .option('--board <name...>', 'only for these boards', [])
    .option('--min-from <version>', 'the least version that may be updated from', version)
    .option('--firmware <version>', 'the least firmware that it needs (flows, config, models)', version)
    .option('--json', 'one JSON object')
    .action(build);
  release
    .command('inspect <release>')
    .description('what is in it: REPOSITORY/releases/VERSION/ARCHITECTURE')
    .option('--json', 'one JSON object')
    .action(inspect);
  release
    .command('verify <release>')
    .description('every chunk and every file, by its hash')
    .option('--json', 'one JSON object')
    .action(verify);
  release
    .command('diff <from> <to>')
    .description('what a station that has one release is sent to have the other')
    .option('--json', 'one JSON object')
    .action(diff);
  release
    .command('publish <release>')
    .description(
      'copies what another repository lacks, the manifest last: into the folder of a web server, or of the manager',
    )
    .requiredOption('--to <folder>', 'that repository')
    .option('--json', 'one JSON object')
    .action(publish);
  return release;
}

async function build(options: BuildOptions): Promise<void> {
  const { kind } = options;
  if (options.from !== undefined) await checkContent(kind, options.from);
  const ownVersion = (JSON.parse(readFileSync(join(packageRoot, 'package.json'), 'utf8')) as { version: string })
    .version;
  const isProgram = kind === 'firmware';
  const architecture = options.arch ?? (isProgram ? ownArchitecture() : 'any');
  const release = { kind, version: options.version ?? ownVersion, architecture };
  const files = await filesOf(release, options);
  const nodeAbi = isProgram && options.from === undefined ? { nodeAbi: Number(process.versions.modules) } : {};
  const { minFrom, firmware, board } = options;
  const progress = progressOf('built');
  const totalBytes = files.length;
  const { manifest, file } = await buildRelease(
    {
      ...release,
      ...(minFrom === undefined ? {} : { minFrom }),
      requires: { boards: board.toSorted(), ...(firmware === undefined ? {} : { firmware }), ...nodeAbi },
    },
    files,
    new ReleaseRepository(options.out),
    { told: ({ files }) => progress(files, totalBytes) },
  );
  const summary = { ...summaryOf(manifest), manifest: file, manifestSha256: sha256Of(file) };
  if (options.json === true) printJson({ ok: true, failed: [], ...summary });
  else {
    tell(summary);
    note(`built: ${file}`);
  }
}

/** What every station would refuse is found here, by the same readers. @throws AppError `release-unfit`, `config-invalid`, `flow-file-invalid` */
async function checkContent(kind: ReleaseKind, folder: string): Promise<void> {
  if (kind === 'config') checkDefaultsAlone(folder);
  if (kind === 'flows') readFlowsFolder(folder);
  const fault = kind === 'models' ? await modelsFault(folder) : null;
  if (fault !== null) throw new AppError('release-unfit', `no station would take these models: ${fault}`);
}

/** @throws AppError `usage` */
function filesOf(
  release: Pick<Manifest, 'kind' | 'version' | 'architecture'>,
  options: BuildOptions,
): Promise<TreeFile[]> {
  const { kind, version, architecture } = release;
  if (options.from !== undefined) return filesBelow(options.from);
  if (kind !== 'firmware') {
    throw new AppError('usage', `what are the files of these ${kind}?`, { remedy: 'Name their folder: --from' });
  }
  if (architecture === 'any') {
    throw new AppError('usage', 'a firmware is for one architecture', { remedy: 'Name it: --arch x64, or arm64' });
  }
  const { native } = options;
  return applicationTree({ root: packageRoot, version, architecture, ...(native === undefined ? {} : { native }) });
}

async function inspect(place: string, options: { json?: boolean }): Promise<void> {
  const { manifest, file } = await ReleaseRepository.open(place);
  const summary = { ...summaryOf(manifest), manifest: file, manifestSha256: sha256Of(file) };
  if (options.json === true) {
    const files = manifest.files.map(({ path, mode, sizeBytes, sha256 }) => ({
      path,
      mode: mode.toString(8),
      sizeBytes,
      sha256,
    }));
    printJson({ ok: true, failed: [], ...summary, files });
  } else tell(summary);
}

async function verify(place: string, options: { json?: boolean }): Promise<void> {
  const { repository, manifest, file } = await ReleaseRepository.open(place);
  const failed = await verifyRelease(repository, manifest, progressOf('checked'));
  if (options.json === true) printJson({ ok: failed.length === 0, failed, ...summaryOf(manifest), manifest: file });
  else {
    for (const fault of failed) note(fault);
    const { chunks, files } = manifest;
    if (failed.length === 0)
      note(`whole: ${files.length} files, ${chunks.length} chunks. Whether it is signed: release verify-signature`);
  }
  if (failed.length > 0) process.exitCode = 1;
}

async function diff(from: string, to: string, options: { json?: boolean }): Promise<void> {
  const [old, now] = [await ReleaseRepository.open(from), await ReleaseRepository.open(to)];
  const found = diffReleases(old.manifest, now.manifest, now.repository.manifestBytes(now.manifest));
  const { bytes, wholeBytes, deltaPct, chunks, added, removed, changed } = found;
  if (options.json === true) printJson({ ok: true, failed: [], from: old.file, to: now.file, ...found });
  else {
    for (const [sign, paths] of [
      ['+', added],
      ['-', removed],
      ['~', changed],
    ] as const) {
      for (const path of paths) process.stdout.write(`${sign} ${path}\n`);
    }
    process.stdout.write(`${chunks} chunks, ${bytes} bytes of ${wholeBytes} (${deltaPct} %), the manifest with them\n`);
  }
}

async function publish(place: string, options: { to: string; json?: boolean }): Promise<void> {
  const { repository, manifest } = await ReleaseRepository.open(place);
  const { chunks, bytes, file } = await repository.publish(
    manifest,
    new ReleaseRepository(options.to),
    progressOf('published'),
  );
  if (options.json === true) printJson({ ok: true, failed: [], manifest: file, chunks, bytes });
  else note(`published: ${file} (${chunks} chunks were copied, ${bytes} bytes)`);
}

function summaryOf(manifest: Manifest) {
  const { kind, version, architecture, requires, minFrom, sizeBytes, hash, files, chunks } = manifest;
  return {
    ...{ kind, version, architecture, minFrom, requires, hash, sizeBytes },
    storedBytes: storedBytesOf(distinctChunks(manifest)),
    fileCount: files.length,
    chunkCount: chunks.length,
  };
}

function tell(summary: object): void {
  for (const [name, value] of Object.entries(summary)) {
    if (value === undefined) continue;
    process.stdout.write(`${name.padEnd(15)} ${typeof value === 'object' ? JSON.stringify(value) : value}\n`);
  }
}

/** What is signed: the manifest as a file, at most 16 MiB. */
function sha256Of(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

/** Tells each tenth that is done. */
function progressOf(what: string): (done: number, of: number) => void {
  let told = 0;
  return (done, of) => {
    const tenth = Math.floor((done / of) * 10);
    if (tenth <= told) return;
    told = tenth;
    note(`${what}: ${tenth * 10} %`);
  };
}

/** @throws AppError `usage` */
function ownArchitecture(): Architecture {
  const { arch } = process;
  if (arch === 'x64' || arch === 'arm64') return arch;
  throw new AppError('usage', `there are no releases for ${arch}`, { remedy: 'Name what it is for: --arch arm64' });
}

function version(text: string): string {
  if (isVersion(text)) return text;
  throw new InvalidArgumentError('a version is such as 1.2.3 or 1.2.3-rc.1');
}
