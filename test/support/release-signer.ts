import { readFileSync, writeFileSync } from 'node:fs';
import { signMinisign, writeMinisignKey } from '../../src/adapters/minisign/minisign.js';
import { rescueComment } from '../../src/adapters/minisign/rescue.js';
import { TufRepository } from '../../src/adapters/tuf/repository.js';
import { targetOf } from '../../src/adapters/tuf/roles.js';
import { newPrivateKey, publicBytes, type SigningKey, signingKey } from '../../src/adapters/tuf/signing-key.js';
import { systemClock } from '../../src/core/clock.js';
import type { Manifest } from '../../src/fleet/manifest.js';

export interface BuiltRelease {
  readonly manifest: Manifest;
  /** Of the manifest. */
  readonly file: string;
}

const keys = (count: number): SigningKey[] => Array.from({ length: count }, () => signingKey(newPrivateKey()));

/** Who may sign the releases of a repository, with all the keys, made for it. */
export class ReleaseSigner {
  readonly #tuf: TufRepository;
  readonly #roles = { root: keys(3), targets: keys(1), flows: keys(1), snapshot: keys(1), timestamp: keys(1) };
  readonly #rescue = newPrivateKey();

  private constructor(folder: string) {
    this.#tuf = new TufRepository({ dir: folder, clock: systemClock });
  }

  /** Begins the metadata of a repository that has none. */
  static async begin(folder: string): Promise<ReleaseSigner> {
    const signer = new ReleaseSigner(folder);
    await signer.#tuf.init(signer.#roles, [writeMinisignKey(publicBytes(signer.#rescue))]);
    await signer.#tuf.sign(Object.values(signer.#roles).flat());
    return signer;
  }

  /** By the metadata. */
  async sign(...releases: readonly BuiltRelease[]): Promise<void> {
    const targets = releases.map(({ manifest, file }) => ({ path: targetOf(manifest), bytes: readFileSync(file) }));
    await this.#tuf.addTargets(targets);
    await this.#tuf.sign(Object.values(this.#roles).flat());
  }

  /** For a stick: beside the manifest. */
  signForRescue({ manifest, file }: BuiltRelease): void {
    const privateKey = this.#rescue;
    const own = { privateKey, publicBytes: publicBytes(privateKey), trustedComment: rescueComment(manifest) };
    writeFileSync(`${file}.minisig`, signMinisign(readFileSync(file), own));
  }
}
