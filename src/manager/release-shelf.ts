import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { RepositoryFiles } from '../adapters/tuf/repository-files.js';
import { roleOfTarget, targetOf } from '../adapters/tuf/roles.js';
import { AppError } from '../core/errors.js';
import { ARCHITECTURES, type Architecture, type ReleaseKind } from '../fleet/manifest.js';
import { readManifest } from '../protocol/release-manifest.js';

/**
 * The target of a release that is published and signed, for a station of this architecture. Whether it may have it the station itself
 * says; here it is only seen that there is such a thing, before a fleet is told to fetch it.
 * @throws AppError `no-repository`, `release-unknown`, `release-unsigned`
 */
export async function findRelease(
  folder: string | undefined,
  wanted: { readonly kind: ReleaseKind; readonly version: string; readonly architecture: string | null },
): Promise<string> {
  if (folder === undefined) {
    throw new AppError('no-repository', 'this manager has no repository', {
      remedy: "Name its folder: repository.folder in the manager's configuration",
    });
  }
  const { kind, version } = wanted;
  for (const architecture of architecturesFor(wanted)) {
    const target = targetOf({ kind, version, architecture });
    const bytes = await readFile(join(folder, target)).catch(() => undefined);
    const manifest = bytes === undefined ? undefined : readManifest(bytes);
    if (manifest === undefined) continue;
    if (!manifest.ok || targetOf(manifest.value) !== target) {
      throw new AppError('release-unknown', `${target} is no manifest of that release`, { remedy: 'Publish it again' });
    }
    if (!(await isSigned(folder, target))) {
      throw new AppError('release-unsigned', `${target} is not signed: no station would take it`, {
        remedy: `entryphone release sign ${join(folder, target)}`,
      });
    }
    return target;
  }
  throw new AppError('release-unknown', `the repository has no ${kind} ${version} for ${wanted.architecture ?? 'it'}`, {
    remedy: 'entryphone release publish puts one there',
  });
}

/** Firmware is of a machine: a station that never told which it is gets none. */
function architecturesFor({ kind, architecture }: { kind: ReleaseKind; architecture: string | null }): Architecture[] {
  const own = ARCHITECTURES.filter((one) => one === architecture && one !== 'any');
  return kind === 'firmware' ? own : [...own, 'any'];
}

async function isSigned(folder: string, target: string): Promise<boolean> {
  const published = await new RepositoryFiles(folder).published(roleOfTarget(target));
  if (published === undefined) return false;
  const { signed } = JSON.parse(published.text) as { signed?: { targets?: Record<string, unknown> } };
  return Object.hasOwn(signed?.targets ?? {}, target);
}
