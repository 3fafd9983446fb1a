import { createCipheriv, createDecipheriv, createHmac, type KeyObject, timingSafeEqual } from 'node:crypto';
import { SRTP_SUITES, type SrtpSessionKey, type SrtpSuite } from './srtp-keys.js';

/**
 * One packet's place: no two packets under one key may have the same SSRC and index, or what both say can be had from their
 * difference (RFC 3711, 9.1; RFC 7714, 8.1: with GCM forging too).
 */
export interface PacketPlace {
  readonly ssrc: number;
  /** SRTP: roll-over counter × 2^16 + sequence, 48 bits. SRTCP: its index, 31 bits. */
  readonly index: number;
  /** The bytes at the front that stay in the clear. */
  readonly headerBytes: number;
  /** The 32 bits that are authenticated with the packet: SRTP's roll-over counter, SRTCP's E flag and index. */
  readonly trailer: number;
  /** SRTCP's travels with the packet, SRTP's is known at both ends. */
  readonly isTrailerSent: boolean;
}

/** Protects and opens the packets of one direction, SRTP or SRTCP, with the index that it is told. Nothing of it throws. */
export interface SrtpCipher {
  readonly tagBytes: number;
  /** Where SRTCP's trailer begins, in bytes from the packet's end. */
  readonly trailerFromEnd: number;
  /** The protected packet, in memory of its own. */
  seal(packet: Uint8Array, place: PacketPlace): Buffer;
  /**
   * The packet within a protected one, in memory of its own; null where the tag does not fit.
   *
   * @param isEncrypted false for SRTCP without the E flag, which is authenticated alone
   */
  open(sealed: Uint8Array, place: PacketPlace, isEncrypted: boolean): Buffer | null;
}

export function createSrtpCipher(suite: SrtpSuite, { key, salt, authentication }: SrtpSessionKey): SrtpCipher {
  if (authentication !== null) return new CounterModeCipher(key, salt, authentication);
  return new GcmCipher(suite === 'AEAD_AES_256_GCM' ? 'aes-256-gcm' : 'aes-128-gcm', key, salt);
}

const TRAILER_BYTES = 4;
const NOTHING = Buffer.alloc(0);

/** RFC 3711, 4.1.1 and 4.2.1: `header | ciphertext | [trailer] | tag`, the tag over all before it and the trailer. */
class CounterModeCipher implements SrtpCipher {
  readonly tagBytes = SRTP_SUITES.AES_CM_128_HMAC_SHA1_80.tagBytes;
  readonly trailerFromEnd = TRAILER_BYTES + this.tagBytes;
  readonly #key: KeyObject;
  readonly #salt: Buffer;
  readonly #authentication: KeyObject;
  readonly #start = Buffer.alloc(16);
  readonly #trailer = Buffer.alloc(TRAILER_BYTES);

  constructor(key: KeyObject, salt: Buffer, authentication: KeyObject) {
    this.#key = key;
    this.#salt = salt;
    this.#authentication = authentication;
  }

