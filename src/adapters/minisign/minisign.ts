import { createHash, createPublicKey, type KeyObject, sign, verify } from 'node:crypto';
import { AppError } from '../../core/errors.js';

/** A public key of minisign: what verifies, and the id by which signatures name it. */
export interface MinisignKey {
  /** 8 bytes, in hex, in the order in which they stand in the file. */
  readonly keyId: string;
  readonly key: KeyObject;
}

/** A signature that has been read, and verified by nobody yet. */
export interface MinisignSignature {
  readonly keyId: string;
  /** Of the file's BLAKE2b-512 (64 bytes). */
  readonly signature: Buffer;
  readonly trustedComment: string;
  /** Of the signature and the trusted comment (64 bytes). */
  readonly globalSignature: Buffer;
}

/** Ed25519 of the file's BLAKE2b-512, which minisign 0.10 and newer make; the older `Ed` signs the file itself. */
const PREHASHED = 'ED';
const KEY_ALGORITHM = 'Ed';
const KEY_ID_BYTES = 8;
const PUBLIC_BYTES = 32;
const SIGNATURE_BYTES = 64;
const MOST_TEXT_CHARS = 4_096;
/** SPKI of ed25519 up to the key itself (RFC 8410, clause 4). */
const SPKI_HEAD = Buffer.from('302a300506032b6570032100', 'hex');

const UNTRUSTED = 'untrusted comment: ';
const TRUSTED = 'trusted comment: ';

/**
 * Reads a public key: the file as minisign writes it, or its second line alone.
 * @throws AppError `minisign-invalid`
 */
export function readMinisignKey(text: string): MinisignKey {
  const lines = linesOf(text);
  const base64 = lines.length === 1 ? lines[0] : lines.length === 2 && isUntrusted(lines[0]) ? lines[1] : undefined;
  const bytes = fromBase64(base64, KEY_ALGORITHM.length + KEY_ID_BYTES + PUBLIC_BYTES);
  if (bytes === undefined || bytes.toString('latin1', 0, 2) !== KEY_ALGORITHM)
    throw invalid('no public key of minisign');
  return {
    keyId: bytes.toString('hex', 2, 10),
    key: createPublicKey({ key: Buffer.concat([SPKI_HEAD, bytes.subarray(10)]), format: 'der', type: 'spki' }),
  };
}

/** Reads a `.minisig` file. @throws AppError `minisign-invalid` */
export function readMinisignSignature(text: string): MinisignSignature {
  const [untrusted, base64, trusted, global, ...rest] = linesOf(text);
  if (rest.length > 0 || !isUntrusted(untrusted) || trusted?.startsWith(TRUSTED) !== true) {
    throw invalid('no signature of minisign');
  }
  const bytes = fromBase64(base64, 2 + KEY_ID_BYTES + SIGNATURE_BYTES);
  const globalSignature = fromBase64(global, SIGNATURE_BYTES);
  if (bytes === undefined || globalSignature === undefined) throw invalid('no signature of minisign');
  if (bytes.toString('latin1', 0, 2) !== PREHASHED) {
    throw invalid('a signature of a kind that is not taken', 'Sign with minisign 0.10 or newer, without -l');
  }
  return {
    keyId: bytes.toString('hex', 2, 10),
    signature: bytes.subarray(10),
    trustedComment: trusted.slice(TRUSTED.length),
    globalSignature,
  };
}

/**
 * Verifies a file. @returns the trusted comment, which is signed too
 * @throws AppError `minisign-refused` where none of `keys` has signed these bytes and this comment
 */
export function verifyMinisign(file: Uint8Array, signed: MinisignSignature, keys: readonly MinisignKey[]): string {
  const found = keys.find(({ keyId }) => keyId === signed.keyId);
  if (found === undefined) throw refused('it is signed by a key that this station does not know');
  if (!verify(null, prehash(file), found.key, signed.signature)) throw refused('it is not the file that was signed');
  const whole = Buffer.concat([signed.signature, Buffer.from(signed.trustedComment, 'utf8')]);
  if (!verify(null, whole, found.key, signed.globalSignature)) {
    throw refused('its trusted comment is not the one that was signed');
  }
  return signed.trustedComment;
}

/** The text of a public key's file. `publicBytes`: 32 bytes. */
export function writeMinisignKey(publicBytes: Uint8Array): string {
  const keyId = minisignKeyId(publicBytes);
  // minisign shows the id as a number, which it has stored from the least byte on.
  const shown = Buffer.from(keyId).reverse().toString('hex').toUpperCase();
  const base64 = Buffer.concat([Buffer.from(KEY_ALGORITHM), keyId, publicBytes]).toString('base64');
  return `${UNTRUSTED}minisign public key ${shown}\n${base64}\n`;
}

/** The text of a `.minisig` file. @throws AppError `minisign-invalid` for a comment of several lines */
export function signMinisign(
  file: Uint8Array,
  options: { readonly privateKey: KeyObject; readonly publicBytes: Uint8Array; readonly trustedComment: string },
): string {
  const { privateKey, publicBytes, trustedComment } = options;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  if (/[\u0000-\u001f\u007f]/.test(trustedComment) || trustedComment.length > 1_000) {
    throw invalid('a comment that is not one line of at most 1000 characters');
  }
  const signature = sign(null, prehash(file), privateKey);
  const globalSignature = sign(null, Buffer.concat([signature, Buffer.from(trustedComment, 'utf8')]), privateKey);
  const base64 = Buffer.concat([Buffer.from(PREHASHED), minisignKeyId(publicBytes), signature]).toString('base64');
  return [
    `${UNTRUSTED}signature from entryphone`,
    base64,
    `${TRUSTED}${trustedComment}`,
    globalSignature.toString('base64'),
    '',
  ].join('\n');
}

/** minisign draws it; ours is of the key, so that a key never has two. */
function minisignKeyId(publicBytes: Uint8Array): Buffer {
  return createHash('sha256').update(publicBytes).digest().subarray(0, KEY_ID_BYTES);
}

function prehash(file: Uint8Array): Buffer {
  return createHash('blake2b512').update(file).digest();
}

function linesOf(text: string): readonly string[] {
  if (text.length > MOST_TEXT_CHARS) throw invalid(`more than ${MOST_TEXT_CHARS} characters`);
  return text.replace(/\r?\n$/, '').split(/\r?\n/);
}

function isUntrusted(line: string | undefined): boolean {
  return line?.startsWith(UNTRUSTED) === true;
}

/** Exactly `sizeBytes` of canonical base64, or nothing. */
function fromBase64(text: string | undefined, sizeBytes: number): Buffer | undefined {
  if (text === undefined) return undefined;
  const bytes = Buffer.from(text, 'base64');
  return bytes.length === sizeBytes && bytes.toString('base64') === text ? bytes : undefined;
}

function invalid(what: string, remedy = 'Sign the file again: minisign -S -m FILE'): AppError {
  return new AppError('minisign-invalid', `the signature or its key is ${what}`, { remedy });
}

function refused(why: string): AppError {
  return new AppError('minisign-refused', why, { remedy: 'Take the file and its .minisig from the maker again' });
}
