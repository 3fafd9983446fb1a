import { AppError } from '../../core/errors.js';
import type { Manifest } from '../../fleet/manifest.js';
import { isBelowFloor, type SlotState } from '../../fleet/slots.js';
import { readManifest } from '../../protocol/release-manifest.js';
import { readMinisignKey, readMinisignSignature, verifyMinisign } from './minisign.js';

export interface Rescue {
  /** `manifest.json` of the release on the stick. */
  readonly manifest: Uint8Array;
  /** `manifest.json.minisig` beside it. */
  readonly signature: string;
  /** Public keys that may sign a rescue, as the trusted root names them (`TufTrust.rescueKeys`). */
  readonly keys: readonly string[];
  /** Of the slots of the kind that the release is of. */
  readonly slots: SlotState;
}

/** What the trusted comment of a rescue says, so that people read it too: `minisign -V` shows it. */
export function rescueComment({
  kind,
  version,
  architecture,
}: Pick<Manifest, 'kind' | 'version' | 'architecture'>): string {
  return `entryphone rescue ${kind} ${version} ${architecture}`;
}

/**
 * Whether a rescue key has signed it. Before that nothing of it is to be read: 16 MB of brackets keep a board busy for half a minute.
 * @returns the trusted comment
 * @throws AppError `minisign-invalid`, `minisign-refused`
 */
export function verifyRescue({ manifest, signature, keys }: Omit<Rescue, 'slots'>): string {
  return verifyMinisign(manifest, readMinisignSignature(signature), keys.map(readMinisignKey));
}

/**
 * A release from a stick, where nothing else reaches the station: signed by a rescue key, for a rescue, and under the same
 * version floor as any other. It has no expiry, since whoever needs it may have no time and no network: the floor is all
 * that keeps an old one away.
 * @throws AppError `minisign-invalid`, `minisign-refused`, `rescue-invalid`, `rescue-older`
 */
export function readRescue({ manifest, signature, keys, slots }: Rescue): Manifest {
  const comment = verifyRescue({ manifest, signature, keys });
  const found = readManifest(manifest);
  if (!found.ok) throw new AppError('rescue-invalid', `the manifest on the stick is none: ${found.why}`);
  if (comment !== rescueComment(found.value)) {
    throw new AppError('rescue-invalid', `it was signed as "${comment}", and is ${rescueComment(found.value)}`, {
      remedy: 'Sign it with: entryphone release sign --rescue',
    });
  }
  if (isBelowFloor(slots, found.value.version)) {
    throw new AppError('rescue-older', `${found.value.version} is older than ${slots.floor}, which ran here`, {
      remedy: 'Take a newer release: what was mended since would be open again',
    });
  }
  return found.value;
}
