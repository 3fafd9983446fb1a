import type { RtpPacket } from '../rtp/rtp-packet.js';
import { sequenceDistance, timestampDistance } from '../rtp/sequence.js';

/** Packets from the next to be played on that can be held: 2.5 s of 10 ms packets. A power of two. */
const CAPACITY = 256;
/** A packet further behind than this is no late one but of another sequence (RFC 3550, A.1: MAX_MISORDER). */
const MOST_BEHIND = 100;
/** So much further ahead can be an outage, where nothing is held (RFC 3550, A.1: MAX_DROPOUT). */
const MOST_DROPOUT = 3_000;
/** So many late packets without one in time: the sender went back a little. */
const MOST_LATE_IN_A_ROW = 25;
/** How far a packet that comes first may have overtaken others that are still to be played. */
const MOST_OVERTAKEN = 16;

/**
 * - `queued`: will be played in its turn
 * - `reordered`: the same, behind one that was sent after it
 * - `duplicate`, `late`: dropped: it is there already, or its time has passed
 * - `jump`: dropped: far from the sequence, alone so far
 * - `resynchronised`: the stream begins anew with it
 */
export type InsertResult = 'queued' | 'reordered' | 'duplicate' | 'late' | 'jump' | 'resynchronised';

/** A packet that waits, by its place in the buffer. */
export interface HeldPacket {
  readonly payload: Uint8Array;
  /** Extended, as counted by the buffer. */
  readonly sequence: number;
  /** The timestamp without its wrap, in ticks of the RTP clock. */
  readonly ticks: number;
  readonly arrivalMs: number;
}

interface Slot {
  sequence: number;
  ticks: number;
  arrivalMs: number;
  payload: Uint8Array;
  isHeld: boolean;
  /** The packet itself came, not just a redundant copy of it. From `next` on one that has come and is not held is no audio. */
  hasCome: boolean;
}

/**
 * Puts packets in order.
 *
 * ```
 *                  slots, by extended sequence modulo 256
 *                  ┌────┬────┬────┬────┬────┬─
 *  insert ────────▶│ 17 │ 18 │    │ 20 │    │     first(): 20, `missing` 1 before it
 *                  └────┴────┴────┴────┴────┴─
 *                   played     ▲next     ▲highest + 1
 * ```
 *
 * Another SSRC begins the stream anew at once (the caller has found it valid), another sequence with its second packet; an outage
 * longer than the slots with its first.
 */
