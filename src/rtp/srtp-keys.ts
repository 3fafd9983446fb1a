import { createCipheriv, createSecretKey, type KeyObject } from 'node:crypto';
import { AppError } from '../core/errors.js';

/** By the names of RFC 4568, 6.2 and RFC 7714, 14.1. The first authenticates SRTCP with 80 bits as well. */
export type SrtpSuite = 'AES_CM_128_HMAC_SHA1_80' | 'AEAD_AES_128_GCM' | 'AEAD_AES_256_GCM';

/** What one direction is protected with: master key and salt, joined, in base64 (RFC 4568, 6.1). */
export interface SrtpMasterKey {
  readonly suite: SrtpSuite;
  readonly keyAndSalt: string;
}

export interface SrtpSuiteSizes {
  readonly keyBytes: number;
  readonly saltBytes: number;
  readonly tagBytes: number;
}

export const SRTP_SUITES: Readonly<Record<SrtpSuite, SrtpSuiteSizes>> = {
  AES_CM_128_HMAC_SHA1_80: { keyBytes: 16, saltBytes: 14, tagBytes: 10 },
  AEAD_AES_128_GCM: { keyBytes: 16, saltBytes: 12, tagBytes: 16 },
  AEAD_AES_256_GCM: { keyBytes: 32, saltBytes: 12, tagBytes: 16 },
};

/** What packets are enciphered and authenticated with, for SRTP or for SRTCP. */
export interface SrtpSessionKey {
  readonly key: KeyObject;
  readonly salt: Buffer;
  /** GCM has none: it authenticates with the cipher's. */
  readonly authentication: KeyObject | null;
}

/** The labels of RFC 3711, 4.3.1 and 4.3.2, in the order cipher, authentication, salt. */
const LABELS = { srtp: [0, 1, 2], srtcp: [3, 4, 5] } as const;
const AUTHENTICATION_BYTES = 20;
const DERIVATION_SALT_BYTES = 14;
const LABEL_AT = 7;

/**
 * The session keys of a master key, which are good for its whole life: the key derivation rate is 0 (RFC 3711, 4.3; RFC 6188
 * for 256 bits; RFC 7714, 11 for salts of 96 bits).
 *
 * @throws AppError `srtp-key-invalid` where key and salt are not as long as the suite has them
 */
export function deriveSrtpKeys(master: SrtpMasterKey): { srtp: SrtpSessionKey; srtcp: SrtpSessionKey } {
  const { keyBytes, saltBytes } = SRTP_SUITES[master.suite];
  const both = Buffer.from(master.keyAndSalt, 'base64');
  if (both.length !== keyBytes + saltBytes) {
    throw new AppError('srtp-key-invalid', `${master.suite} has ${keyBytes + saltBytes} bytes of key and salt`, {
      remedy: 'Give both, joined, in base64',
    });
  }
  const key = createSecretKey(both.subarray(0, keyBytes));
  const salt = Buffer.alloc(DERIVATION_SALT_BYTES);
  both.copy(salt, 0, keyBytes);
  const derived = (label: number, bytes: number) => pseudoRandom(key, keyBytes, salt, label, bytes);
  const of = ([cipher, authentication, salting]: readonly [number, number, number]): SrtpSessionKey => ({
    key: createSecretKey(derived(cipher, keyBytes)),
    salt: derived(salting, saltBytes),
    authentication:
      master.suite === 'AES_CM_128_HMAC_SHA1_80'
        ? createSecretKey(derived(authentication, AUTHENTICATION_BYTES))
        : null,
  });
  return { srtp: of(LABELS.srtp), srtcp: of(LABELS.srtcp) };
}

/** AES in counter mode over nothing but zeros (RFC 3711, 4.3.3). */
function pseudoRandom(key: KeyObject, keyBytes: number, salt: Buffer, label: number, bytes: number): Buffer {
  const start = Buffer.alloc(16);
  salt.copy(start);
  start[LABEL_AT] = (start[LABEL_AT] ?? 0) ^ label;
  return createCipheriv(`aes-${keyBytes * 8}-ctr`, key, start).update(Buffer.alloc(bytes));
}
