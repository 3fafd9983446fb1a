import { existsSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { readRescue } from '../adapters/minisign/rescue.js';
import { folderSource } from '../adapters/tuf/metadata-source.js';
import { targetOf } from '../adapters/tuf/roles.js';
import { TufTrust } from '../adapters/tuf/tuf-trust.js';
import { systemClock } from '../core/clock.js';
import { AppError, errorText } from '../core/errors.js';
import { silentLogger } from '../core/logger.js';
import type { Manifest } from '../fleet/manifest.js';
import { firstState } from '../fleet/slots.js';

const MOST_SIGNATURE_BYTES = 4_096;
const REMEDY =
  'Sign it (entryphone release sign), name the root of who did by --trust, or take it as it is: --unsigned';

/**
 * Whether a station that begins with this root would take the release: by the metadata of its repository, or, as a stick has it, by a
 * rescue key that the root names.
 * @param release its manifest's file, the bytes of it, and the folder of its repository
 * @throws AppError `release-unsigned`, saying what is wrong with each signature that there is
 */
export async function checkSignature(
  release: { readonly folder: string; readonly file: string; readonly bytes: Uint8Array; readonly manifest: Manifest },
  root: string | undefined,
): Promise<void> {
  const { folder, file, bytes, manifest } = release;
  const unsigned = (why: string): AppError =>
    new AppError('release-unsigned', `${file} is not signed by who may: ${why}`, { remedy: REMEDY });
  const signature = `${file}.minisig`;
  const ways: readonly (readonly [there: string, check: (trust: TufTrust) => unknown])[] = [
    [
      signature,
      (trust) => {
        const found = statSync(signature);
        // A pipe or a device on the stick would be read without end.
        if (!found.isFile() || found.size > MOST_SIGNATURE_BYTES) {
          throw new AppError('minisign-invalid', `it is no file of at most ${MOST_SIGNATURE_BYTES} bytes`);
        }
        const slots = firstState({ version: manifest.version, hash: manifest.hash });
        const text = readFileSync(signature, 'utf8');
        return readRescue({ manifest: bytes, signature: text, keys: trust.rescueKeys(), slots });
      },
    ],
    [join(folder, 'metadata/timestamp.json'), (trust) => trust.check(targetOf(manifest), bytes)],
  ];
  const there = ways.filter(([place]) => existsSync(place));
  if (there.length === 0) throw unsigned('nobody has signed it');
  if (root === undefined) throw unsigned('there is no root that says who may sign');
  const faults: string[] = [];
  const dir = mkdtempSync(join(tmpdir(), 'entryphone-install-'));
  try {
    for (const [place, check] of there) {
      try {
        const of = { source: folderSource(folder), clock: systemClock, logger: silentLogger };
        await check(await TufTrust.open({ dir, initialRoot: root, ...of }));
        return;
      } catch (error) {
        faults.push(`${place}: ${errorText(error)}`);
      }
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  throw unsigned(faults.join('; '));
}
