import { resample } from '../src/audio/resample.js';
import { humanSpeech, LAB_RATE_HZ } from '../src/lab/speech.js';
import { mean, PESQ, PESQ_CONDITIONS, rankCorrelation } from './quality/calibration.js';
import { LISTENING_RATE_HZ } from './quality/listening.js';
import { scoreOf } from './quality/score.js';
import { type Scheme, transmit } from './quality/transmission.js';

export interface QualityFigures {
  /** Of the model of listening with PESQ, over schemes and conditions (Spearman). */
  readonly rankCorrelation: number;
  readonly rmsErrorMos: number;
  readonly conditions: readonly string[];
  readonly schemes: readonly { readonly name: string; readonly kbitPerS: number; readonly mos: readonly number[] }[];
}

export interface CodecFigures {
  readonly engines: readonly {
    readonly engine: Scheme['engine'];
    readonly complexity: number;
    /** of a packet of 20 ms at 24 kbit/s, µs of CPU. */
    readonly encodeUs: number;
    readonly kbitPerS: number;
    readonly mos: number;
    /** The same with FEC for 10 %, without loss and at 10 %. */
    readonly fecKbitPerS: number;
    readonly fecMos: number;
    readonly fecLossyMos: number;
  }[];
}

const SEEDS = [7, 14, 21];

const CONDITIONS = [
  { name: 'clean' },
  { name: '2 %', lossPct: 2 },
  { name: '5 %', lossPct: 5 },
  { name: '10 %', lossPct: 10 },
  { name: '20 %', lossPct: 20 },
  { name: '5 %, runs of 2', lossPct: 5, meanBurstPackets: 2 },
  { name: '10 %, runs of 3', lossPct: 10, meanBurstPackets: 3 },
  { name: 'jitter 60', jitterMs: 60 },
  { name: 'jitter 60, 10 %', jitterMs: 60, lossPct: 10 },
] as const;

const SCHEMES: readonly Scheme[] = [
  plain('16k', 16_000),
  plain('24k', 24_000),
  plain('32k', 32_000),
  { ...plain('FEC as measured, 24k, native', 24_000), fecForPct: 'measured' },
  { ...plain('FEC as measured, 24k, wasm', 24_000), engine: 'wasm', fecForPct: 'measured' },
  { ...plain('FEC as measured, 32k, native', 32_000), fecForPct: 'measured' },
  { ...plain('FEC as measured, 32k, wasm', 32_000), engine: 'wasm', fecForPct: 'measured' },
  { ...plain('RED 1, 12k', 12_000), copies: [1] },
  { ...plain('RED 1, 16k', 16_000), copies: [1] },
  { ...plain('RED 1, 24k', 24_000), copies: [1] },
  { ...plain('RED 2 alone, 16k', 16_000), copies: [2] },
  { ...plain('RED 3 alone, 16k', 16_000), copies: [3] },
  { ...plain('RED 1+2, 12k', 12_000), copies: [1, 2] },
  { ...plain('RED 1+2, 16k', 16_000), copies: [1, 2] },
  { ...plain('RED 1+3, 12k', 12_000), copies: [1, 3] },
  { ...plain('RED 1+3, 16k', 16_000), copies: [1, 3] },
  { ...plain('RED 2+4, 16k', 16_000), copies: [2, 4] },
  { ...plain('RED 1+2, 24k', 24_000), copies: [1, 2] },
];

function plain(name: string, bitrateBps: number): Scheme {
  return { name, engine: 'native', bitrateBps, fecForPct: null, copies: [] };
}

/**
 * Human speech through schemes of protection and conditions of the way, by the real encoder, playout and decoder in simulated
 * time, judged by the model of listening; first the schemes that PESQ was measured for, to say how far the model can be trusted.
 */
export async function measureQuality(log: (text: string) => void): Promise<QualityFigures> {
  const speech = await listeningSpeech();
  const wanted: number[] = [];
  const got: number[] = [];
  for (const { scheme, mos } of PESQ) {
    for (const [i, condition] of PESQ_CONDITIONS.entries()) {
      const known = mos[i] ?? null;
      if (known === null) continue;
      wanted.push(known);
      got.push((await judged(scheme, condition, speech)).mos);
    }
  }
  log(`the order of PESQ's values is met to ${rankCorrelation(wanted, got).toFixed(3)}`);
  const schemes: QualityFigures['schemes'][number][] = [];
  for (const scheme of SCHEMES) {
    const results = [];
    for (const condition of CONDITIONS) results.push(await judged(scheme, condition, speech));
    const mos = results.map((result) => rounded(result.mos, 2));
    schemes.push({ name: scheme.name, kbitPerS: rounded(mean(results.map(({ kbitPerS }) => kbitPerS)), 1), mos });
    log(`${scheme.name}: ${mos.join(' ')}`);
  }
  return {
    rankCorrelation: rounded(rankCorrelation(wanted, got), 3),
    rmsErrorMos: rounded(Math.sqrt(mean(wanted.map((mos, i) => (mos - (got[i] as number)) ** 2))), 2),
    conditions: CONDITIONS.map(({ name }) => name),
    schemes,
  };
}

/** Quality and CPU of each encoder that can be chosen. */
export async function measureCodec(): Promise<CodecFigures> {
  const speech = await listeningSpeech();
  const engines: CodecFigures['engines'][number][] = [];
  for (const engine of ['native', 'discord', 'wasm'] as const) {
    for (const complexity of [10, 5, 0]) {
      const scheme: Scheme = { ...plain('', 24_000), engine, complexity };
      // The first time warms up what compiles just in time.
      await transmit(scheme, {}, speech.slice(), 1);
      const clean = await transmit(scheme, {}, speech.slice(), 1);
      const fec: Scheme = { ...scheme, fecForPct: 10 };
      const fecClean = await judged(fec, {}, speech);
      engines.push({
        engine,
        complexity,
        encodeUs: Math.round(1000 * clean.encodeMsPerPacket),
        kbitPerS: rounded(clean.kbitPerS, 1),
        mos: rounded(scoreOf(speech, clean.samples), 2),
        fecKbitPerS: rounded(fecClean.kbitPerS, 1),
        fecMos: rounded(fecClean.mos, 2),
        fecLossyMos: rounded((await judged(fec, { lossPct: 10 }, speech)).mos, 2),
      });
    }
  }
  return { engines };
}

async function judged(
  scheme: Scheme,
  condition: Parameters<typeof transmit>[1] & { readonly name?: string },
  speech: Int16Array,
): Promise<{ mos: number; kbitPerS: number }> {
  const { name: _, ...impairment } = condition;
  const isSure = impairment.lossPct === undefined && impairment.jitterMs === undefined;
  const all = [];
  for (const seed of isSure ? SEEDS.slice(0, 1) : SEEDS) {
    const { samples, kbitPerS } = await transmit(scheme, impairment, speech, seed);
    all.push({ mos: scoreOf(speech, samples), kbitPerS });
  }
  return { mos: mean(all.map(({ mos }) => mos)), kbitPerS: mean(all.map(({ kbitPerS }) => kbitPerS)) };
}

async function listeningSpeech(): Promise<Int16Array> {
  return resample(await humanSpeech(), { fromHz: LAB_RATE_HZ, toHz: LISTENING_RATE_HZ });
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
