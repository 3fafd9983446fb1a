import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { AppError } from '../../core/errors.js';
import type { Architecture } from '../../fleet/manifest.js';
import { productionModules } from './production-modules.js';
import { filesBelow, headOf, type TreeFile } from './release-tree.js';

export interface ApplicationOptions {
  /** The checkout, set up. */
  readonly root: string;
  readonly version: string;
  readonly architecture: Exclude<Architecture, 'any'>;
  /** A folder laid out as a checkout, of a machine of that architecture: its programs and native modules stand in for the checkout's. */
  readonly native?: string;
}

/** Where its units look for Node.js: a link in a checkout, the program itself in a release. */
const NODE = '.toolchain/bin/node';
/** Taken as they are. */
const FOLDERS = ['flows', 'device', 'systemd', 'models'];
const FILES = ['LICENSE', 'entryphone'];
const BUILT = 'not set up: run make setup there';

/**
 * Every file of a station's firmware: its programs as they are bundled, the palette, flows, board profiles, units, native modules,
 * production packages, and Node.js; laid out as a checkout is, so that units and programs find everything in the same place.
 * @throws AppError `not-set-up`, `other-architecture` with what to do about it
 */
export async function applicationTree(options: ApplicationOptions): Promise<TreeFile[]> {
  const { root, version, architecture, native } = options;
  for (const needed of ['dist/src/bin/station.js', NODE, 'package-lock.json']) {
    if (!existsSync(join(root, needed))) throw new AppError('not-set-up', `${join(root, needed)} is missing: ${BUILT}`);
  }
  const below = async (folder: string): Promise<TreeFile[]> =>
    existsSync(join(root, folder))
      ? (await filesBelow(join(root, folder))).map((file) => ({ ...file, path: `${folder}/${file.path}` }))
      : [];
  const folders = await Promise.all(FOLDERS.map(below));
  const files = [
    ...FILES.map(
      (path): TreeFile => ({ path, mode: path === 'entryphone' ? 0o755 : 0o644, content: { from: join(root, path) } }),
    ),
    ...folders.flat(),
    ...usedPrograms(root, await below('dist/src')),
    ...(await below('native/build')).filter(({ path }) => path.endsWith('.node')),
    ...(await productionModules(root, architecture)),
    { path: NODE, mode: 0o755, content: { from: realpathSync(join(root, NODE)) } } as const,
    { path: 'package.json', mode: 0o644, content: { bytes: packageJson(root, version) } } as const,
  ];
  const stoodIn = native === undefined ? files : standIn(files, native);
  refuseOtherMachines(stoodIn, architecture);
  return stoodIn;
}

/** What the programs say of themselves; what it takes to build them stays behind. */
function packageJson(root: string, version: string): Uint8Array {
  const { name, description, license, type, engines, dependencies } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  ) as Record<string, unknown>;
  const kept = { name, version, description, license, private: true, type, engines, dependencies };
  return Buffer.from(`${JSON.stringify(kept, null, 2)}\n`);
}

/** Without source maps, and without bundled pieces that an earlier build has left. */
function usedPrograms(root: string, files: readonly TreeFile[]): TreeFile[] {
  const pieces = 'dist/src/bin/chunks/';
  const isPiece = (path: string) => path.startsWith(pieces);
  const used = new Set<string>();
  const visit = (path: string): void => {
    const text = readFileSync(join(root, path), 'utf8');
    for (const [, name = ''] of text.matchAll(/["'](?:\.\/chunks\/|\.\/)([A-Z0-9]{8}\.js)["']/g)) {
      const piece = `${pieces}${name}`;
      if (used.has(piece) || !existsSync(join(root, piece))) continue;
      used.add(piece);
      visit(piece);
    }
  };
  for (const { path } of files) if (/^dist\/src\/bin\/[^/]+\.js$/.test(path)) visit(path);
  return files.filter(({ path }) => !path.endsWith('.map') && (!isPiece(path) || used.has(path)));
}

/** Each program and native module is taken from the other folder, where that has one of the same path. */
function standIn(files: readonly TreeFile[], native: string): TreeFile[] {
  return files.map((file) => {
    const other = join(native, file.path);
    const isNative = file.path === NODE || /\.(node|so(\.\d+)*)$/.test(file.path);
    return isNative && existsSync(other) ? { ...file, content: { from: realpathSync(other) } } : file;
  });
}

/** ELF's `e_machine` of the processors that there are releases for. */
const MACHINES: Readonly<Record<number, string>> = { 62: 'x64', 183: 'arm64' };

/** @throws AppError `other-architecture`, naming what is not for it */
function refuseOtherMachines(files: readonly TreeFile[], architecture: string): void {
  const others: string[] = [];
  for (const { path, content } of files) {
    if (!('from' in content)) continue;
    const machine = machineOf(content.from);
    if (machine !== undefined && machine !== architecture) others.push(path);
  }
  if (others.length === 0) return;
  const more = others.length > 4 ? ` and ${others.length - 4} more` : '';
  throw new AppError('other-architecture', `not for ${architecture}: ${others.slice(0, 4).join(', ')}${more}`, {
    remedy: `Run make setup in a checkout on an ${architecture} machine and build the release there, or name a copy of that checkout: --native FOLDER`,
  });
}

/** The processor that a file is a program for; undefined for what is no program (ELF: 0x7f, "ELF"; e_machine at 18). */
function machineOf(path: string): string | undefined {
  const head = headOf(path, 20);
  if (head.length < 20 || head.readUInt32BE(0) !== 0x7f45_4c46) return undefined;
  const machine = head.readUInt16LE(18);
  return MACHINES[machine] ?? `machine ${machine}`;
}
