import type { RtpPacket } from '../rtp/rtp-packet.js';
import { sequenceDistance, timestampDistance } from '../rtp/sequence.js';
import type { InsertResult, JitterBuffer, JitterBufferFigures, PlayoutDecision } from './jitter-buffer.js';
import { StandingDelay } from './standing-delay.js';

/** Packets from the next to be played on that can be held: 2.5 s of 20 ms packets. A power of two. */
const CAPACITY = 128;
/** A packet further behind than this is no late one but of another sequence (RFC 3550, A.1: MAX_MISORDER). */
const MOST_BEHIND = 100;
/** So many late packets without one in time: the sender went back a little, or the path became longer. */
const MOST_LATE_IN_A_ROW = 25;
/** How far a packet that comes first may have overtaken others that are still to be played. */
const MOST_OVERTAKEN = 16;
/** After so much concealment in a row, silence. */
const MOST_CONCEALED_MS = 120;
/** What a burst may add to the delay before it is cut at once. */
const MOST_EXCESS_MS = 100;
const INITIAL_PACKET_TIME_MS = 20;

const WAIT: PlayoutDecision = { kind: 'wait' };
const CONCEAL: PlayoutDecision = { kind: 'conceal' };

export interface FixedDelayOptions {
  /** From the arrival of the first packet to its playout. */
  readonly delayMs: number;
  readonly clockRateHz: number;
}

/**
 * A jitter buffer of one fixed delay: the first packet is played `delayMs` after its arrival, the others follow in sequence.
 *
 * ```
 *                  slots, by sequence modulo 128
 *                  ┌────┬────┬────┬────┬────┬─
 *  insert ────────▶│ 17 │ 18 │    │ 20 │    │     pull at 19: `fec` with 20's payload, since 20 is there
 *                  └────┴────┴────┴────┴────┴─    (`conceal` if only 21 were there)
 *                   played     ▲next
 * ```
 *
 * An empty buffer conceals and holds `next`, for it can't tell a lost packet from a late one. What comes then decides: the
 * concealed times stand for as many packets as are missing before it; what is left over was lateness, by which the delay
 * has grown. After 120 ms of it playout stops and begins anew, with `delayMs`, when packets come again.
 *
 * The delay can't grow without bound. A burst after a stall that leaves more than `delayMs` + 100 ms in the buffer is cut
 * to `delayMs` at once, oldest first. A smaller excess (a shorter burst, a sender whose clock is faster than the speaker's)
 * shows in the standing delay: when the shortest wait of a packet within 1 s is longer than `delayMs` by a packet time or
 * more, one packet time is skipped, preferably a lost packet's or that of a small packet (see `StandingDelay`).
 *
 * Another SSRC begins the stream anew at once (the caller has found it valid), another sequence with its second packet.
 */
export class FixedDelayJitterBuffer implements JitterBuffer {
  readonly #delayMs: number;
  readonly #clockRateHz: number;
  readonly #standing: StandingDelay;

  /** What each slot is about: an extended sequence number, and its packet, until it is played or passed over. */
  readonly #sequences = new Float64Array(CAPACITY).fill(-1);
  readonly #packets: (RtpPacket | null)[] = new Array<RtpPacket | null>(CAPACITY).fill(null);
  readonly #arrivalsMs = new Float64Array(CAPACITY);
  readonly #wasPlayed = new Uint8Array(CAPACITY);

  #ssrc = -1;
  #isPlaying = false;
  /** The next to be played, and the newest that came: extended sequence numbers, above 0. */
  #next = 0;
  #highest = 0;
  /** Of the first packet since playout stopped. */
  #startMs = Number.NaN;
  #heldTimes = 0;
  #lateInARow = 0;
  #suspect = -1;
  #packetTimeMs = INITIAL_PACKET_TIME_MS;
  #lastTimestamp = 0;

  #delayMeanMs = 0;
  #level = 0;
  #late = 0;
  #duplicate = 0;
  #reordered = 0;
  #skipped = 0;
  #resynchronised = 0;

  constructor(options: FixedDelayOptions) {
    this.#delayMs = options.delayMs;
    this.#clockRateHz = options.clockRateHz;
    this.#standing = new StandingDelay(options.delayMs);
  }

  get figures(): JitterBufferFigures {
    return {
      delayMs: this.#delayMeanMs,
      level: this.#level,
      late: this.#late,
      duplicate: this.#duplicate,
      reordered: this.#reordered,
      skipped: this.#skipped,
      resynchronised: this.#resynchronised,
    };
  }

