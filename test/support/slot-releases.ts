import { applicationTree } from '../../src/adapters/releases/application-tree.js';
import { buildRelease } from '../../src/adapters/releases/release-builder.js';
import { ReleaseRepository } from '../../src/adapters/releases/release-repository.js';
import { contentOf, type TreeFile } from '../../src/adapters/releases/release-tree.js';
import { packageRoot } from '../../src/core/package-root.js';
import { type ReleaseKind, releaseFolder } from '../../src/fleet/manifest.js';
import { type BuiltRelease, ReleaseSigner } from './release-signer.js';

/** Quicker to make, and larger. */
const LEVEL = 1;
const architecture = process.arch === 'arm64' ? 'arm64' : 'x64';

/** What is done to this checkout's programs, by the path of each. */
export type Changes = Readonly<Record<string, (text: string) => string>>;

/**
 * A repository of releases, signed by the metadata and for a stick: whole firmware of this checkout, each version with its changes, and
 * parts, each with the text of its one file.
 */
export async function slotReleases(
  folder: string,
  versions: Readonly<Record<string, Changes>>,
  parts: readonly { kind: 'flows' | 'config'; version: string; path: string; text: string }[],
): Promise<void> {
  const repository = new ReleaseRepository(folder, { level: LEVEL });
  const signer = await ReleaseSigner.begin(folder);
  const releases: BuiltRelease[] = [];
  for (const [version, changes] of Object.entries(versions)) {
    const tree = await applicationTree({ root: packageRoot, version, architecture });
    const description = { kind: 'firmware', version, architecture, requires: { boards: ['virtual-board'] } } as const;
    const release = await buildRelease(description, changed(tree, changes), repository);
    signer.signForRescue(release);
    releases.push(release);
  }
  for (const { kind, version, path, text } of parts) {
    const description = { kind, version, architecture: 'any', requires: { boards: [] } } as const;
    const file = { path, mode: 0o644, content: { bytes: Buffer.from(text) } } as const;
    const release = await buildRelease(description, [file], repository);
    signer.signForRescue(release);
    releases.push(release);
  }
  await signer.sign(...releases);
}

/** The folder of a release in a repository. */
export function placeOf(version: string, kind: ReleaseKind = 'firmware'): string {
  return releaseFolder({ kind, version, architecture: kind === 'firmware' ? architecture : 'any' });
}

function changed(tree: readonly TreeFile[], changes: Changes): TreeFile[] {
  const missing = new Set(Object.keys(changes));
  const files = tree.map((file) => {
    const change = changes[file.path];
    if (change === undefined) return file;
    missing.delete(file.path);
    const text = Buffer.concat([...contentOf(file)]).toString('utf8');
    return { ...file, content: { bytes: Buffer.from(change(text)) } };
  });
  if (missing.size > 0) throw new Error(`the checkout has no ${[...missing].join(', ')}`);
  return files;
}
