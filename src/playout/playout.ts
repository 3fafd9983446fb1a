import { FRAME_MS, frameSamples, type RateHz } from '../audio/frame.js';
import type { AudioDecoder } from '../codec/codec.js';
import type { RtpPacket } from '../rtp/rtp-packet.js';
import { Concealment } from './concealment.js';
import { DelayEstimator } from './delay-estimator.js';
import { FecWait } from './fec-wait.js';
import { Pace } from './pace.js';
import { type HeldPacket, type InsertResult, PacketBuffer } from './packet-buffer.js';
import { PlayoutCounts, type PlayoutFigures } from './playout-figures.js';
import { SyncBuffer } from './sync-buffer.js';
import { TimeStretch } from './time-stretch.js';

const INITIAL_PACKET_TIME_MS = 20;
/** A gap in the timestamps that is shorter is none: Opus' shortest frame. */
const LEAST_GAP_MS = 2.5;
/** The longest packet time. A gap that is longer for each packet missing is the far end's pause, not loss. */
const MOST_PACKET_TIME_MS = 120;
/** What a stall may leave to catch up with; older packets are left out. */
const MOST_BACKLOG_MS = 1_000;
/** After so long without anything to play nothing is played, instead of noise. */
const IDLE_AFTER_MS = 5_000;
/**
 * Of the target delay: with less than that left to play, and the next packet later than packets often are, what is left is played
 * slower rather than to run out. On traces with stalls, jitter and bursts it saved a fifth of the concealment that was not loss, at
 * the same mean delay; jitter alone, however large, does not set it off.
 */
const SHORT = 0.85;
/** For a cut the search would like so much ahead. */
const DECODE_AHEAD_MS = 25;

/** How payloads read. */
export interface PlayoutCodec {
  /** Of the RTP timestamps: 48,000 for Opus at any rate (RFC 7587, 4.1). */
  readonly clockRateHz: number;
  /** Gives samples at the playout's rate. */
  readonly decoder: AudioDecoder;
  /** Whether a payload says something of the packet before it; without it none does. */
  carriesFec?(payload: Uint8Array): boolean;
}

/** The decoder is freed by `free`. */
export interface PlayoutOptions extends PlayoutCodec {
  readonly rateHz: RateHz;
  /** Bounds of the target delay, ms; 0 and 300 unless told. */
  readonly leastMs?: number;
  readonly mostMs?: number;
  /** The first packet was decoded. */
  heard?(): void;
  /** A payload that the decoder refused was concealed. */
  decoderFailed?(error: unknown): void;
}

/**
 * From packets as they arrive to 10 ms frames at the speaker's pace.
 *
 * ```
 *   insert ─┬─▶ PacketBuffer ───▶ first ─┬─ follows ──────▶ decode ──────┐
 *           │                            ├─ after a loss ─▶ FEC, conceal ├──▶ SyncBuffer ──▶ pull(): 10 ms
 *           │                    nothing ┴────────────────▶ conceal,     ┘        ▲
 *           │                                              noise                  │ cut, repeat
 *           └─▶ DelayEstimator ── target ──▶ Pace ── accelerate, slow down ──▶ TimeStretch
 * ```
 *
 * An empty buffer conceals, for it can't tell a lost packet from a late one. What comes then decides: the concealed time stands
 * for what is missing before it by its timestamp; what is left over was lateness, by which the delay has grown, and which `Pace`
 * takes back. A gap in the timestamps without one in the sequence was a pause of the far end: then the packet is played when the
 * target delay says so. Pure: time comes in by arguments, on one monotonic clock.
 */
export class Playout {
  readonly #options: PlayoutOptions;
  #codec: PlayoutCodec;
  #ticksPerMs: number;
  readonly #samplesPerMs: number;
  readonly #frame: Int16Array;
  readonly #buffer = new PacketBuffer();
  readonly #delays = new DelayEstimator();
  readonly #pace = new Pace();
  readonly #sync: SyncBuffer;
  readonly #stretch: TimeStretch;
  readonly #concealment: Concealment;
  readonly #fecWait = new FecWait();
  readonly #counts: PlayoutCounts;

  #leastDelayMs = 0;
  #ssrc = -1;
  #isPlaying = false;
  #hasHeard = false;
  /** The timestamp that follows what is decoded. */
  #endTicks = Number.NaN;
  #packetSamples: number;
  /** Samples put in since the last packet, and whether the decoder made them in one go up to the next one. */
  #filled = 0;
  #mustMerge = false;

