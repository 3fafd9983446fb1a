import { ReceptionStatistics } from './reception.js';
import type { RtpPacket } from './rtp-packet.js';

/** Why a packet that parsed well is not played. */
export type SourceFault = 'sequence-jump' | 'source-not-valid';

export interface RemoteSourceListener {
  /** In the order of arrival; a packet that was held for its source's probation comes with its own arrival. */
  deliver(packet: RtpPacket, arrivalMs: number): void;
  refused(fault: SourceFault): void;
}

interface Held {
  /** What it counts as if it is not confirmed. */
  readonly fault: SourceFault;
  readonly packet: RtpPacket;
  readonly arrivalMs: number;
}

/**
 * Which of the sources that are heard is the one to play: the first that proves valid (RFC 3550, A.1), until another sends
 * two packets in sequence with none of the present one's between them, as after a restart of the peer with a fresh SSRC.
 * One packet is held while its source, or its new sequence, waits to be confirmed, so that nothing of a start is lost.
 */
export class RemoteSource {
  #clockRateHz: number;
  readonly #listener: RemoteSourceListener;
  #current: ReceptionStatistics | null = null;
  #candidate: ReceptionStatistics | null = null;
  #held: Held | null = null;
  #earlierReceived = 0;
  #earlierLost = 0;

  constructor(clockRateHz: number, listener: RemoteSourceListener) {
    this.#clockRateHz = clockRateHz;
    this.#listener = listener;
  }

  /** Of the codec that comes from now on. */
  useClock(clockRateHz: number): void {
    this.#clockRateHz = clockRateHz;
    this.#candidate = null;
    this.#current?.useClock(clockRateHz);
  }

  /** The source that is played; null until one is valid. */
  get statistics(): ReceptionStatistics | null {
    return this.#current;
  }

  /** Of all sources that were played. */
  get received(): number {
    return this.#earlierReceived + (this.#current?.received ?? 0);
  }

  get lost(): number {
    return this.#earlierLost + (this.#current?.lost ?? 0);
  }

  packet(packet: RtpPacket, arrivalMs: number): void {
    const isCurrent = this.#current?.ssrc === packet.ssrc;
    if (isCurrent) this.#candidate = null;
    const statistics = isCurrent ? this.#current : this.#candidateOf(packet.ssrc);
    switch (statistics?.packet(packet.sequence, packet.timestamp, arrivalMs)) {
      case 'probation':
      case 'jump':
        this.#dropHeld();
        this.#held = { packet, arrivalMs, fault: isCurrent ? 'sequence-jump' : 'source-not-valid' };
        break;
      case 'restarted':
        this.#release(packet);
        this.#listener.deliver(packet, arrivalMs);
        break;
      case 'valid':
        if (!isCurrent) {
          this.#takeOver();
          this.#release(packet);
        }
        this.#dropHeld();
        this.#listener.deliver(packet, arrivalMs);
        break;
    }
  }

  #candidateOf(ssrc: number): ReceptionStatistics {
    if (this.#candidate?.ssrc !== ssrc) {
      this.#candidate = new ReceptionStatistics({ ssrc, clockRateHz: this.#clockRateHz });
    }
    return this.#candidate;
  }

  #takeOver(): void {
    this.#earlierReceived += this.#current?.received ?? 0;
    this.#earlierLost += this.#current?.lost ?? 0;
    this.#current = this.#candidate;
    this.#candidate = null;
  }

  #dropHeld(): void {
    if (this.#held !== null) this.#listener.refused(this.#held.fault);
    this.#held = null;
  }

  /** Hands on the packet that was held for `packet`'s confirmation. */
  #release(packet: RtpPacket): void {
    const held = this.#held;
    this.#held = null;
    if (held !== null && held.packet.ssrc === packet.ssrc) this.#listener.deliver(held.packet, held.arrivalMs);
  }
}
