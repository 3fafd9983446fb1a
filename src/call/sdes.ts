/** The suites that both ends may choose from, best first: fewest bytes a packet, then strongest (RFC 4568, 6.2; RFC 7714, 14.1). */
export const SDES_SUITES = ['AES_CM_128_HMAC_SHA1_80', 'AEAD_AES_256_GCM', 'AEAD_AES_128_GCM'] as const;
export type SdesSuite = (typeof SDES_SUITES)[number];

/** Bytes of master key and salt together. */
export const KEY_AND_SALT_BYTES: Readonly<Record<SdesSuite, number>> = {
  AES_CM_128_HMAC_SHA1_80: 30,
  AEAD_AES_256_GCM: 44,
  AEAD_AES_128_GCM: 28,
};

/** One `a=crypto` line: the key that the end which says it sends with (RFC 4568, 5.1). A secret. */
export interface SdesKey {
  /** By it an answer says which line of the offer it takes. */
  readonly tag: number;
  readonly suite: SdesSuite;
  /** Master key and salt, joined, in base64. */
  readonly keyAndSalt: string;
}

/** What a description says of SRTP: several keys in an offer, one in an answer. */
export interface SdesSecurity {
  /** The profile is RTP/SAVP: plain RTP is out of the question. */
  readonly isRequired: boolean;
  readonly keys: readonly [SdesKey, ...SdesKey[]];
}

/** Whether speech must, may or must not be encrypted at this end. */
export type EncryptionPolicy = 'required' | 'preferred' | 'off';

/** `size` random bytes that nobody can guess. */
export type RandomBytes = (size: number) => Buffer;

const MOST_LINES = 8;
const MOST_TAG = 999_999_999;
/** Packets: a day of 10 ms packets. A key that is said to be good for fewer is not taken. */
const LEAST_LIFETIME = 2 ** 24;

/** What an offer says: a fresh key for every suite. Undefined for plain RTP. */
export function offerSecurity(policy: EncryptionPolicy, random: RandomBytes): SdesSecurity | undefined {
  if (policy === 'off') return undefined;
  const [first, ...others] = SDES_SUITES;
  const key = (suite: SdesSuite, at: number) => freshKey(at + 1, suite, random);
  return { isRequired: policy === 'required', keys: [key(first, 0), ...others.map((suite, at) => key(suite, at + 1))] };
}

/** What the answer says: a fresh key of the first suite that was offered (RFC 4568, 5.1.2). Undefined for plain RTP. */
export function answerSecurity(
  policy: EncryptionPolicy,
  offered: SdesSecurity | undefined,
  random: RandomBytes,
): SdesSecurity | undefined {
  if (policy === 'off' || offered === undefined) return undefined;
  const [{ tag, suite }] = offered.keys;
  return { isRequired: offered.isRequired, keys: [freshKey(tag, suite, random)] };
}

/** Why the peer's description does not go with this end's policy; null where it does. */
export function securityFault(
  policy: EncryptionPolicy,
  peer: SdesSecurity | undefined,
): 'not-encrypted' | 'only-encrypted' | null {
  if (policy === 'required' && peer === undefined) return 'not-encrypted';
  return policy === 'off' && peer?.isRequired === true ? 'only-encrypted' : null;
}

/** The keys that both ends have come to, each its own for what it sends; null for plain RTP. */
export function agreedKeys(
  local: SdesSecurity | undefined,
  remote: SdesSecurity | undefined,
): { readonly send: SdesKey; readonly receive: SdesKey } | null {
  for (const send of local?.keys ?? []) {
    const receive = remote?.keys.find(({ tag, suite }) => tag === send.tag && suite === send.suite);
    if (receive !== undefined) return { send, receive };
  }
  return null;
}

function freshKey(tag: number, suite: SdesSuite, random: RandomBytes): SdesKey {
  return { tag, suite, keyAndSalt: random(KEY_AND_SALT_BYTES[suite]).toString('base64') };
}

/** As `sdp-transform` writes and reads an `a=crypto` line. */
export interface CryptoLine {
  readonly id: number;
  readonly suite: string;
  readonly config: string;
}

export function writeCrypto(security: SdesSecurity | undefined): CryptoLine[] {
  return (security?.keys ?? []).map(({ tag, suite, keyAndSalt }) => ({
    id: tag,
    suite,
    config: `inline:${keyAndSalt}`,
  }));
}

/** Lines that this house can't follow (other suites, MKI, several keys, session parameters) are passed over. */
export function readCrypto(lines: readonly Record<string, unknown>[], isRequired: boolean): SdesSecurity | undefined {
  const [first, ...others] = lines.slice(0, MOST_LINES).flatMap(keyOf);
  return first === undefined ? undefined : { isRequired, keys: [first, ...others] };
}

/** RFC 4568, 6.1: `inline:key-and-salt[|lifetime][|MKI:length]`. */
function keyOf({ id, suite, config, sessionConfig }: Record<string, unknown>): SdesKey[] {
  const known = SDES_SUITES.find((name) => name === suite);
  if (known === undefined || typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > MOST_TAG) return [];
  if (sessionConfig !== undefined) return [];
  const [, keyAndSalt = '', lifetime] =
    /^inline:([A-Za-z0-9+/]+={0,2})(?:\|(2\^\d{1,2}|\d{1,15}))?$/.exec(String(config)) ?? [];
  if (Buffer.from(keyAndSalt, 'base64').length !== KEY_AND_SALT_BYTES[known]) return [];
  return lifetime !== undefined && packetsOf(lifetime) < LEAST_LIFETIME ? [] : [{ tag: id, suite: known, keyAndSalt }];
}

function packetsOf(lifetime: string): number {
  return lifetime.startsWith('2^') ? 2 ** Number(lifetime.slice(2)) : Number(lifetime);
}