  constructor(options: PlayoutOptions) {
    const { rateHz } = options;
    this.#options = options;
    this.#codec = options;
    this.#ticksPerMs = options.clockRateHz / 1000;
    this.#samplesPerMs = rateHz / 1000;
    this.#counts = new PlayoutCounts(this.#samplesPerMs);
    this.#frame = new Int16Array(frameSamples(rateHz));
    this.#sync = new SyncBuffer(rateHz);
    this.#stretch = new TimeStretch(rateHz);
    this.#concealment = new Concealment({ rateHz, decoder: options.decoder });
    this.#packetSamples = INITIAL_PACKET_TIME_MS * this.#samplesPerMs;
  }

  /**
   * What is inserted from now on is of another codec: what is held is left out, and concealed until its first packet is played.
   * Whoever gave the decoder that was used before frees it.
   */
  use(codec: PlayoutCodec): void {
    this.#codec = codec;
    this.#ticksPerMs = codec.clockRateHz / 1000;
    this.#buffer.forget();
    this.#beginAnew();
  }

  /** What makes lost packets good comes so much later than they, ms: the target delay leaves it time. */
  get leastDelayMs(): number {
    return this.#leastDelayMs;
  }

  set leastDelayMs(delayMs: number) {
    this.#leastDelayMs = Math.max(0, delayMs);
  }

  get figures(): PlayoutFigures {
    return this.#counts.figures(this.#buffer, this.#targetMs());
  }

  /**
   * Keeps a view of the payload, not a copy.
   * @param isRedundant a copy of a packet that came, or should have come, by itself (RFC 2198): it fills a hole, and tells nothing
   *   of the path
   */
  insert(packet: RtpPacket, arrivalMs: number, { isRedundant = false } = {}): InsertResult {
    const ticks = this.#buffer.ticksOf(packet);
    const result = this.#buffer.insert(packet, arrivalMs, isRedundant);
    if (isRedundant || result === 'duplicate' || result === 'jump') return result;
    if (result === 'resynchronised') {
      // Another source was silent for reasons of its own; within one, what was put in stands for what was lost.
      if (packet.ssrc === this.#ssrc) this.#counts.concealed(this.#filled, this.#packetSamples);
      this.#beginAnew();
    }
    this.#ssrc = packet.ssrc;
    this.#delays.packet((result === 'resynchronised' ? packet.timestamp : ticks) / this.#ticksPerMs, arrivalMs);
    return result;
  }

  /** A packet of the same sequence that is not to be played: the time that it takes is a pause. */
  noAudio(packet: RtpPacket): void {
    this.#buffer.noAudio(packet);
  }

  /** 10 ms, valid until the next call; null where there has been nothing to play for long. Once every 10 ms, at the speaker's pace. */
  pull(nowMs: number): Int16Array | null {
    if (!this.#isPlaying && !this.#mayBegin(nowMs)) return null;
    this.#fill(nowMs);
    if (this.#filled === 0) {
      this.#keepPace(nowMs);
      this.#fill(nowMs);
    } else if (this.#filled > IDLE_AFTER_MS * this.#samplesPerMs) {
      this.#isPlaying = false;
    }
    this.#sync.read(this.#frame);
    return this.#frame;
  }

  free(): void {
    this.#codec.decoder.free();
  }

  #beginAnew(): void {
    this.#filled = 0;
    this.#delays.restart();
    this.#pace.restart();
    this.#endTicks = Number.NaN;
  }

  #targetMs(): number {
    const { leastMs = 0, mostMs = 300 } = this.#options;
    const waitMs = this.#redundancyMs();
    const redundancyMs = waitMs === 0 ? 0 : waitMs + this.#delays.usualMs;
    return Math.min(mostMs, Math.max(leastMs, redundancyMs, this.#delays.targetMs));
  }

  /** How much later than a packet comes what makes it good; 0 where nothing does. */
  #redundancyMs(): number {
    const fecMs = this.#fecWait.isWorth ? this.#packetSamples / this.#samplesPerMs : 0;
    return Math.max(this.#leastDelayMs, fecMs);
  }

  /** The transit at which packets should be needed. */
  #wantedMs(): number {
    return this.#delays.baseMs + this.#targetMs();
  }

  #mediaMs(ticks: number): number {
    return ticks / this.#ticksPerMs;
  }

