import { ReplayWindow } from './replay-window.js';
import { parseRtcp } from './rtcp-parse.js';
import { rtpHeaderBytes } from './rtp-packet.js';
import { sequenceDistance } from './sequence.js';
import { createSrtpCipher, type PacketPlace, type SrtpCipher } from './srtp-cipher.js';
import { deriveSrtpKeys, type SrtpMasterKey } from './srtp-keys.js';
import { SRTCP_ENCRYPTED, SRTCP_HEADER_BYTES } from './srtp-sender.js';

/** Why a packet is dropped. The two `…-not-encrypted` are told from a wrong key where the far end's RTCP can be read as it is. */
export type SrtpFault =
  | 'srtp-too-short'
  | 'srtp-auth-failed'
  | 'srtp-replayed'
  | 'srtcp-too-short'
  | 'srtcp-auth-failed'
  | 'srtcp-replayed'
  | 'rtp-not-encrypted'
  | 'rtcp-not-encrypted';

export type SrtpOpened =
  | { readonly ok: true; readonly packet: Buffer }
  | { readonly ok: false; readonly fault: SrtpFault };

/** A far end that starts again comes with another source; the one that was heard last longest ago is forgotten. */
const MOST_SOURCES = 16;
/** A source that nothing authentic came from for so long may have rolled over unheard. */
const STALLED_MS = 1_000;
/** So many roll-over counters are looked through then: 93 hours of 20 ms packets. */
const MOST_ROLL_OVERS = 256;

interface Source {
  readonly rtp: ReplayWindow;
  readonly rtcp: ReplayWindow;
  /** When something authentic came of it, and when RTP did. */
  heardMs: number;
  rtpHeardMs: number;
}

interface Found {
  readonly packet: Buffer;
  readonly index: number;
}

/**
 * Opens what the far end sent: nothing of a packet is believed before its tag has been checked, and none counts twice
 * (RFC 3711, 3.3). A receiver that begins in mid-call, or hears nothing for long, is not told the roll-over counter: it
 * looks for it, forward alone, the next one and another with each packet, so that a forged one costs little.
 */
export class SrtpReceiver {
  readonly #srtp: SrtpCipher;
  readonly #srtcp: SrtpCipher;
  readonly #sources = new Map<number, Source>();
  /** How much further than the next one is tried next. */
  #further = 2;
  /** Who sent RTCP that is not encrypted. */
  #plainSsrc: number | null = null;

  /** @throws AppError `srtp-key-invalid` */
  constructor(master: SrtpMasterKey) {
    const { srtp, srtcp } = deriveSrtpKeys(master);
    this.#srtp = createSrtpCipher(master.suite, srtp);
    this.#srtcp = createSrtpCipher(master.suite, srtcp);
  }

  rtp(datagram: Uint8Array, arrivalMs: number): SrtpOpened {
    const found = this.#findRtp(datagram, arrivalMs);
    if (typeof found === 'string') return { ok: false, fault: found };
    const source = this.#sourceOf(viewOf(datagram).getUint32(8), arrivalMs);
    source.rtp.take(found.index);
    source.rtpHeardMs = arrivalMs;
    return { ok: true, packet: found.packet };
  }

  /** Opens a packet that is only to be looked at: it can come again. */
  peekRtp(datagram: Uint8Array, arrivalMs: number): SrtpOpened {
    const found = this.#findRtp(datagram, arrivalMs);
    return typeof found === 'string' ? { ok: false, fault: found } : { ok: true, packet: found.packet };
  }

  rtcp(datagram: Uint8Array, arrivalMs: number): SrtpOpened {
    const found = this.#findRtcp(datagram);
    if (typeof found === 'string') return { ok: false, fault: found };
    const source = this.#sourceOf(viewOf(datagram).getUint32(4), arrivalMs);
    source.rtcp.take(found.index);
    return { ok: true, packet: found.packet };
  }

