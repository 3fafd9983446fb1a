/** A way to code speech, as the E-model sees it. */
export interface SpeechCoding {
  readonly band: 'wideband' | 'narrowband';
  /** Ie, or Ie,wb: what coding alone costs on the scale of R. */
  readonly impairment: number;
  /** Bpl: the loss, in %, that costs half of what is left. */
  readonly lossRobustness: number;
}

/** G.711 with concealment (ITU-T G.113, appendix I, for G.711's own appendix I). */
export const G711: SpeechCoding = { band: 'narrowband', impairment: 0, lossRobustness: 25.1 };

/**
 * Ie,wb of Opus at 16 kHz, by kbit/s. Up to 13: Al-Ahmadi, Pocta and Melvin (2019 ff.; wideband, VBR, by ITU-T P.863). Above,
 * where nothing is published for wideband, it falls as that of G.722.2 does from 12.65 kbit/s on (G.113, table IV.1: 13, 7 at
 * 15.85, 5 at 18.25, 1 at 23.05).
 */
const OPUS_IMPAIRMENT: readonly (readonly [kbps: number, impairment: number])[] = [
  [6, 50],
  [8, 41],
  [11, 28.4],
  [12, 23.3],
  [13, 20],
  [16, 14],
  [18, 12],
  [23, 8.5],
  [32, 6],
  [64, 3],
];

/**
 * Bpl of G.722.2 at 12.65 kbit/s (G.113, table IV.2). The 16 … 24 that are published for Opus would make 5 % of loss a loss
 * of a third of a point; PESQ, here, finds 1.7 points.
 */
const OPUS_LOSS_ROBUSTNESS = 4.3;
/**
 * @param bitrateBps of the encoder, in-band FEC included
 * @param fecForPct the loss that in-band FEC is armed for, 0 for none: libopus 1.3 takes 0.28 of the bit rate for it and then
 *   0.0226 for each percent, by what its clean-line PESQ scores say (24 kbit/s: 4.36, armed for 5 % 3.96, for 15 % 3.12)
 */
export function opusCoding(bitrateBps: number, fecForPct = 0): SpeechCoding {
  const left = fecForPct > 0 ? Math.max(0.3, 0.72 - 0.0226 * fecForPct) : 1;
  return {
    band: 'wideband',
    impairment: interpolate((bitrateBps / 1000) * left),
    lossRobustness: OPUS_LOSS_ROBUSTNESS,
  };
}

function interpolate(kbps: number): number {
  const points = OPUS_IMPAIRMENT;
  const above = points.findIndex(([at]) => at >= kbps);
  const [first, last] = [points[0], points.at(-1)];
  if (above === 0) return first?.[1] ?? 0;
  if (above === -1) return last?.[1] ?? 0;
  const [x0, y0] = points[above - 1] ?? [0, 0];
  const [x1, y1] = points[above] ?? [1, 0];
  return y0 + ((y1 - y0) * (kbps - x0)) / (x1 - x0);
}
