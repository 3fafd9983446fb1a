import type { RateHz } from '../audio/frame.js';
import type { OpusEncoderSettings } from '../codec/codec.js';
import type { AudioCodec } from '../protocol/engine-api.js';
import type { LadderStepFigures } from '../protocol/quality.js';
import type { LocalStep } from '../quality/local-ladder.js';
import { LossLadder } from '../quality/loss-ladder.js';
import type { LossReport } from '../quality/loss-report.js';
import type { PacketTimeMs, ProtectionLimits } from '../quality/protection.js';

/** What offer and answer agreed on, as far as it bounds what may be sent. */
export interface AgreedBounds {
  readonly codec: AudioCodec;
  readonly red: { readonly copies?: number | undefined } | null;
  readonly peerWantsFec: boolean;
  readonly packetTimeMs: PacketTimeMs;
  readonly maxPacketTimeMs?: PacketTimeMs | undefined;
}

/** Of 8 kHz, 8 bits each. */
const G711_BPS = 64_000;
/** RFC 2198 has two as its example; who takes RED takes as many. */
const COPIES_UNTOLD = 2;

/** Above it libopus codes a wider band, at whose bit rates it sends no in-band FEC (24 kbit/s), or narrows the band for it. */
const MOST_FEC_RATE_HZ = 16_000;

/** What both ends can do, of what is configured. @param rateHz of what is encoded */
export function protectionLimits(opus: OpusEncoderSettings, agreed: AgreedBounds, rateHz: RateHz): ProtectionLimits {
  const isOpus = agreed.codec === 'opus';
  const packetTimeMs = shorter(agreed.packetTimeMs, opus.packetTimeMs);
  return {
    codec: isOpus ? 'opus' : 'g711',
    bitrateBps: isOpus ? opus.bitrateBps : G711_BPS,
    complexity: opus.complexity,
    mayFec: isOpus && opus.inbandFec && agreed.peerWantsFec && rateHz <= MOST_FEC_RATE_HZ,
    mostCopies: agreed.red === null ? 0 : (agreed.red.copies ?? COPIES_UNTOLD),
    packetTimeMs,
    mostPacketTimeMs: agreed.maxPacketTimeMs ?? packetTimeMs,
  };
}

/** What is sent from now on. */
export interface SendSettings {
  readonly opus: OpusEncoderSettings;
  readonly redDistances: readonly number[];
}

export interface SendLadderOptions {
  /** As configured: the most bits, the highest complexity, whether in-band FEC may be used, the loss that a call begins with. */
  readonly opus: OpusEncoderSettings;
  readonly openedMs: number;
  apply(settings: SendSettings): void;
}

const MOST_STEPS = 32;

/** What follows for the encoder from the network's ladder, which is the session's own, and from the machine's. */
export class SendLadder {
  readonly #options: SendLadderOptions;
  readonly #steps: LadderStepFigures[] = [];
  #loss: LossLadder | null = null;
  #limits: ProtectionLimits | null = null;
  #mostTotalBps: number | null = null;
  #complexity: number;

  constructor(options: SendLadderOptions) {
    this.#options = options;
    this.#complexity = options.opus.complexity;
  }

  /** The last steps, the newest last. */
  get steps(): readonly LadderStepFigures[] {
    return this.#steps;
  }

  get wantsOtherPath(): boolean {
    return this.#loss?.step.wantsOtherPath ?? false;
  }

  /** What both ends agreed on. */
  agreed(agreed: ProtectionLimits, nowMs: number): void {
    this.#limits = agreed;
    const limits = { ...agreed, mostTotalBps: this.#mostTotalBps };
    if (this.#loss === null) {
      this.#loss = new LossLadder(limits, nowMs, this.#options.opus.expectedLossPct);
      this.#note(this.#loss.step.reason, nowMs);
    } else if (this.#loss.limit(limits, nowMs) !== null) {
      this.#note('limits', nowMs);
    }
    this.#apply();
  }

  /** No more than this is sent from now on, headers and copies included; null: whatever is found good. */
  cap(mostTotalBps: number | null, nowMs: number): void {
    this.#mostTotalBps = mostTotalBps;
    if (this.#limits !== null) this.agreed(this.#limits, nowMs);
  }

  /** The far end says what it lost of ours. */
  report(report: LossReport): void {
    const step = this.#loss?.report(report) ?? null;
    if (step === null) return;
    this.#note(step.reason, report.atMs);
    this.#apply();
  }

  /** What the machine bears. */
  bear({ complexity, reason, atMs }: LocalStep): void {
    if (complexity === this.#complexity) return;
    this.#complexity = complexity;
    this.#note(reason, atMs);
    this.#apply();
  }

  #note(reason: LadderStepFigures['reason'], nowMs: number): void {
    const step = this.#loss?.step;
    if (step === undefined) return;
    this.#steps.push({
      atMs: nowMs - this.#options.openedMs,
      reason,
      bitrateBps: step.bitrateBps,
      fecForPct: step.fecForPct,
      redDistances: [...step.redDistances],
      packetTimeMs: step.packetTimeMs,
      complexity: this.#complexity,
      lossPct: step.lossPct,
      meanRunPackets: step.meanRunPackets,
      wantsOtherPath: step.wantsOtherPath,
    });
    if (this.#steps.length > MOST_STEPS) this.#steps.shift();
  }

  #apply(): void {
    const step = this.#loss?.step;
    if (step === undefined) return;
    const { bitrateBps, fecForPct, redDistances, packetTimeMs } = step;
    this.#options.apply({
      opus: {
        ...this.#options.opus,
        bitrateBps,
        packetTimeMs,
        complexity: this.#complexity,
        inbandFec: fecForPct > 0,
        expectedLossPct: fecForPct,
      },
      redDistances,
    });
  }
}

function shorter(a: PacketTimeMs, b: PacketTimeMs): PacketTimeMs {
  if (a < b) return a;
  return b;
}
