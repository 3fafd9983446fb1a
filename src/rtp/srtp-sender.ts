import { rtpHeaderBytes } from './rtp-packet.js';
import { sequenceDistance } from './sequence.js';
import { createSrtpCipher, type SrtpCipher } from './srtp-cipher.js';
import { deriveSrtpKeys, type SrtpMasterKey } from './srtp-keys.js';

/** RFC 3711, 9.2: packets under one key. */
const MOST_SRTP_INDEX = 2 ** 48 - 1;
const MOST_SRTCP_INDEX = 2 ** 31 - 1;
/** RFC 3711, 3.4: the header of the first packet of a compound, with its sender's SSRC. */
export const SRTCP_HEADER_BYTES = 8;
export const SRTCP_ENCRYPTED = 0x8000_0000;

/**
 * Protects what one source sends. Its indices count up for as long as it lives, whatever the key and whatever the path, and
 * while there is no key: so that no index comes twice under a key that is used again. A new run makes another SSRC.
 */
export class SrtpSender {
  readonly #ssrc: number;
  #master: SrtpMasterKey | null = null;
  #srtp: SrtpCipher | null = null;
  #srtcp: SrtpCipher | null = null;
  /** Roll-over counter × 2^16 + sequence of the last packet; -1 before any. */
  #index = -1;
  #srtcpIndex = 0;

  constructor(ssrc: number) {
    this.#ssrc = ssrc;
  }

  /** @param master null to send plain RTP. @throws AppError `srtp-key-invalid` */
  use(master: SrtpMasterKey | null): void {
    const { suite, keyAndSalt } = this.#master ?? {};
    if (master?.suite === suite && master?.keyAndSalt === keyAndSalt) return;
    const keys = master === null ? null : deriveSrtpKeys(master);
    this.#srtp = master === null || keys === null ? null : createSrtpCipher(master.suite, keys.srtp);
    this.#srtcp = master === null || keys === null ? null : createSrtpCipher(master.suite, keys.srtcp);
    this.#master = master;
  }

  /** @returns what may leave; null for a packet that must not: of another source, not after the last one, after the key's end */
  rtp(packet: Uint8Array): Uint8Array | null {
    const headerBytes = rtpHeaderBytes(packet);
    if (headerBytes === null) return null;
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    const sequence = view.getUint16(2);
    const ahead = this.#index < 0 ? sequence + 1 : sequenceDistance(this.#index & 0xffff, sequence);
    const index = this.#index + ahead;
    if (view.getUint32(8) !== this.#ssrc || ahead <= 0 || index > MOST_SRTP_INDEX) return null;
    this.#index = index;
    if (this.#srtp === null) return packet;
    const rollOver = Math.floor(index / 2 ** 16);
    return this.#srtp.seal(packet, { ssrc: this.#ssrc, index, headerBytes, trailer: rollOver, isTrailerSent: false });
  }

  /** As `rtp`, for a compound of RTCP. */
  rtcp(compound: Uint8Array): Uint8Array | null {
    if (this.#srtcp === null) return compound;
    if (compound.length < SRTCP_HEADER_BYTES || this.#srtcpIndex > MOST_SRTCP_INDEX) return null;
    const index = this.#srtcpIndex++;
    const trailer = (SRTCP_ENCRYPTED | index) >>> 0;
    const place = { ssrc: this.#ssrc, index, headerBytes: SRTCP_HEADER_BYTES, trailer, isTrailerSent: true };
    return this.#srtcp.seal(compound, place);
  }
}
