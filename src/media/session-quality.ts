import type { QualityFigures } from '../protocol/quality.js';
import { type BurstGapFigures, BurstGapMeter, GMIN } from '../quality/burst-gap.js';
import { type Rating, rate } from '../quality/e-model.js';
import type { LossReport } from '../quality/loss-report.js';
import { ReportReader } from '../quality/report-reader.js';
import { G711, opusCoding, type SpeechCoding } from '../quality/speech-coding.js';
import { ArrivalLog, type Fates } from '../rtp/arrival-log.js';
import type { ReportBlock } from '../rtp/rtcp.js';
import type { VoipMetricsBlock, XrBlock } from '../rtp/rtcp-xr.js';
import type { RtpPacket } from '../rtp/rtp-packet.js';
import { TransitMeter } from '../rtp/transit.js';

/** What playout has done since the session began, and how long packets wait in it. */
export interface PlayoutState {
  readonly playedMs: number;
  readonly concealedMs: number;
  /** Runs of packets that did not come in time, by themselves or as copies. */
  readonly lostRuns: number;
  readonly delayMs: number;
  readonly targetDelayMs: number;
  /** Packets that came too late. */
  readonly late: number;
}

export interface SessionQualityOptions {
  /** Of the RTP timestamps, both ways. */
  readonly clockRateHz: () => number;
  readonly playout: () => PlayoutState;
  readonly roundTripMs: () => number | null;
  readonly sentPackets: () => number;
}

/** Of mouth to ear: microphone, speaker, and what is under way between them and the codec. */
const CARDS_MS = 45;
/** What the scores are about. */
const WINDOW_MS = 4_000;
/** Less has been heard than can be judged. */
const LEAST_HEARD_MS = 500;
const NOBODY = { remoteListening: null, remoteConversational: null };
const UNHEARD = { listening: null, conversational: null };
const SMOOTHING = 1 / 64;
/** Of the mean: smaller payloads are pauses, at a variable bit rate. */
const SPEECH_SHARE = 0.6;

/**
 * How one session is heard, at both ends: what came of the far end's packets, which the next report tells it; what playout made
 * of it, as a score each second; what the far end says of ours. Pure.
 */
export class SessionQuality {
  readonly #options: SessionQualityOptions;
  readonly #arrivals = new ArrivalLog();
  readonly #transit = new TransitMeter();
  readonly #bursts = new BurstGapMeter();
  readonly #reader = new ReportReader();
  /** What playout had done then, a second apart. */
  readonly #states: { readonly atMs: number; readonly state: PlayoutState }[] = [];
  #rating: Rating | null = null;
  #remote: VoipMetricsBlock | null = null;
  #packetTimeMs = 20;
  #speechBytes = 0;
  #isOpus = true;
  #redRecovered = 0;

  constructor(options: SessionQualityOptions) {
    this.#options = options;
  }

  /** What the far end sends; Opus unless told otherwise. */
  codec(isOpus: boolean): void {
    this.#isOpus = isOpus;
  }

