import type { Clock, Timer } from '../core/clock.js';
import { eventOf, MOST_EVENT_DURATION, writeTelephoneEvent } from '../rtp/telephone-event.js';

/** How often a packet tells of the event; audio that is sent has the same pace. */
const UPDATE_EVERY_MS = 20;
/** RFC 4733, 2.5.1.4. */
const FINAL_PACKETS = 3;
/** Between two digits; with the repetitions of the final packet it is longer than the 40 ms of ITU-T Q.24. */
const PAUSE_MS = 40;
const MOST_WAITING = 64;
/** dB below 1 mW, as telephones have it. */
const VOLUME = 10;

export interface EventSenderOptions {
  readonly clock: Clock;
  /** From now on events are sent, and audio is not, until `end`. @returns the timestamp of this moment */
  begin(): number;
  /** `timestamp` is the event's, as is each packet's of it; `duration` says how far it has come, in ticks. */
  send(packet: { payloadType: number; marker: boolean; timestamp: number; duration: number; payload: Buffer }): void;
  end(): void;
}

export interface EventFormat {
  readonly payloadType: number;
  readonly clockRateHz: number;
}

interface Waiting {
  readonly event: number;
  readonly durationMs: number;
  readonly format: EventFormat;
}

/**
 * Sends digits as telephone events, one after the other (RFC 4733, 2.5.1): a packet at once and every 20 ms, all with the
 * timestamp of the digit's begin, a marker on the first, its duration growing; the final one three times. So a digit
 * gets through when any of its packets does. Audio and events share sequence and timestamps (2.1), and events take the
 * place of audio, so that no receiver plays a digit twice.
 */
export class EventSender {
  readonly #options: EventSenderOptions;
  readonly #waiting: Waiting[] = [];
  #timer: Timer | null = null;

  constructor(options: EventSenderOptions) {
    this.#options = options;
  }

  /**
   * @param durationMs of each; cut to what 16 bits of the clock hold (1.36 s at 48 kHz, 2.5.1.3)
   * @returns false where a character is no digit, or too many wait
   */
  send(digits: string, durationMs: number, format: EventFormat): boolean {
    const events = [...digits].map(eventOf).filter((event) => event !== undefined);
    if (events.length !== digits.length || this.#waiting.length + events.length > MOST_WAITING) return false;
    const mostMs = Math.floor((MOST_EVENT_DURATION * 1000) / format.clockRateHz);
    for (const event of events) this.#waiting.push({ event, durationMs: Math.min(durationMs, mostMs), format });
    if (this.#timer === null) this.#next();
    return true;
  }

  /** What waits is not sent. */
  close(): void {
    if (this.#timer !== null) this.#options.end();
    this.#timer?.cancel();
    this.#timer = null;
    this.#waiting.length = 0;
  }

  #next(): void {
    const digit = this.#waiting.shift();
    if (digit === undefined) {
      this.#timer = null;
      return;
    }
    this.#tell(digit, this.#options.begin(), 0);
  }

  /** @param told packets of this digit that were sent */
  #tell(digit: Waiting, timestamp: number, told: number): void {
    const { clock, send, end } = this.#options;
    const { event, durationMs, format } = digit;
    const updates = Math.max(1, Math.ceil(durationMs / UPDATE_EVERY_MS));
    if (told === updates + FINAL_PACKETS) {
      end();
      this.#timer = clock.after(PAUSE_MS, () => this.#next());
      return;
    }
    const isEnd = told >= updates;
    const soFarMs = isEnd ? durationMs : Math.min(durationMs, (told + 1) * UPDATE_EVERY_MS);
    const duration = Math.round((soFarMs * format.clockRateHz) / 1000);
    const payload = writeTelephoneEvent({ event, isEnd, volume: VOLUME, duration });
    send({ payloadType: format.payloadType, marker: told === 0, timestamp, duration, payload });
    this.#timer = clock.after(UPDATE_EVERY_MS, () => this.#tell(digit, timestamp, told + 1));
  }
}
