import type { Clock } from '../core/clock.js';
import { AppError } from '../core/errors.js';
import type { AudioCodec } from '../protocol/engine-api.js';
import type { RtpPacket } from '../rtp/rtp-packet.js';
import { eventOf, parseTelephoneEvents } from '../rtp/telephone-event.js';
import { type EventFault, EventReceiver } from './event-receiver.js';
import { EventSender } from './event-sender.js';
import type { SendPipeline } from './send-pipeline.js';
import { clockRateHzOf } from './session-codecs.js';

export interface SessionEventsOptions {
  readonly clock: Clock;
  readonly sender: SendPipeline;
  /** What offer and answer say of telephone events; null before they do. */
  agreed(): {
    readonly codec: AudioCodec;
    readonly telephoneEvent: { readonly send: number; readonly receive: number } | null;
  } | null;
  digit(digit: string, durationMs: number): void;
  refused(fault: EventFault): void;
}

/** A session's telephone events (RFC 4733), in and out, in one sequence with its audio. */
export class SessionEvents {
  readonly #options: SessionEventsOptions;
  readonly #sender: EventSender;
  readonly #receiver: EventReceiver;

  constructor(options: SessionEventsOptions) {
    const { clock, sender, agreed, digit, refused } = options;
    this.#options = options;
    this.#sender = new EventSender({
      clock,
      begin: () => sender.interrupt(clock.nowMs()),
      send: ({ timestamp, duration, ...packet }) =>
        sender.sendOther({ ...packet, timestamp }, (timestamp + duration) >>> 0),
      end: () => sender.resume(),
    });
    this.#receiver = new EventReceiver({
      clock,
      clockRateHz: () => clockRateHzOf(agreed()?.codec ?? 'opus'),
      digit,
      refused,
    });
  }

  /** @throws AppError `events-not-agreed`, `events-full`, `digits-invalid` */
  send(digits: string, durationMs: number): void {
    const agreed = this.#options.agreed();
    if (agreed === null || agreed.telephoneEvent === null) {
      throw new AppError('events-not-agreed', 'The far end takes no telephone events', {
        remedy: 'It names none in its SDP (RFC 4733)',
      });
    }
    if ([...digits].some((digit) => eventOf(digit) === undefined)) {
      throw new AppError('digits-invalid', 'Only 0 to 9, *, # and A to D can be sent');
    }
    const format = { payloadType: agreed.telephoneEvent.send, clockRateHz: clockRateHzOf(agreed.codec) };
    if (!this.#sender.send(digits, durationMs, format)) {
      throw new AppError('events-full', 'Too many digits wait to be sent', { remedy: 'Try again in a few seconds' });
    }
  }

  takesType(payloadType: number): boolean {
    return this.#options.agreed()?.telephoneEvent?.receive === payloadType;
  }

  /** @returns whether the packet was one of events, and so is no audio */
  takes(packet: RtpPacket): boolean {
    if (!this.takesType(packet.payloadType)) return false;
    const { timestamp } = packet;
    this.#receiver.packet({ payload: packet.payload, timestamp: (timestamp - lengthOf(packet)) >>> 0 });
    return true;
  }

  /**
   * The packet, with the timestamp at which it was sent: those of one event all bear that of its begin, which would look like
   * growing delay in the statistics of the source (RFC 3550, 6.4.1).
   */
  placed(packet: RtpPacket): RtpPacket {
    if (!this.takesType(packet.payloadType)) return packet;
    return { ...packet, timestamp: (packet.timestamp + lengthOf(packet)) >>> 0 };
  }

  close(): void {
    this.#sender.close();
    this.#receiver.close();
  }
}

/** Ticks from a packet's timestamp to the end of what it tells of; 0 for one that can't be read. */
function lengthOf({ payload }: RtpPacket): number {
  return (parseTelephoneEvents(payload) ?? []).reduce((sum, { duration }) => sum + duration, 0);
}