export class PacketBuffer {
  readonly #slots: Slot[] = Array.from({ length: CAPACITY }, () => ({
    sequence: -1,
    ticks: 0,
    arrivalMs: 0,
    payload: NOTHING,
    isHeld: false,
    hasCome: false,
  }));
  #ssrc = -1;
  #next = 0;
  #highest = 0;
  #level = 0;
  #lateInARow = 0;
  #suspect = -1;
  #lastTimestamp = 0;
  #lastTicks = 0;
  late = 0;
  duplicate = 0;
  reordered = 0;
  resynchronised = 0;
  /** Packets that came in time and were left out. */
  skipped = 0;

  /** Packets in it. */
  get level(): number {
    return this.#level;
  }

  /** How many sequence numbers it reaches over, missing ones included. */
  get span(): number {
    return this.#highest - this.#next + 1;
  }

  /** The timestamp of the newest packet, without its wrap. */
  get newestTicks(): number {
    return this.#lastTicks;
  }

  /** `packet`'s timestamp without its wrap, by those that came before. */
  ticksOf(packet: RtpPacket): number {
    if (packet.ssrc !== this.#ssrc) return packet.timestamp;
    return this.#lastTicks + timestampDistance(this.#lastTimestamp, packet.timestamp);
  }

  insert(packet: RtpPacket, arrivalMs: number, isRedundant: boolean): InsertResult {
    if (packet.ssrc !== this.#ssrc) return isRedundant ? 'jump' : this.#resynchronise(packet, arrivalMs);
    const distance = sequenceDistance(this.#next & 0xffff, packet.sequence);
    if (distance >= CAPACITY || distance < -MOST_BEHIND) {
      if (isRedundant) return 'late';
      const isOutage = distance >= CAPACITY && distance < MOST_DROPOUT && this.#level === 0;
      if (isOutage || packet.sequence === this.#suspect) return this.#resynchronise(packet, arrivalMs);
      this.#suspect = (packet.sequence + 1) & 0xffff;
      return 'jump';
    }
    const sequence = this.#next + distance;
    const slot = this.#slot(sequence);
    const isKnown = slot.sequence === sequence;
    if (isKnown && (isRedundant || slot.hasCome)) {
      if (!isRedundant) this.duplicate += 1;
      return 'duplicate';
    }
    if (distance < 0) {
      if (isRedundant) return 'late';
      // A redundant copy of it was played.
      if (isKnown) {
        slot.hasCome = true;
        return 'duplicate';
      }
      this.late += 1;
      this.#lateInARow += 1;
      return this.#lateInARow > MOST_LATE_IN_A_ROW ? this.#resynchronise(packet, arrivalMs) : 'late';
    }
    if (!isRedundant) this.#lateInARow = 0;
    return this.#store(packet, sequence, arrivalMs, isRedundant);
  }

  /** `packet` has come, is no audio (RFC 4733, 2.1: events share the sequence), and so is not missing where it is. */
  noAudio(packet: RtpPacket): void {
    const distance = sequenceDistance(this.#next & 0xffff, packet.sequence);
    if (packet.ssrc !== this.#ssrc || distance < 0 || distance >= CAPACITY) return;
    const slot = this.#slot(this.#next + distance);
    if (slot.sequence === this.#next + distance) return;
    slot.sequence = this.#next + distance;
    slot.hasCome = true;
    while (this.#isNoAudio(this.#next)) this.#next += 1;
    this.#highest = Math.max(this.#highest, this.#next - 1);
  }

  /** The first packet that is there; null for none. Valid until the next call of any method. */
  first(): HeldPacket | null {
    if (this.#level === 0) return null;
    for (let sequence = this.#next; sequence <= this.#highest; sequence++) {
      const slot = this.#slot(sequence);
      if (slot.sequence === sequence && slot.isHeld) return slot;
    }
    return null;
  }

  /** Sequence numbers that are missing before `held`. */
  missingBefore(held: HeldPacket): number {
    let missing = 0;
    for (let at = this.#next; at < held.sequence; at++) if (!this.#isNoAudio(at)) missing += 1;
    return missing;
  }

  /** Begins with `held`: what is missing before it was never there. */
  beginWith(held: HeldPacket): void {
    this.#passTo(held.sequence);
    this.#next = held.sequence;
  }

  /** `held` is played; what is before it, is passed over. */
  played(held: HeldPacket): void {
    this.#passTo(held.sequence);
    this.#drop(this.#slot(held.sequence));
    this.#next = held.sequence + 1;
  }

  /** Leaves the first packet out. */
  skip(held: HeldPacket): void {
    this.played(held);
    this.skipped += 1;
  }

  #store(packet: RtpPacket, sequence: number, arrivalMs: number, isRedundant: boolean): InsertResult {
    const slot = this.#slot(sequence);
    const ticks = this.ticksOf(packet);
    const isReordered = sequence < this.#highest;
    if (!isReordered) {
      this.#highest = sequence;
      this.#lastTimestamp = packet.timestamp;
      this.#lastTicks = ticks;
    }
    slot.hasCome = !isRedundant;
    if (slot.sequence !== sequence || !slot.isHeld) this.#level += 1;
    slot.sequence = sequence;
    slot.ticks = ticks;
    slot.arrivalMs = arrivalMs;
    slot.payload = packet.payload;
    slot.isHeld = true;
    if (!isReordered || isRedundant) return 'queued';
    this.reordered += 1;
    return 'reordered';
  }

  /** Forgets all that was: the next packet is the first. */
  forget(): void {
    for (const slot of this.#slots) {
      this.#drop(slot);
      slot.sequence = -1;
    }
    this.#ssrc = -1;
  }

  /** Forgets all that was, and starts with this packet. */
  #resynchronise(packet: RtpPacket, arrivalMs: number): InsertResult {
    const isFirst = this.#ssrc === -1;
    this.forget();
    this.#ssrc = packet.ssrc;
    this.#lateInARow = 0;
    this.#suspect = -1;
    const sequence = packet.sequence + 0x1_0000;
    this.#next = sequence - MOST_OVERTAKEN;
    this.#highest = sequence;
    this.#lastTimestamp = packet.timestamp;
    this.#lastTicks = packet.timestamp;
    this.#store(packet, sequence, arrivalMs, false);
    if (isFirst) return 'queued';
    this.resynchronised += 1;
    return 'resynchronised';
  }

  #passTo(sequence: number): void {
    for (let at = this.#next; at < sequence; at++) {
      const slot = this.#slot(at);
      if (slot.sequence === at && slot.isHeld) {
        this.#drop(slot);
        this.skipped += 1;
      }
    }
  }

  /** @param sequence not behind `next` */
  #isNoAudio(sequence: number): boolean {
    const slot = this.#slot(sequence);
    return slot.sequence === sequence && !slot.isHeld;
  }

  #drop(slot: Slot): void {
    if (slot.isHeld) this.#level -= 1;
    slot.isHeld = false;
    slot.payload = NOTHING;
  }

  #slot(sequence: number): Slot {
    return this.#slots[sequence & (CAPACITY - 1)] as Slot;
  }
}

const NOTHING = new Uint8Array(0);
