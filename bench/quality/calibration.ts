import type { Scheme } from './transmission.js';

/** The conditions that PESQ was measured in: share of packets lost, and the mean run where they go in runs. */
export const PESQ_CONDITIONS = [
  {},
  { lossPct: 5 },
  { lossPct: 10 },
  { lossPct: 20 },
  { lossPct: 10, meanBurstPackets: 3 },
] as const;

/**
 * What PESQ (ITU-T P.862.2, wideband) gave schemes in those conditions, on human speech at 16 kHz with packets of 20 ms; null
 * where it was not measured. The model of listening is fitted to them and has to put them in this order.
 */
export const PESQ: readonly { readonly scheme: Scheme; readonly mos: readonly (number | null)[] }[] = [
  pesq('concealment, 24k', 'discord', 24_000, null, [], [4.36, 2.66, 1.9, 1.37, 1.99]),
  pesq('FEC 15 %, 24k', 'discord', 24_000, 15, [], [3.12, 3.0, 2.88, 2.11, 1.99]),
  pesq('FEC 15 %, 24k, 1.6', 'wasm', 24_000, 15, [], [3.99, 3.8, 3.43, 2.3, null]),
  pesq('FEC 5 %, 24k', 'discord', 24_000, 5, [], [3.96, 3.6, 3.3, 2.22, 2.27]),
  pesq('RED 1, 16k', 'discord', 16_000, null, [1], [4.1, 3.97, 3.85, 2.51, 2.38]),
  pesq('RED 2, 12k', 'discord', 12_000, null, [1, 2], [3.67, 3.67, 3.63, 3.31, 2.42]),
  pesq('RED 2, 24k', 'discord', 24_000, null, [1, 2], [4.36, 4.36, 4.3, 3.88, 2.82]),
];

function pesq(
  name: string,
  engine: Scheme['engine'],
  bitrateBps: number,
  fecForPct: number | null,
  copies: readonly number[],
  mos: readonly (number | null)[],
) {
  return { scheme: { name, engine, bitrateBps, fecForPct, copies }, mos };
}

/** Spearman's rank correlation, -1 … 1; equal values share their mean rank. */
export function rankCorrelation(a: readonly number[], b: readonly number[]): number {
  return correlation(ranks(a), ranks(b));
}

function ranks(values: readonly number[]): number[] {
  const sorted = [...values].sort((x, y) => x - y);
  return values.map((value) => (sorted.indexOf(value) + sorted.lastIndexOf(value)) / 2);
}

function correlation(a: readonly number[], b: readonly number[]): number {
  const meanA = mean(a);
  const meanB = mean(b);
  let product = 0;
  let squaresA = 0;
  let squaresB = 0;
  for (const [i, x] of a.entries()) {
    const y = b[i] as number;
    product += (x - meanA) * (y - meanB);
    squaresA += (x - meanA) ** 2;
    squaresB += (y - meanB) ** 2;
  }
  return product / Math.sqrt(squaresA * squaresB);
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
