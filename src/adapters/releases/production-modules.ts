import { existsSync, readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { basename, extname, join } from 'node:path';
import { AppError } from '../../core/errors.js';
import type { Architecture } from '../../fleet/manifest.js';
import { modeOf, type TreeFile } from './release-tree.js';

/** What a program needs of node_modules to run on a station: packages that package.json depends on, without what nobody loads. */

/** Packages that build others and do nothing else; alsa-capture and @discordjs/opus ask for them, to be built. */
const BUILD_ONLY = new Set(['node-gyp', 'node-addon-api']);
const TYPES_ONLY = /^@types\//;

/** Sources of native code and of types, maps, and what is for people. */
const UNUSED_EXTENSIONS = new Set([
  ...['.map', '.ts', '.mts', '.cts', '.tsx', '.flow', '.md', '.markdown', '.tsbuildinfo'],
  ...[
    '.c',
    '.cc',
    '.cpp',
    '.cxx',
    '.h',
    '.hpp',
    '.s',
    '.asm',
    '.o',
    '.a',
    '.d',
    '.gyp',
    '.gypi',
    '.mk',
    '.m4',
    '.am',
    '.in',
  ],
]);
/** Folders right below a package: elsewhere such a name may be code (`yaml/dist/doc`). `types` is there too (`mime/types`); its `.ts` are left out. */
const UNUSED_FOLDERS = new Set([
  ...[
    'test',
    'tests',
    '__tests__',
    'docs',
    'doc',
    'example',
    'examples',
    'benchmark',
    'benchmarks',
    'bench',
    'coverage',
  ],
  'man',
]);
const LICENCE = /^(licen[cs]e|copying|notice|copyright|authors)/i;
/** Node-RED serves types to its editor, examples and help to its users. */
const KEPT_WHOLE = /^(@node-red\/(editor-client|nodes)|node-red)$/;

const PLATFORMS = new Set(['darwin', 'win32', 'android', 'freebsd', 'openbsd', 'sunos']);
const PROCESSORS = new Set(['x64', 'arm64', 'arm', 'ia32']);

interface Lock {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

interface LockedPackage {
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
  readonly peerDependencies?: Readonly<Record<string, string>>;
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>;
  readonly os?: readonly string[];
  readonly cpu?: readonly string[];
}

/**
 * The files of a checkout's production packages, as package-lock.json has them.
 * @throws AppError `not-set-up` where one of them is not installed
 */
export async function productionModules(root: string, architecture: Architecture): Promise<TreeFile[]> {
  const lock = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')) as Lock;
  const files: TreeFile[] = [];
  for (const folder of packagesOf(lock, root, architecture)) {
    files.push(...(await packageFiles(root, folder, architecture)));
  }
  return files;
}

/** Folders of the packages that are needed, from the root on: `node_modules/pino`, `node_modules/a/node_modules/b`, … */
function packagesOf(lock: Lock, root: string, architecture: Architecture): Set<string> {
  const found = new Set<string>();
  const wanted: { from: string; name: string; isOptional: boolean }[] = [];
  const want = (from: string, names: Readonly<Record<string, unknown>> | undefined, isOptional: boolean) => {
    for (const name of Object.keys(names ?? {})) wanted.push({ from, name, isOptional });
  };
  // What the root has as optional are tools: the compiler of its bundles, its formatter.
  want('', lock.packages['']?.dependencies, false);
  for (let next = wanted.pop(); next !== undefined; next = wanted.pop()) {
    const { from, name, isOptional } = next;
    if (BUILD_ONLY.has(name) || TYPES_ONLY.test(name)) continue;
    const folder = resolvePackage(lock, from, name);
    const locked = folder === undefined ? undefined : lock.packages[folder];
    if (folder === undefined || locked === undefined || !isInstalled(root, folder)) {
      if (isOptional) continue;
      throw new AppError('not-set-up', `the package ${name} is not installed`, { remedy: 'Run: make setup' });
    }
    if (found.has(folder) || !isFor(locked, architecture)) continue;
    found.add(folder);
    want(folder, locked.dependencies, false);
    want(folder, locked.optionalDependencies, true);
    const peers = Object.entries(locked.peerDependencies ?? {});
    want(folder, Object.fromEntries(peers.filter(([peer]) => !locked.peerDependenciesMeta?.[peer]?.optional)), true);
  }
  return found;
}

/** As Node.js looks for it: beside its user, then further up. */
function resolvePackage(lock: Lock, from: string, name: string): string | undefined {
  for (let folder = from; ; ) {
    const place = folder === '' ? `node_modules/${name}` : `${folder}/node_modules/${name}`;
    if (lock.packages[place] !== undefined) return place;
    if (folder === '') return undefined;
    const at = folder.lastIndexOf('/node_modules/');
    folder = at < 0 ? '' : folder.slice(0, at);
  }
}

function isInstalled(root: string, folder: string): boolean {
  return existsSync(join(root, folder, 'package.json'));
}

function isFor({ os, cpu }: LockedPackage, architecture: Architecture): boolean {
  return (os === undefined || os.includes('linux')) && (cpu === undefined || cpu.includes(architecture));
}

async function packageFiles(root: string, folder: string, architecture: Architecture): Promise<TreeFile[]> {
  const files: TreeFile[] = [];
  const name = folder.slice(folder.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const isWhole = KEPT_WHOLE.test(name);
  const isBuilt = existsSync(join(root, folder, 'binding.gyp'));
  const visit = async (path: string): Promise<void> => {
    const entries = await readdir(join(root, path), { withFileTypes: true });
    for (const entry of entries) {
      const inside = `${path}/${entry.name}`;
      if (entry.isDirectory()) {
        const isTop = path === folder;
        // Packages within are listed by themselves.
        if (entry.name === 'node_modules' || entry.name.startsWith('.')) continue;
        if (isOtherMachine(path, entry.name, architecture)) continue;
        if (isTop && !isWhole && UNUSED_FOLDERS.has(entry.name)) continue;
        if (isTop && isBuilt && ['deps', 'src'].includes(entry.name)) continue;
        if (isTop && isBuilt && entry.name.startsWith('build-tmp')) continue;
        await visit(inside);
      } else if (entry.isFile() && isUsed(inside, isWhole)) {
        files.push({ path: inside, mode: modeOf(join(root, inside)), content: { from: join(root, inside) } });
      }
    }
  };
  await visit(folder);
  return files;
}

function isUsed(path: string, isWhole: boolean): boolean {
  const name = basename(path);
  if (LICENCE.test(name)) return true;
  if (name.startsWith('.') || name === 'Makefile') return false;
  if (path.includes('/obj.target/')) return false;
  return isWhole ? extname(name) !== '.map' : !UNUSED_EXTENSIONS.has(extname(name).toLowerCase());
}

/** `bin/napi-v6/win32/`, `prebuilds/linux/arm64/`: programs of another system or processor. */
function isOtherMachine(path: string, name: string, architecture: Architecture): boolean {
  const isAmongBinaries = /\/(bin|prebuilds?|build)(\/|$)/.test(path);
  if (!isAmongBinaries) return false;
  if (PLATFORMS.has(name)) return true;
  return PROCESSORS.has(name) && basename(path) === 'linux' && name !== architecture;
}
