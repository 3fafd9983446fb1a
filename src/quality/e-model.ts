import type { SpeechCoding } from './speech-coding.js';

/** What became of speech between mouth and ear. */
export interface Transmission {
  readonly coding: SpeechCoding;
  /** Share of packet times that had to be concealed: 0 … 100 %. */
  readonly lossPct: number;
  /** Mean length of a run of these; 1 and less is taken for random loss. */
  readonly meanRunPackets: number;
  /** One way, mouth to ear. */
  readonly delayMs: number;
}

/** On each scale: one that listens, and one that also speaks, to whom delay matters. */
export interface Rating {
  /** 0 … 129 for wideband (ITU-T G.107.1), 0 … 93.2 for narrowband (G.107). */
  readonly rListening: number;
  readonly rConversational: number;
  /** Of a conversation on the narrowband scale, whatever the band: 0 … 100. */
  readonly rFactor: number;
  /** Mean opinion scores, 1 … 4.5 */
  readonly listening: number;
  readonly conversational: number;
}

/** R with all defaults: wideband (G.107.1, table 1), narrowband (G.107, 7.7). */
const R_BEST = { wideband: 129, narrowband: 93.2 } as const;
/** The wideband scale is that much longer than the narrowband one, on which scores are defined (G.107.1, annex A). */
const WIDEBAND_SCALE = 1.29;
const MOST_IMPAIRMENT = 95;
const MOST_BURST_RATIO = 2;

/**
 * The E-model with what a packet network changes: R = Ro - Id - Ie,eff, all else at its default (ITU-T G.107, 7.1; G.107.1, 7.1).
 * Echo is left out: it is the station's own.
 */
export function rate({ coding, lossPct, meanRunPackets, delayMs }: Transmission): Rating {
  const best = R_BEST[coding.band];
  const rListening = Math.max(0, best - effectiveImpairment(coding, lossPct, meanRunPackets));
  const rConversational = Math.max(0, rListening - delayImpairment(delayMs));
  const scale = coding.band === 'wideband' ? WIDEBAND_SCALE : 1;
  const rFactor = rConversational / scale;
  return {
    rListening,
    rConversational,
    rFactor,
    listening: opinionScore(rListening / scale),
    conversational: opinionScore(rFactor),
  };
}

/** Ie,eff = Ie + (95 - Ie) · Ppl / (Ppl / BurstR + Bpl) (G.107, 7-29). */
export function effectiveImpairment(coding: SpeechCoding, lossPct: number, meanRunPackets: number): number {
  const loss = Math.min(100, Math.max(0, lossPct));
  if (!(loss > 0)) return coding.impairment;
  // BurstR: the mean run against that of random loss, 1 / (1 - p). Above 2 the model is not proven, and gets ahead of itself.
  const burstRatio = Math.min(MOST_BURST_RATIO, Math.max(1, meanRunPackets * (1 - loss / 100)));
  const room = MOST_IMPAIRMENT - coding.impairment;
  return coding.impairment + (room * loss) / (loss / burstRatio + coding.lossRobustness);
}

/** Idd (G.107, 7-27 and 7-28; the same in G.107.1): nothing up to 100 ms. */
export function delayImpairment(delayMs: number): number {
  if (!(delayMs > 100)) return 0;
  const x = Math.log2(delayMs / 100);
  return 25 * ((1 + x ** 6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2);
}

/** MOS of a narrowband R (G.107, annex B): 1 … 4.5 */
export function opinionScore(r: number): number {
  if (!(r > 0)) return 1;
  if (r >= 100) return 4.5;
  return Math.max(1, 1 + 0.035 * r + r * (r - 60) * (100 - r) * 7e-6);
}
