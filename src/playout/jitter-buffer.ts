import type { RtpPacket } from '../rtp/rtp-packet.js';

/**
 * - `queued`: will be played in its turn
 * - `reordered`: the same, behind one that was sent after it
 * - `duplicate`, `late`: dropped: it is there already, or its time has passed
 * - `jump`: dropped: far from the sequence, alone so far
 * - `resynchronised`: the stream begins anew with it
 */
export type InsertResult = 'queued' | 'reordered' | 'duplicate' | 'late' | 'jump' | 'resynchronised';

/** What to do for the coming packet time. */
export type PlayoutDecision =
  | { readonly kind: 'play'; readonly payload: Uint8Array }
  /** The packet of this time is lost; the one that follows it is there, and may carry FEC of it. It is played next. */
  | { readonly kind: 'fec'; readonly nextPayload: Uint8Array }
  | { readonly kind: 'conceal' }
  /** Nothing to play: before the start, or in a long silence. Ask again 10 ms later. */
  | { readonly kind: 'wait' };

export interface JitterBufferFigures {
  /** How long the packets that were played lately had waited, in ms; a running mean. */
  readonly delayMs: number;
  /** Packets in it. */
  readonly level: number;
  readonly late: number;
  readonly duplicate: number;
  readonly reordered: number;
  /** Packets that came in time and were left out, so that the delay went down. */
  readonly skipped: number;
  readonly resynchronised: number;
}

/** Puts packets in order and says when each is played. Pure: time comes in by arguments, on one monotonic clock. */
export interface JitterBuffer {
  /** Keeps a view of the payload, not a copy. */
  insert(packet: RtpPacket, arrivalMs: number): InsertResult;
  /** Once for each packet time, at the speaker's pace. */
  pull(nowMs: number): PlayoutDecision;
  readonly figures: JitterBufferFigures;
}
