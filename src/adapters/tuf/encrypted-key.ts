import { createCipheriv, type KeyObject, randomBytes, scryptSync } from 'node:crypto';

/**
 * What it costs to try a passphrase: 16 MiB and some 0.2 s. OpenSSL, and with it `createPrivateKey`, reads up to 32 MiB;
 * node:crypto itself writes PBKDF2 with 2,048 rounds alone, which is no match for a short passphrase.
 */
const SCRYPT = { N: 16_384, r: 8, p: 5 } as const;
const SALT_BYTES = 16;
const IV_BYTES = 16;
const AES_KEY_BYTES = 32;

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const OCTETS = 0x04;
/** id-PBES2 (RFC 8018, A.4), id-scrypt (RFC 7914, 7), aes256-CBC-PAD (RFC 8018, B.2.5), each with tag and length. */
const PBES2 = Buffer.from('06092a864886f70d01050d', 'hex');
const SCRYPT_OID = Buffer.from('06092b06010401da47040b', 'hex');
const AES_256_CBC = Buffer.from('060960864801650304012a', 'hex');

/** A private key as PEM, encrypted: PKCS#8 (RFC 5958) with scrypt (RFC 7914) and AES-256-CBC; `openssl pkey` reads it. */
export function encryptedPem(key: KeyObject, passphrase: string): string {
  const salt = randomBytes(SALT_BYTES);
  const iv = randomBytes(IV_BYTES);
  const aesKey = scryptSync(Buffer.from(passphrase, 'utf8'), salt, AES_KEY_BYTES, SCRYPT);
  const cipher = createCipheriv('aes-256-cbc', aesKey, iv);
  const plain = key.export({ type: 'pkcs8', format: 'der' });
  const encrypted = Buffer.concat([cipher.update(plain), cipher.final()]);
  plain.fill(0);
  aesKey.fill(0);
  const { N, r, p } = SCRYPT;
  const derivation = der(SEQUENCE, der(OCTETS, salt), integer(N), integer(r), integer(p));
  const parameters = der(SEQUENCE, der(SEQUENCE, SCRYPT_OID, derivation), der(SEQUENCE, AES_256_CBC, der(OCTETS, iv)));
  const whole = der(SEQUENCE, der(SEQUENCE, PBES2, parameters), der(OCTETS, encrypted));
  const lines = whole.toString('base64').match(/.{1,64}/g) ?? [];
  return ['-----BEGIN ENCRYPTED PRIVATE KEY-----', ...lines, '-----END ENCRYPTED PRIVATE KEY-----', ''].join('\n');
}

function integer(value: number): Buffer {
  const hex = value.toString(16);
  const digits = hex.length % 2 === 0 ? hex : `0${hex}`;
  // A first byte of 0x80 and more would make it negative.
  return der(INTEGER, Buffer.from(Number.parseInt(digits.slice(0, 2), 16) < 0x80 ? digits : `00${digits}`, 'hex'));
}

/** Tag, length and content (X.690, 8.1); none is longer than 65,535 bytes here. */
function der(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const header = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from([tag, ...header]), content]);
}
