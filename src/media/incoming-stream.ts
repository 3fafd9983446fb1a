import type { InsertResult } from '../playout/packet-buffer.js';
import type { RtpPacket } from '../rtp/rtp-packet.js';
import { RedReceiver } from './red-receiver.js';
import type { SessionQuality } from './session-quality.js';

/** How the far end's payload types read. */
export interface IncomingFormat {
  readonly payloadType: number;
  /** Of redundant audio (RFC 2198); null where none was agreed on. */
  readonly redPayloadType: number | null;
  readonly clockRateHz: number;
  /** How long a payload lasts; null for what is none. */
  readonly durationMs: (payload: Uint8Array) => number | null;
}

export interface IncomingStreamOptions {
  readonly quality: SessionQuality;
  insert(packet: RtpPacket, arrivalMs: number, isRedundant: boolean): InsertResult;
  noAudio(packet: RtpPacket): void;
  /** Playout should wait at least so long, since copies come so much later than what they are copies of; 0 for no such need. */
  waitFor(copiesMs: number): void;
  /** Of the stream's arrivals (RFC 3550, A.8). */
  jitterMs(): number;
  /** A packet is lost for good. */
  lost(): void;
  refused(fault: string): void;
}

const NOTHING = new Uint8Array(0);
/** Copies arrive as unevenly as all packets do: beyond their own delay, so many jitters, in steps, so that playout need not follow each. */
const JITTERS = 2;
const WAIT_STEP_MS = 10;
const MOST_MARGIN_MS = 80;

/** The far end's packets, valid and in the order of arrival: taken apart where they are redundant audio, noted, and played. */
export class IncomingStream {
  readonly #options: IncomingStreamOptions;
  readonly #red: RedReceiver;
  #format: IncomingFormat | null = null;
  #waitsMs = 0;

  constructor(options: IncomingStreamOptions) {
    this.#options = options;
    this.#red = new RedReceiver({
      ticksOf: (payload) => {
        const durationMs = this.#format?.durationMs(payload) ?? null;
        return durationMs === null ? null : (durationMs * (this.#format?.clockRateHz ?? 0)) / 1_000;
      },
      refused: options.refused,
    });
  }

  use(format: IncomingFormat): void {
    this.#format = format;
  }

  takes(payloadType: number): boolean {
    return (
      this.#format !== null && (payloadType === this.#format.payloadType || payloadType === this.#format.redPayloadType)
    );
  }

  packet(packet: RtpPacket, arrivalMs: number): void {
    const { quality, insert, refused, lost } = this.#options;
    const format = this.#format;
    if (format === null) return;
    const isRed = packet.payloadType === format.redPayloadType;
    const unpacked = isRed ? this.#red.unpack(packet, format.payloadType) : { primary: packet, copies: [] };
    if (!isRed) this.#red.plain();
    const payload = unpacked?.primary.payload ?? packet.payload;
    if (quality.arrived(packet, { payload, durationMs: format.durationMs(payload) }, arrivalMs)) lost();
    if (unpacked === null) return;
    if (insert(unpacked.primary, arrivalMs, false) === 'jump') refused('sequence-jump');
    for (const copy of unpacked.copies) {
      const result = insert(copy, arrivalMs, true);
      if (result === 'queued' || result === 'reordered') quality.recovered();
    }
    this.#wait(format.clockRateHz);
  }

  /** A packet of the same sequence that is no speech: it has come, and is not played. */
  other(packet: RtpPacket, arrivalMs: number): void {
    const { quality, lost, noAudio } = this.#options;
    if (quality.arrived(packet, { payload: NOTHING, durationMs: null }, arrivalMs)) lost();
    noAudio(packet);
  }

  #wait(clockRateHz: number): void {
    const copiesMs = (this.#red.copyDelayTicks * 1_000) / clockRateHz;
    const steps = 1 + Math.round((JITTERS * this.#options.jitterMs()) / WAIT_STEP_MS);
    const waitMs = copiesMs === 0 ? 0 : copiesMs + Math.min(MOST_MARGIN_MS, steps * WAIT_STEP_MS);
    if (waitMs === this.#waitsMs) return;
    this.#waitsMs = waitMs;
    this.#options.waitFor(waitMs);
  }
}