  seal(packet: Uint8Array, place: PacketPlace): Buffer {
    const { headerBytes, trailer, isTrailerSent } = place;
    // The trailer stands where it is authenticated; SRTP's is then overwritten by the tag.
    const sealed = Buffer.allocUnsafe(packet.length + TRAILER_BYTES + this.tagBytes);
    sealed.set(packet.subarray(0, headerBytes));
    sealed.set(this.#crypt(packet.subarray(headerBytes), place), headerBytes);
    const tagAt = sealed.writeUInt32BE(trailer, packet.length);
    const tag = createHmac('sha1', this.#authentication).update(sealed.subarray(0, tagAt)).digest();
    const end = isTrailerSent ? tagAt : packet.length;
    tag.copy(sealed, end, 0, this.tagBytes);
    return sealed.subarray(0, end + this.tagBytes);
  }

  open(sealed: Uint8Array, place: PacketPlace, isEncrypted: boolean): Buffer | null {
    const { headerBytes, trailer, isTrailerSent } = place;
    const tagAt = sealed.length - this.tagBytes;
    this.#trailer.writeUInt32BE(trailer);
    const end = isTrailerSent ? tagAt - TRAILER_BYTES : tagAt;
    const tag = createHmac('sha1', this.#authentication)
      .update(sealed.subarray(0, end))
      .update(this.#trailer)
      .digest()
      .subarray(0, this.tagBytes);
    if (!timingSafeEqual(tag, sealed.subarray(tagAt))) return null;
    const body = sealed.subarray(headerBytes, end);
    return joined(sealed.subarray(0, headerBytes), isEncrypted ? this.#crypt(body, place) : body);
  }

  #crypt(body: Uint8Array, place: PacketPlace): Uint8Array {
    const start = xorPlace(this.#start, this.#salt, 4, place);
    return createCipheriv('aes-128-ctr', this.#key, start).update(body);
  }
}

/** RFC 7714, 8 and 9: `header | ciphertext | tag | [trailer]`; header and trailer are authenticated beside the text. */
class GcmCipher implements SrtpCipher {
  readonly tagBytes = SRTP_SUITES.AEAD_AES_128_GCM.tagBytes;
  readonly trailerFromEnd = TRAILER_BYTES;
  readonly #algorithm: 'aes-128-gcm' | 'aes-256-gcm';
  readonly #key: KeyObject;
  readonly #salt: Buffer;
  readonly #iv = Buffer.alloc(12);

  constructor(algorithm: 'aes-128-gcm' | 'aes-256-gcm', key: KeyObject, salt: Buffer) {
    this.#algorithm = algorithm;
    this.#key = key;
    this.#salt = salt;
  }

  seal(packet: Uint8Array, place: PacketPlace): Buffer {
    const { headerBytes, trailer, isTrailerSent } = place;
    const cipher = createCipheriv(this.#algorithm, this.#key, xorPlace(this.#iv, this.#salt, 2, place));
    cipher.setAAD(this.#associated(packet.subarray(0, headerBytes), place));
    const text = cipher.update(packet.subarray(headerBytes));
    cipher.final();
    const trailerAt = packet.length + this.tagBytes;
    const sealed = Buffer.allocUnsafe(isTrailerSent ? trailerAt + TRAILER_BYTES : trailerAt);
    sealed.set(packet.subarray(0, headerBytes));
    sealed.set(text, headerBytes);
    sealed.set(cipher.getAuthTag(), packet.length);
    if (isTrailerSent) sealed.writeUInt32BE(trailer, trailerAt);
    return sealed;
  }

  open(sealed: Uint8Array, place: PacketPlace, isEncrypted: boolean): Buffer | null {
    const { isTrailerSent } = place;
    const tagAt = sealed.length - this.tagBytes - (isTrailerSent ? TRAILER_BYTES : 0);
    const headerBytes = isEncrypted ? place.headerBytes : tagAt;
    const header = sealed.subarray(0, headerBytes);
    const decipher = createDecipheriv(this.#algorithm, this.#key, xorPlace(this.#iv, this.#salt, 2, place), {
      authTagLength: this.tagBytes,
    });
    decipher.setAuthTag(sealed.subarray(tagAt, tagAt + this.tagBytes));
    decipher.setAAD(this.#associated(header, place));
    const text = decipher.update(sealed.subarray(headerBytes, tagAt));
    try {
      decipher.final();
    } catch {
      return null;
    }
    return joined(header, text);
  }

  #associated(header: Uint8Array, { trailer, isTrailerSent }: PacketPlace): Uint8Array {
    if (!isTrailerSent) return header;
    const associated = joined(header, NOTHING, TRAILER_BYTES);
    associated.writeUInt32BE(trailer, header.length);
    return associated;
  }
}

/** The salt with the SSRC and, after it, the index of 48 bits laid over it, the SSRC beginning at `ssrcAt`. */
function xorPlace(into: Buffer, salt: Buffer, ssrcAt: number, { ssrc, index }: PacketPlace): Buffer {
  into.fill(0);
  into.writeUInt32BE(ssrc, ssrcAt);
  into.writeUIntBE(index, ssrcAt + 4, 6);
  for (let at = 0; at < salt.length; at++) into[at] = (into[at] ?? 0) ^ (salt[at] ?? 0);
  return into;
}

function joined(header: Uint8Array, body: Uint8Array, spareBytes = 0): Buffer {
  const all = Buffer.allocUnsafe(header.length + body.length + spareBytes);
  all.set(header);
  all.set(body, header.length);
  return all;
}
