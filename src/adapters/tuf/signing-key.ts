import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { AppError } from '../../core/errors.js';

/** The public half of an ed25519 key, as metadata of TUF names it. */
export interface PublicKey {
  /** SHA-256 of the key's canonical JSON, in hex (TUF 1.0.34, clause 4.2). */
  readonly keyId: string;
  /** 32 bytes, in hex. */
  readonly publicHex: string;
}

/** A key that signs; what it is made of stays within. */
export interface SigningKey extends PublicKey {
  /** @returns 64 bytes (RFC 8032) */
  sign(data: Uint8Array): Buffer;
}

const PUBLIC_HEX = /^[0-9a-f]{64}$/;
const PUBLIC_BYTES = 32;

export function newPrivateKey(): KeyObject {
  return generateKeyPairSync('ed25519').privateKey;
}

export function signingKey(privateKey: KeyObject): SigningKey {
  const publicHex = publicBytes(privateKey).toString('hex');
  return { ...publicKeyOf(publicHex), sign: (data) => sign(null, data, privateKey) };
}

/** The last 32 bytes of the key's SPKI (RFC 8410, clause 4). */
export function publicBytes(key: KeyObject): Buffer {
  const spki = (key.type === 'private' ? createPublicKey(key) : key).export({ type: 'spki', format: 'der' });
  return spki.subarray(-PUBLIC_BYTES);
}

/** @throws AppError `key-invalid` for what is no ed25519 key in hex */
export function publicKeyOf(publicHex: string): PublicKey {
  if (!PUBLIC_HEX.test(publicHex)) throw new AppError('key-invalid', 'A public key is 64 digits of lower-case hex');
  // Canonical JSON: keys sorted, no spaces.
  const canonical = `{"keytype":"ed25519","keyval":{"public":"${publicHex}"},"scheme":"ed25519"}`;
  return { keyId: createHash('sha256').update(canonical).digest('hex'), publicHex };
}

/** @throws AppError `key-locked` where the passphrase is wrong, `key-invalid` for what is no ed25519 key */
export function readPrivateKey(pem: string, passphrase: string): KeyObject {
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: pem, passphrase });
  } catch {
    // OpenSSL's words tell nothing that helps, and might quote.
    throw new AppError('key-locked', 'the key does not open with this passphrase', {
      remedy: 'Give the passphrase that it was made with; nobody can recover another',
    });
  }
  if (key.asymmetricKeyType !== 'ed25519') {
    throw new AppError('key-invalid', `the key is ${key.asymmetricKeyType}, not ed25519`, {
      remedy: 'Make one with: entryphone keys create',
    });
  }
  return key;
}
