import { createSecretKey } from 'node:crypto';
import { SRTP_SUITES, type SrtpMasterKey, type SrtpSessionKey, type SrtpSuite } from '../../src/rtp/srtp-keys.js';

/** A master key of the suite. @param random gives that many bytes */
export function keyOf(suite: SrtpSuite, random: (size: number) => Buffer): SrtpMasterKey {
  const { keyBytes, saltBytes } = SRTP_SUITES[suite];
  return { suite, keyAndSalt: random(keyBytes + saltBytes).toString('base64') };
}

/** A session key as test vectors give it: key in hex; for counter mode an authentication key of zeros. */
export function sessionKey(key: string, salt: Buffer, isCounterMode: boolean): SrtpSessionKey {
  const authentication = isCounterMode ? createSecretKey(Buffer.alloc(20)) : null;
  return { key: createSecretKey(Buffer.from(key, 'hex')), salt, authentication };
}
