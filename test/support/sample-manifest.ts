import { createHash } from 'node:crypto';
import { contentHash, type Manifest, type ReleaseFile } from '../../src/fleet/manifest.js';

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

const sampleFiles: readonly ReleaseFile[] = [
  { path: 'LICENSE', mode: 0o644, sizeBytes: 11_000, sha256: sha256('license') },
  { path: 'device/start.sh', mode: 0o755, sizeBytes: 600, sha256: sha256('start') },
  { path: 'dist/src/bin/station.js', mode: 0o644, sizeBytes: 88_400, sha256: sha256('station') },
];

/** A manifest that is in order, small. */
export function sampleManifest(change: Partial<Manifest> = {}): Manifest {
  return {
    kind: 'firmware',
    version: '1.2.3',
    architecture: 'x64',
    requires: { boards: ['raspberry-pi-4'], nodeAbi: 137, freeBytes: 200_000 },
    minFrom: '1.0.0',
    sizeBytes: 100_000,
    hash: contentHash(sampleFiles),
    files: sampleFiles,
    chunks: [
      { id: sha256('one'), sizeBytes: 60_000, storedBytes: 20_000 },
      { id: sha256('two'), sizeBytes: 40_000, storedBytes: 40_020 },
    ],
    ...change,
  };
}