  #mayBegin(nowMs: number): boolean {
    const held = this.#buffer.first();
    if (held === null || this.#dueInMs(held, nowMs) > 0) return false;
    this.#isPlaying = true;
    return true;
  }

  /** How long a packet that begins anew has to wait. */
  #dueInMs(held: HeldPacket, nowMs: number): number {
    return this.#wantedMs() - (nowMs - this.#mediaMs(held.ticks));
  }

  /** Decodes or makes up until a frame is there. */
  #fill(nowMs: number): void {
    while (this.#sync.ahead < this.#frame.length) {
      this.#dropBacklog(nowMs);
      const held = this.#buffer.first();
      if (held === null) this.#conceal(FRAME_MS * this.#samplesPerMs);
      else this.#goOnWith(held, nowMs);
    }
  }

  #goOnWith(held: HeldPacket, nowMs: number): void {
    const missing = this.#buffer.missingBefore(held);
    const gapMs = this.#mediaMs(held.ticks - this.#endTicks);
    if (gapMs < LEAST_GAP_MS) {
      this.#settle(held, missing > 0 || this.#filled > 0);
      this.#play(held, nowMs);
      return;
    }
    const isLoss = missing > 0 && gapMs <= missing * MOST_PACKET_TIME_MS;
    const filledMs = this.#filled / this.#samplesPerMs;
    // A stream that begins has no gap before it; like one that pauses it waits for the target delay.
    // Concealment ends with a frame: the packet is needed at the same pull, and its delay is less by what was left of the last one.
    const leftMs = isLoss
      ? gapMs - filledMs - this.#pace.excessMs(this.#wantedMs()) - this.#sync.ahead / this.#samplesPerMs
      : Math.min(this.#dueInMs(held, nowMs), MOST_BACKLOG_MS);
    if (leftMs < LEAST_GAP_MS) {
      if (Number.isNaN(gapMs)) this.#buffer.beginWith(held);
      if (!isLoss || Math.abs(gapMs - filledMs) >= LEAST_GAP_MS) this.#mustMerge = true;
      this.#settle(held, isLoss);
      this.#play(held, nowMs);
    } else if (isLoss && leftMs <= this.#packetSamples / this.#samplesPerMs && this.#mayUseFec(held)) {
      this.#useFec(held, leftMs);
    } else {
      this.#conceal(Math.min(FRAME_MS, leftMs) * this.#samplesPerMs);
    }
  }

  /** What was put in before `held` is known now: for lost or late packets, or for a pause. */
  #settle(held: HeldPacket, isConcealed: boolean): void {
    if (isConcealed) this.#counts.concealed(this.#filled, this.#packetSamples);
    this.#filled = 0;
    const missing = this.#buffer.missingBefore(held);
    if (!isConcealed || missing === 0) return;
    this.#counts.lost(missing);
    this.#fecWait.passed(missing, this.#mayUseFec(held) ? 1 : 0, this.#packetSamples / this.#samplesPerMs);
  }

  #play(held: HeldPacket, nowMs: number): void {
    const { payload, ticks, arrivalMs } = held;
    const aheadMs = this.#sync.ahead / this.#samplesPerMs;
    const isNeeded = this.#sync.ahead < this.#frame.length;
    const transitMs = nowMs - this.#mediaMs(ticks);
    this.#pace.decoded(nowMs, transitMs + aheadMs, isNeeded ? transitMs : null);
    const waitedMs = nowMs + aheadMs - arrivalMs;
    this.#counts.waited(waitedMs);
    this.#buffer.played(held);

    const block = this.#decode(payload);
    if (block === null) {
      this.#endTicks = ticks + (this.#packetSamples / this.#samplesPerMs) * this.#ticksPerMs;
      this.#conceal(this.#packetSamples);
      this.#counts.concealed(this.#packetSamples, this.#packetSamples);
      this.#filled = 0;
      return;
    }
    this.#packetSamples = block.length;
    this.#fecWait.passed(1, 0, block.length / this.#samplesPerMs);
    this.#endTicks = ticks + (block.length / this.#samplesPerMs) * this.#ticksPerMs;
    if (this.#mustMerge) this.#concealment.merge(this.#sync, block, 0);
    else this.#sync.append(block);
    this.#concealment.heard(block);
    this.#mustMerge = false;
    this.#counts.playedSamples += block.length;
  }

  #decode(payload: Uint8Array): Int16Array | null {
    try {
      const block = this.#codec.decoder.decode(payload);
      if (block.length === 0) return null;
      this.#concealment.decoder = this.#codec.decoder;
      if (!this.#hasHeard) {
        this.#hasHeard = true;
        this.#options.heard?.();
      }
      return block;
    } catch (error) {
      this.#options.decoderFailed?.(error);
      return null;
    }
  }

  #mayUseFec(held: HeldPacket): boolean {
    return this.#codec.carriesFec?.(held.payload) === true;
  }

  /** The packet before `held` is lost, and `held` tells of it: its last `leftMs` are taken. */
  #useFec(held: HeldPacket, leftMs: number): void {
    try {
      const block = this.#codec.decoder.decodeFec(held.payload, this.#packetSamples);
      const from = Math.max(0, block.length - Math.round(leftMs * this.#samplesPerMs));
      this.#settle(held, true);
      if (from > 0 || this.#mustMerge) this.#concealment.merge(this.#sync, block, from);
      else this.#sync.append(block);
      this.#concealment.heard(block);
      this.#counts.playedSamples += block.length - from;
      this.#mustMerge = false;
      this.#counts.fecDecoded += 1;
      this.#buffer.beginWith(held);
      this.#endTicks = held.ticks;
    } catch (error) {
      this.#options.decoderFailed?.(error);
      this.#conceal(Math.min(FRAME_MS, leftMs) * this.#samplesPerMs);
    }
  }

  #conceal(samples: number): void {
    const count = Math.round(samples);
    this.#mustMerge = this.#concealment.fill(this.#sync, count) || this.#mustMerge;
    this.#filled += count;
  }

  /** After a stall that left more than can be caught up with. */
  #dropBacklog(nowMs: number): void {
    const mostMs = this.#wantedMs() + MOST_BACKLOG_MS;
    while (this.#buffer.level > 1) {
      const held = this.#buffer.first();
      if (held === null || nowMs - this.#mediaMs(held.ticks) <= mostMs) return;
      this.#buffer.skip(held);
      this.#endTicks = this.#buffer.first()?.ticks ?? this.#endTicks;
      this.#mustMerge = true;
      this.#pace.restart();
    }
  }

  #keepPace(nowMs: number): void {
    const aheadMs = this.#sync.ahead / this.#samplesPerMs;
    const targetMs = this.#targetMs();
    const isOverdue = this.#overdueMs(nowMs) > this.#delays.oftenMs;
    const change = this.#pace.change(nowMs, {
      wantedMs: this.#delays.baseMs + targetMs,
      aheadMs,
      isShort: isOverdue && aheadMs + this.#waitingMs() < SHORT * targetMs,
    });
    if (change === null) return;
    if (change.kind === 'accelerate') {
      const wanted = this.#stretch.needs(DECODE_AHEAD_MS);
      while (this.#sync.ahead < wanted && this.#follows()) {
        const held = this.#buffer.first();
        if (held !== null) this.#play(held, nowMs);
      }
      const cut = this.#stretch.cut(this.#sync, change);
      if (cut === 0) return;
      this.#counts.acceleratedSamples += cut;
      this.#pace.changed(nowMs, cut / this.#samplesPerMs);
    } else {
      const repeated = this.#stretch.repeat(this.#sync, change);
      if (repeated === 0) return;
      this.#counts.expandedSamples += repeated;
      this.#pace.changed(nowMs, -repeated / this.#samplesPerMs);
    }
  }

  /** How late the packet after the newest one is already; where lost ones are made good by what comes later, the one after these. */
  #overdueMs(nowMs: number): number {
    const packetMs = this.#packetSamples / this.#samplesPerMs;
    const packets = 1 + Math.floor(this.#redundancyMs() / packetMs);
    const dueTicks = this.#buffer.newestTicks + packets * packetMs * this.#ticksPerMs;
    return nowMs - this.#mediaMs(dueTicks) - this.#delays.baseMs;
  }

  /** What the packets that wait last, up to the newest. */
  #waitingMs(): number {
    if (this.#buffer.level === 0) return 0;
    return this.#mediaMs(this.#buffer.newestTicks - this.#endTicks) + this.#packetSamples / this.#samplesPerMs;
  }

  /** The next packet is there and goes on where the last one ended. */
  #follows(): boolean {
    const held = this.#buffer.first();
    if (held === null || this.#buffer.missingBefore(held) > 0) return false;
    return Math.abs(this.#mediaMs(held.ticks - this.#endTicks)) < LEAST_GAP_MS;
  }
}