  /**
   * A packet of the far end's stream, valid, in the order of arrival. @param primary its own payload, without copies
   * @returns whether the loss of another has just become certain
   */
  arrived(packet: RtpPacket, primary: { payload: Uint8Array; durationMs: number | null }, arrivalMs: number): boolean {
    this.#transit.packet(packet, arrivalMs, this.#options.clockRateHz());
    if (primary.durationMs !== null) this.#packetTimeMs = primary.durationMs;
    const bytes = primary.payload.length;
    if (this.#speechBytes === 0) this.#speechBytes = bytes;
    else if (bytes > SPEECH_SHARE * this.#speechBytes) this.#speechBytes += (bytes - this.#speechBytes) * SMOOTHING;
    return this.#arrivals.packet(packet.ssrc, packet.sequence);
  }

  /** A copy stood in for its packet. */
  recovered(): void {
    this.#redRecovered += 1;
  }

  /** What the next report says of the far end's packets. */
  extended(): XrBlock[] {
    const fates = this.#arrivals.take();
    if (fates === null) return [];
    for (const wasReceived of fates.received) this.#bursts.packet(wasReceived);
    return [{ block: 'loss-rle', ...fates }, this.#voipMetrics(fates)];
  }

  /** The far end's report on our stream. */
  reported(block: ReportBlock | null, extended: readonly XrBlock[], nowMs: number): LossReport {
    let runs = null;
    for (const one of extended) {
      if (one.block === 'loss-rle') runs = one;
      if (one.block === 'voip-metrics') this.#remote = one;
    }
    const { clockRateHz, sentPackets, roundTripMs } = this.#options;
    return this.#reader.read(block, runs, {
      nowMs,
      sentPackets: sentPackets(),
      roundTripMs: roundTripMs(),
      returnExcessMs: this.#transit.excessMs,
      clockRateHz: clockRateHz(),
    });
  }

  /** Scores what was heard in the last seconds; to be called once a second. */
  score(nowMs: number): void {
    const state = this.#options.playout();
    this.#states.push({ atMs: nowMs, state });
    while ((this.#states[0]?.atMs ?? nowMs) < nowMs - WINDOW_MS) this.#states.shift();
    const from = this.#states[0]?.state ?? state;
    const concealedMs = state.concealedMs - from.concealedMs;
    const heardMs = state.playedMs - from.playedMs + concealedMs;
    if (heardMs < LEAST_HEARD_MS) return;
    const runs = Math.max(1, state.lostRuns - from.lostRuns);
    this.#rating = rate({
      coding: this.#coding,
      lossPct: (100 * concealedMs) / heardMs,
      meanRunPackets: concealedMs / this.#packetTimeMs / runs,
      delayMs: CARDS_MS + this.#packetTimeMs + state.delayMs + (this.#options.roundTripMs() ?? 0) / 2,
    });
  }

  figures(): Omit<QualityFigures, 'ladder'> {
    const { playedMs, concealedMs } = this.#options.playout();
    const heardMs = playedMs + concealedMs;
    const bursts = this.#bursts.figures(this.#packetTimeMs);
    return {
      mos: { ...this.#mos(), ...this.#remoteMos() },
      concealedPct: heardMs > 0 ? (100 * concealedMs) / heardMs : 0,
      redRecovered: this.#redRecovered,
      lossRuns: {
        runs: bursts.lossRuns,
        meanPackets: bursts.meanRunPackets,
        longestPackets: bursts.longestRun,
        bursts: bursts.bursts,
        burstDensityPct: bursts.burstDensityPct,
        gapDensityPct: bursts.gapDensityPct,
      },
    };
  }

  #mos(): { listening: number | null; conversational: number | null } {
    const rating = this.#rating;
    return rating === null ? UNHEARD : { listening: rating.listening, conversational: rating.conversational };
  }

  #remoteMos(): { remoteListening: number | null; remoteConversational: number | null } {
    const remote = this.#remote;
    if (remote === null) return NOBODY;
    return { remoteListening: remote.mosListening, remoteConversational: remote.mosConversational };
  }

  /** What the far end sends with, by the size of its packets. */
  get #coding(): SpeechCoding {
    return this.#isOpus ? opusCoding((8_000 * this.#speechBytes) / this.#packetTimeMs) : G711;
  }

  #voipMetrics({ ssrc }: Fates): VoipMetricsBlock {
    const bursts: BurstGapFigures = this.#bursts.figures(this.#packetTimeMs);
    const { delayMs, targetDelayMs, late } = this.#options.playout();
    const share = (packets: number) => (bursts.packets > 0 ? (100 * packets) / bursts.packets : 0);
    return {
      block: 'voip-metrics',
      ssrc,
      lossPct: share(bursts.lost),
      discardPct: Math.min(100, share(late)),
      burstDensityPct: bursts.burstDensityPct,
      gapDensityPct: bursts.gapDensityPct,
      burstDurationMs: bursts.burstDurationMs,
      gapDurationMs: bursts.gapDurationMs,
      roundTripMs: this.#options.roundTripMs() ?? 0,
      endSystemDelayMs: CARDS_MS + this.#packetTimeMs + delayMs,
      gmin: GMIN,
      rFactor: this.#rating?.rFactor ?? null,
      mosListening: this.#rating?.listening ?? null,
      mosConversational: this.#rating?.conversational ?? null,
      playoutDelayMs: targetDelayMs,
      playoutMaximumMs: Math.max(targetDelayMs, delayMs),
    };
  }
}
