import type { Clock, Timer } from '../core/clock.js';
import { RateLimit } from '../core/rate-limit.js';
import type { RtpPacket } from '../rtp/rtp-packet.js';
import { digitOf, MOST_EVENT_DURATION, parseTelephoneEvents, type TelephoneEvent } from '../rtp/telephone-event.js';

/** An event of which nothing more came for so long is over, though its final packets were lost. */
const LOST_END_MS = 250;
/** A key that is held longer counts as held so long. */
const MOST_DURATION_MS = 10_000;
/** A person presses a few in a second, and a program not more than 20 (ITU-T Q.24: 40 ms on, 40 ms off at least). */
const MOST_PER_SECOND = 20;
/**
 * What is further behind is nothing that was overtaken: the far end's timestamps began anew, as with another source, or so long
 * passed since the last digit (12 hours at 48 kHz) that the next one seems to be behind it.
 */
const MOST_BEHIND_MS = 10_000;

export type EventFault = 'event-malformed' | 'event-not-a-digit' | 'event-flood';

export interface EventReceiverOptions {
  readonly clock: Clock;
  /** Of the events' payload type. */
  readonly clockRateHz: () => number;
  /** A digit is over: one of `0123456789*#ABCD`. */
  digit(digit: string, durationMs: number): void;
  refused(fault: EventFault): void;
}

interface Running {
  readonly event: number;
  /** Of the packets that tell of it; later ones are of a later segment. */
  readonly timestamp: number;
  /** Of earlier segments of the same event (RFC 4733, 2.5.1.3), ticks. */
  readonly earlier: number;
  readonly duration: number;
  readonly isOver: boolean;
}

/**
 * Digits from telephone events (RFC 4733, 2.5.2): each is told once, when it is over, be it by its final packet, by the next
 * event, or since nothing more comes of it. What tells of it again, or of an earlier one, changes nothing.
 */
export class EventReceiver {
  readonly #options: EventReceiverOptions;
  readonly #limit: RateLimit;
  #running: Running | null = null;
  #timer: Timer | null = null;

  constructor(options: EventReceiverOptions) {
    this.#options = options;
    this.#limit = new RateLimit({ most: MOST_PER_SECOND, perMs: 1_000, clock: options.clock });
  }

  packet(packet: Pick<RtpPacket, 'timestamp' | 'payload'>): void {
    const events = parseTelephoneEvents(packet.payload);
    if (events === null) {
      this.#options.refused('event-malformed');
      return;
    }
    let { timestamp } = packet;
    for (const [index, event] of events.entries()) {
      this.#event({ ...event, isEnd: event.isEnd || index < events.length - 1 }, timestamp);
      timestamp = (timestamp + event.duration) >>> 0;
    }
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  #event(told: TelephoneEvent, timestamp: number): void {
    if (digitOf(told.event) === undefined) {
      this.#options.refused('event-not-a-digit');
      return;
    }
    const running = this.#running;
    const ahead = running === null ? 1 : (timestamp - running.timestamp) | 0;
    if (ahead < 0 && -ahead * 1_000 <= MOST_BEHIND_MS * this.#options.clockRateHz()) return;
    if (running !== null && ahead === 0) {
      // Another event at the same moment is no event of an honest sender.
      if (running.isOver || told.event !== running.event) return;
      this.#follow({ ...running, duration: Math.max(running.duration, told.duration) }, told.isEnd);
      return;
    }
    const goesOn = running !== null && !running.isOver && told.event === running.event && ahead === running.duration;
    if (goesOn && running.duration === MOST_EVENT_DURATION) {
      const earlier = running.earlier + running.duration;
      this.#follow({ ...running, timestamp, earlier, duration: told.duration }, told.isEnd);
      return;
    }
    if (running !== null && !running.isOver) this.#over(running);
    if (this.#limit.admit() === undefined) {
      this.#options.refused('event-flood');
      this.#running = { event: told.event, timestamp, earlier: 0, duration: 0, isOver: true };
      return;
    }
    this.#follow({ event: told.event, timestamp, earlier: 0, duration: told.duration, isOver: false }, told.isEnd);
  }

  #follow(running: Running, isEnd: boolean): void {
    this.#timer?.cancel();
    this.#running = running;
    if (isEnd) this.#over(running);
    else this.#timer = this.#options.clock.after(LOST_END_MS, () => this.#over(running));
  }

  #over(running: Running): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#running = { ...running, isOver: true };
    const durationMs = ((running.earlier + running.duration) * 1000) / this.#options.clockRateHz();
    this.#options.digit(digitOf(running.event) ?? '', Math.min(MOST_DURATION_MS, Math.round(durationMs)));
  }
}
