/** One report of a telephone event (RFC 4733, 2.3): 4 bytes of payload. */
export interface TelephoneEvent {
  /** 0 … 255; 0 … 15 are the digits of `digitOf` (3.2). */
  readonly event: number;
  /** The event is over, and this is its whole duration. */
  readonly isEnd: boolean;
  /** Power of the tone, dB below 1 mW: 0 … 63. */
  readonly volume: number;
  /** 0 … 65,535 ticks of the RTP clock, from the packet's timestamp on. */
  readonly duration: number;
}

const EVENT_BYTES = 4;
const MOST_IN_PACKET = 8;
export const MOST_EVENT_DURATION = 0xffff;
const DIGITS = '0123456789*#ABCD';

/** @returns undefined for an event that is no digit */
export function digitOf(event: number): string | undefined {
  return DIGITS[event];
}

/** @param digit one of `0123456789*#ABCD` @returns undefined for anything else */
export function eventOf(digit: string): number | undefined {
  const event = digit.length === 1 ? DIGITS.indexOf(digit) : -1;
  return event < 0 ? undefined : event;
}

/**
 * What a packet reports: one event, or several that followed each other (2.5.1.5), each as long as its duration.
 * @returns null for a payload that is empty, no whole number of events, or of more than 8
 */
export function parseTelephoneEvents(payload: Uint8Array): readonly TelephoneEvent[] | null {
  const count = payload.length / EVENT_BYTES;
  if (!Number.isInteger(count) || count === 0 || count > MOST_IN_PACKET) return null;
  return Array.from({ length: count }, (_, index) => {
    const [event = 0, flags = 0, high = 0, low = 0] = payload.subarray(index * EVENT_BYTES);
    // The bit between is reserved, and ignored (2.3.3).
    return { event, isEnd: (flags & 0x80) !== 0, volume: flags & 0x3f, duration: (high << 8) | low };
  });
}

export function writeTelephoneEvent({ event, isEnd, volume, duration }: TelephoneEvent): Buffer {
  return Buffer.of(event, (isEnd ? 0x80 : 0) | volume, duration >> 8, duration & 0xff);
}
