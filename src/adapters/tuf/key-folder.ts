import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { createDurably } from '../../core/durable-file.js';
import { AppError } from '../../core/errors.js';
import { encryptedPem } from './encrypted-key.js';
import type { RoleKeys } from './metadata.js';
import { ROLES } from './roles.js';
import { newPrivateKey, publicBytes, publicKeyOf, readPrivateKey, type SigningKey, signingKey } from './signing-key.js';

/** Besides the roles of TUF: who signs what a stick brings. */
export const KEY_ROLES = [...ROLES, 'rescue'] as const;
export type KeyRole = (typeof KEY_ROLES)[number];

/** A key of a folder: `root-1a2b3c4d.pub`, and `root-1a2b3c4d.pem` where its holder is. */
export interface StoredKey {
  readonly role: KeyRole;
  readonly keyId: string;
  readonly publicHex: string;
  /** Its files, without their endings. */
  readonly path: string;
  readonly hasPrivate: boolean;
}

const LEAST_PASSPHRASE_CHARS = 12;
const PUBLIC_FILE_MODE = 0o644;
const MOST_KEYS = 100;

const publicSchema = z.strictObject({
  v: z.literal(1),
  role: z.enum(KEY_ROLES),
  keyId: z.string(),
  public: z.string(),
});

/** Makes a key: the private half encrypted and of mode 0600. @throws AppError `passphrase-short` */
export async function createKey(dir: string, role: KeyRole, passphrase: string): Promise<StoredKey> {
  if (passphrase.length < LEAST_PASSPHRASE_CHARS) {
    throw new AppError('passphrase-short', `a passphrase has at least ${LEAST_PASSPHRASE_CHARS} characters`, {
      remedy: 'Six words drawn by dice are good, and can be remembered',
    });
  }
  const privateKey = newPrivateKey();
  const { keyId, publicHex } = publicKeyOf(publicBytes(privateKey).toString('hex'));
  const path = join(dir, `${role}-${keyId.slice(0, 8)}`);
  await mkdir(dir, { recursive: true, mode: 0o700 });
  await createDurably(`${path}.pem`, encryptedPem(privateKey, passphrase));
  const text = `${JSON.stringify({ v: 1, role, keyId, public: publicHex })}\n`;
  await createDurably(`${path}.pub`, text, PUBLIC_FILE_MODE);
  return { role, keyId, publicHex, path, hasPrivate: true };
}

/** The keys of a folder, by name. @throws AppError `keys-missing`, `key-invalid` */
export async function readKeyFolder(dir: string): Promise<readonly StoredKey[]> {
  const names = await readdir(dir).catch((cause: unknown) => {
    throw new AppError('keys-missing', `${dir} can't be read`, { remedy: 'entryphone keys create makes keys', cause });
  });
  const own = names.filter((name) => name.endsWith('.pub')).sort();
  if (own.length > MOST_KEYS) throw new AppError('key-invalid', `${dir} has more than ${MOST_KEYS} keys`);
  return Promise.all(
    own.map(async (name) => {
      const path = join(dir, name.slice(0, -'.pub'.length));
      const { role, ...key } = await readPublic(`${path}.pub`);
      return { ...key, role, path, hasPrivate: names.includes(`${name.slice(0, -'.pub'.length)}.pem`) };
    }),
  );
}

async function readPublic(path: string): Promise<Pick<StoredKey, 'role' | 'keyId' | 'publicHex'>> {
  const text = await readFile(path, 'utf8');
  let told: z.infer<typeof publicSchema> | undefined;
  try {
    told = publicSchema.parse(JSON.parse(text));
  } catch {
    // Told below.
  }
  const key = told === undefined ? undefined : publicKeyOf(told.public);
  if (told === undefined || key?.keyId !== told.keyId) {
    throw new AppError('key-invalid', `${path} is no public key of entryphone keys`, {
      remedy: 'Take it from its holder again, or remove it',
    });
  }
  return { role: told.role, ...key };
}

/** Opens the private half. @throws AppError `key-locked`, `key-invalid` */
export async function openKey(key: StoredKey, passphrase: string): Promise<ReturnType<typeof readPrivateKey>> {
  const privateKey = readPrivateKey(await readFile(`${key.path}.pem`, 'utf8'), passphrase);
  if (publicBytes(privateKey).toString('hex') !== key.publicHex) {
    throw new AppError('key-invalid', `${key.path}.pem and ${key.path}.pub are not of one key`);
  }
  return privateKey;
}

export async function openSigningKey(key: StoredKey, passphrase: string): Promise<SigningKey> {
  return signingKey(await openKey(key, passphrase));
}

/** Public keys by role, for a first root. */
export function roleKeys(keys: readonly StoredKey[]): RoleKeys {
  const of = (wanted: KeyRole) =>
    keys.filter(({ role }) => role === wanted).map(({ keyId, publicHex }) => ({ keyId, publicHex }));
  return {
    root: of('root'),
    targets: of('targets'),
    flows: of('flows'),
    snapshot: of('snapshot'),
    timestamp: of('timestamp'),
  };
}