  #findRtp(datagram: Uint8Array, arrivalMs: number): Found | SrtpFault {
    const headerBytes = rtpHeaderBytes(datagram);
    if (headerBytes === null || datagram.length < headerBytes + this.#srtp.tagBytes) return 'srtp-too-short';
    const view = viewOf(datagram);
    const sequence = view.getUint16(2);
    const ssrc = view.getUint32(8);
    const source = this.#sources.get(ssrc);
    const highest = source?.rtp.highest ?? -1;
    // RFC 3711, 3.3.1: the index next to the highest so far; the first packet's counter is 0.
    const likely = highest < 0 ? sequence : highest + sequenceDistance(highest & 0xffff, sequence);
    const isNew = likely >= 0 && (source === undefined || source.rtp.admits(likely));
    const isStalled = source === undefined || highest < 0 || arrivalMs - source.rtpHeardMs > STALLED_MS;
    if (isNew) {
      const packet = this.#openRtp(datagram, ssrc, likely, headerBytes);
      if (packet !== null) return { packet, index: likely };
    }
    if (isStalled) {
      const firstRollOver = Math.floor(Math.max(0, highest) / 2 ** 16);
      for (const rollOvers of [1, this.#further]) {
        const index = (firstRollOver + rollOvers) * 2 ** 16 + sequence;
        const packet = this.#openRtp(datagram, ssrc, index, headerBytes);
        if (packet !== null) return { packet, index };
      }
      this.#further = this.#further === MOST_ROLL_OVERS ? 2 : this.#further + 1;
    }
    if (!isNew) return 'srtp-replayed';
    return ssrc === this.#plainSsrc ? 'rtp-not-encrypted' : 'srtp-auth-failed';
  }

  #openRtp(datagram: Uint8Array, ssrc: number, index: number, headerBytes: number): Buffer | null {
    const trailer = Math.floor(index / 2 ** 16);
    return this.#srtp.open(datagram, { ssrc, index, headerBytes, trailer, isTrailerSent: false }, true);
  }

  #findRtcp(datagram: Uint8Array): Found | SrtpFault {
    const { tagBytes } = this.#srtcp;
    if (datagram.length < SRTCP_HEADER_BYTES + 4 + tagBytes) return this.#plainRtcp(datagram) ?? 'srtcp-too-short';
    const view = viewOf(datagram);
    const ssrc = view.getUint32(4);
    const trailer = view.getUint32(datagram.length - this.#srtcp.trailerFromEnd);
    const index = trailer & ~SRTCP_ENCRYPTED;
    const place: PacketPlace = { ssrc, index, headerBytes: SRTCP_HEADER_BYTES, trailer, isTrailerSent: true };
    const window = this.#sources.get(ssrc)?.rtcp;
    if (window?.admits(index) === false) return this.#plainRtcp(datagram) ?? 'srtcp-replayed';
    const packet = this.#srtcp.open(datagram, place, trailer >= SRTCP_ENCRYPTED);
    if (packet === null) return this.#plainRtcp(datagram) ?? 'srtcp-auth-failed';
    return { packet, index };
  }

  /** Named where it can be told: the authenticated one ends with what no packet of RTCP could be. */
  #plainRtcp(datagram: Uint8Array): SrtpFault | null {
    if (!parseRtcp(datagram).ok) return null;
    this.#plainSsrc = viewOf(datagram).getUint32(4);
    return 'rtcp-not-encrypted';
  }

  #sourceOf(ssrc: number, nowMs: number): Source {
    let source = this.#sources.get(ssrc);
    if (source === undefined) {
      if (this.#sources.size === MOST_SOURCES) this.#forgetOldest();
      const rtpHeardMs = Number.NEGATIVE_INFINITY;
      source = { rtp: new ReplayWindow(), rtcp: new ReplayWindow(), heardMs: nowMs, rtpHeardMs };
      this.#sources.set(ssrc, source);
    }
    source.heardMs = nowMs;
    return source;
  }

  #forgetOldest(): void {
    const byAge = [...this.#sources].sort(([, one], [, other]) => one.heardMs - other.heardMs);
    this.#sources.delete(byAge[0]?.[0] ?? -1);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
