import { AppError } from '../../core/errors.js';
import { type Manifest, releaseFolder } from '../../fleet/manifest.js';
import { MOST_MANIFEST_BYTES } from '../../protocol/release-manifest.js';

/** Who may say what (TUF 1.0.34, clause 2.1); `flows` is delegated to by `targets`. In the order in which each trusts the next. */
export const ROLES = ['root', 'targets', 'flows', 'snapshot', 'timestamp'] as const;
export type Role = (typeof ROLES)[number];

/** Roles whose keys are kept off the network; `snapshot` and `timestamp` are signed where the repository is served. */
export const OFFLINE_ROLES = ['root', 'targets', 'flows'] as const;
export type OfflineRole = (typeof OFFLINE_ROLES)[number];

/** How many keys a role has at least, and how many of them must sign. */
export const ROOT_THRESHOLD = 2;

const DAY_MS = 86_400_000;

/** How long what a role has signed is good for, in ms. */
export const LIFETIME_MS: Readonly<Record<Role, number>> = {
  root: 730 * DAY_MS,
  targets: 365 * DAY_MS,
  flows: 365 * DAY_MS,
  snapshot: 30 * DAY_MS,
  timestamp: 7 * DAY_MS,
};

/** The longest metadata of each role that a station reads, in bytes. */
export const MOST_BYTES: Readonly<Record<Role, number>> = {
  root: 64 * 1024,
  targets: 1024 * 1024,
  flows: 1024 * 1024,
  snapshot: 64 * 1024,
  timestamp: 16 * 1024,
};

/** The longest target, which is the manifest of a release, in bytes. */
export const MOST_TARGET_BYTES = MOST_MANIFEST_BYTES;

/** What stands in the signed part beside the fields of TUF: when it was signed (ISO 8601), and who may sign a rescue. */
export const ISSUED_FIELD = 'x-issued';
export const RESCUE_FIELD = 'x-rescue-keys';

/** Who signs the manifests in which folder (`releaseFolder` of fleet). */
const FOLDERS: Readonly<Record<string, 'targets' | 'flows'>> = {
  releases: 'targets',
  models: 'targets',
  flows: 'flows',
  config: 'flows',
};

/** `flows/1.4.0/x64/manifest.json`: two to six parts, none of them `.` or `..`. */
const TARGET_PATH = /^(?:[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}\/){1,5}[A-Za-z0-9_][A-Za-z0-9._+-]{0,99}$/;
const DEPTHS = [1, 2, 3, 4, 5];

/**
 * Patterns of the delegation `flows/**` and `config/**`: one for each depth, since `*` of TUF does not cross a `/`
 * (clause 4.5, PATHPATTERN).
 */
export const FLOWS_PATTERNS: readonly string[] = Object.entries(FOLDERS)
  .filter(([, role]) => role === 'flows')
  .flatMap(([folder]) => DEPTHS.map((depth) => `${folder}${'/*'.repeat(depth)}`));

/** The role that signs this target. @throws AppError `trust-target-unknown` for a path that is none of a release */
export function roleOfTarget(path: string): 'targets' | 'flows' {
  const [folder = ''] = path.split('/', 1);
  const role = TARGET_PATH.test(path) && Object.hasOwn(FOLDERS, folder) ? FOLDERS[folder] : undefined;
  if (role !== undefined) return role;
  throw new AppError('trust-target-unknown', `${path.slice(0, 100)} is no path of a release`, {
    remedy: 'Such as releases/1.4.0/arm64/manifest.json, or in models/, flows/ or config/',
  });
}

/** The target that a release is, by its manifest. */
export function targetOf(release: Pick<Manifest, 'kind' | 'version' | 'architecture'>): string {
  return `${releaseFolder(release)}/manifest.json`;
}
