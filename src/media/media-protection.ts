import type { SrtpKey } from '../protocol/engine-api.js';
import { SrtpReceiver } from '../rtp/srtp-receiver.js';
import { SrtpSender } from '../rtp/srtp-sender.js';

/** The keys of both directions: each end sends with its own. Null is plain RTP. */
export type SrtpKeys = { readonly send: SrtpKey; readonly receive: SrtpKey } | null;

/**
 * What stands between a session and its path: SRTP where keys were agreed on, else nothing. The sender's indices go on through
 * every change of keys and of the path; the receiver's windows for as long as the far end keeps its key.
 */
export class MediaProtection {
  readonly #sender: SrtpSender;
  readonly #refused: (fault: string) => void;
  #receiver: SrtpReceiver | null = null;
  #receiveKey: SrtpKey | null = null;

  constructor(options: { readonly ssrc: number; readonly refused: (fault: string) => void }) {
    this.#sender = new SrtpSender(options.ssrc);
    this.#refused = options.refused;
  }

  /** What the far end protects its packets with; null for plain RTP. */
  get suite(): SrtpKey['suite'] | null {
    return this.#receiveKey?.suite ?? null;
  }

  /** @throws AppError `srtp-key-invalid`; nothing has changed then */
  use(keys: SrtpKeys): void {
    const before = this.#receiveKey;
    const receive = keys?.receive ?? null;
    const isSame = receive?.suite === before?.suite && receive?.keyAndSalt === before?.keyAndSalt;
    const receiver = isSame ? this.#receiver : receive === null ? null : new SrtpReceiver(receive);
    this.#sender.use(keys?.send ?? null);
    this.#receiver = receiver;
    this.#receiveKey = receive;
  }

  /** What may leave, or null. */
  outgoing(kind: 'rtp' | 'rtcp', datagram: Uint8Array): Uint8Array | null {
    const sent = this.#sender[kind](datagram);
    if (sent === null) this.#refused('srtp-not-sent');
    return sent;
  }

  /** The packet that came, or null where it is not the far end's, or came before. */
  incoming(kind: 'rtp' | 'rtcp', datagram: Uint8Array, arrivalMs: number): Uint8Array | null {
    if (this.#receiver === null) return datagram;
    const opened = this.#receiver[kind](datagram, arrivalMs);
    if (opened.ok) return opened.packet;
    this.#refused(opened.fault);
    return null;
  }

  /** As `incoming` for RTP, which can come again then; nothing is counted. */
  peek(datagram: Uint8Array, nowMs: number): Uint8Array | null {
    if (this.#receiver === null) return datagram;
    const opened = this.#receiver.peekRtp(datagram, nowMs);
    return opened.ok ? opened.packet : null;
  }
}