  insert(packet: RtpPacket, arrivalMs: number): InsertResult {
    if (packet.ssrc !== this.#ssrc) return this.#resynchronise(packet, arrivalMs);

    const distance = sequenceDistance(this.#next & 0xffff, packet.sequence);
    if (distance >= CAPACITY || distance < -MOST_BEHIND) {
      if (packet.sequence === this.#suspect) return this.#resynchronise(packet, arrivalMs);
      this.#suspect = (packet.sequence + 1) & 0xffff;
      return 'jump';
    }
    const sequence = this.#next + distance;
    const slot = sequence & (CAPACITY - 1);
    if (this.#sequences[slot] === sequence && (this.#packets[slot] !== null || this.#wasPlayed[slot] === 1)) {
      this.#duplicate += 1;
      return 'duplicate';
    }
    if (distance < 0) {
      this.#late += 1;
      this.#lateInARow += 1;
      return this.#lateInARow > MOST_LATE_IN_A_ROW ? this.#resynchronise(packet, arrivalMs) : 'late';
    }
    this.#lateInARow = 0;
    return this.#store(packet, sequence, arrivalMs);
  }

  pull(nowMs: number): PlayoutDecision {
    if (!this.#isPlaying && !this.#mayStart(nowMs)) return WAIT;
    this.#cutBurst();
    if (this.#level === 0) return this.#holdOn();

    const mayShorten = this.#standing.mustSkip && this.#level > 1;
    if (mayShorten && this.#standing.mayLeaveOut(this.#payloadSize(this.#next), nowMs)) {
      this.#passOver();
      this.#standing.restart();
    }
    const packet = this.#packetAt(this.#next);
    if (packet !== null) return this.#play(packet, nowMs);

    const following = this.#packetAt(this.#next + 1);
    this.#passOver();
    return following === null ? CONCEAL : { kind: 'fec', nextPayload: following.payload };
  }

  #store(packet: RtpPacket, sequence: number, arrivalMs: number): InsertResult {
    const isReordered = sequence < this.#highest;
    if (isReordered) {
      this.#reordered += 1;
    } else {
      if (sequence === this.#highest + 1) this.#learnPacketTime(packet.timestamp);
      this.#highest = sequence;
      this.#lastTimestamp = packet.timestamp;
    }
    // Concealed times stand for the packets that are missing before this one.
    this.#next = Math.min(sequence, this.#next + this.#heldTimes);
    this.#heldTimes = 0;
    if (this.#level === 0 && !this.#isPlaying) {
      this.#startMs = arrivalMs;
      this.#next = Math.max(this.#next, sequence - MOST_OVERTAKEN);
    }

    const slot = sequence & (CAPACITY - 1);
    this.#sequences[slot] = sequence;
    this.#packets[slot] = packet;
    this.#arrivalsMs[slot] = arrivalMs;
    this.#wasPlayed[slot] = 0;
    this.#level += 1;
    return isReordered ? 'reordered' : 'queued';
  }

  /** Forgets all that was, and starts with this packet. */
  #resynchronise(packet: RtpPacket, arrivalMs: number): InsertResult {
    const isFirst = this.#ssrc === -1;
    this.#packets.fill(null);
    this.#sequences.fill(-1);
    this.#ssrc = packet.ssrc;
    this.#level = 0;
    this.#isPlaying = false;
    this.#heldTimes = 0;
    this.#lateInARow = 0;
    this.#suspect = -1;
    this.#standing.restart();
    const sequence = packet.sequence + 0x1_0000;
    this.#next = sequence - MOST_OVERTAKEN;
    this.#highest = sequence;
    this.#lastTimestamp = packet.timestamp;
    this.#store(packet, sequence, arrivalMs);
    if (isFirst) return 'queued';
    this.#resynchronised += 1;
    return 'resynchronised';
  }

  #mayStart(nowMs: number): boolean {
    if (this.#level === 0 || nowMs < this.#startMs + this.#delayMs) return false;
    while (this.#packetAt(this.#next) === null) this.#passOver();
    this.#isPlaying = true;
    this.#standing.restart();
    return true;
  }

  /** Nothing is there: conceals for a while, and stops then. */
  #holdOn(): PlayoutDecision {
    this.#heldTimes += 1;
    if (this.#heldTimes * this.#packetTimeMs <= MOST_CONCEALED_MS) return CONCEAL;
    this.#heldTimes = 0;
    this.#isPlaying = false;
    return WAIT;
  }

  #play(packet: RtpPacket, nowMs: number): PlayoutDecision {
    const slot = this.#next & (CAPACITY - 1);
    const waitedMs = nowMs - (this.#arrivalsMs[slot] ?? nowMs);
    this.#delayMeanMs += (waitedMs - this.#delayMeanMs) / (this.#delayMeanMs === 0 ? 1 : 16);
    this.#standing.played({ waitedMs, payloadBytes: packet.payload.length, packetTimeMs: this.#packetTimeMs, nowMs });
    this.#packets[slot] = null;
    this.#wasPlayed[slot] = 1;
    this.#level -= 1;
    this.#next += 1;
    return { kind: 'play', payload: packet.payload };
  }

  /** Goes on to the next packet time without playing this one. */
  #passOver(): void {
    const slot = this.#next & (CAPACITY - 1);
    if (this.#packetAt(this.#next) !== null) {
      this.#packets[slot] = null;
      this.#wasPlayed[slot] = 1;
      this.#level -= 1;
      this.#skipped += 1;
    }
    this.#next += 1;
  }

  #cutBurst(): void {
    const span = this.#highest - this.#next + 1;
    if (span * this.#packetTimeMs <= this.#delayMs + MOST_EXCESS_MS) return;
    const keep = Math.max(1, Math.ceil(this.#delayMs / this.#packetTimeMs));
    while (this.#highest - this.#next + 1 > keep) this.#passOver();
    this.#standing.restart();
  }

  #learnPacketTime(timestamp: number): void {
    const timeMs = (timestampDistance(this.#lastTimestamp, timestamp) * 1000) / this.#clockRateHz;
    if (timeMs >= 2.5 && timeMs <= 120) this.#packetTimeMs = timeMs;
  }

  #packetAt(sequence: number): RtpPacket | null {
    const slot = sequence & (CAPACITY - 1);
    return this.#sequences[slot] === sequence ? (this.#packets[slot] ?? null) : null;
  }

  #payloadSize(sequence: number): number {
    return this.#packetAt(sequence)?.payload.length ?? 0;
  }
}
