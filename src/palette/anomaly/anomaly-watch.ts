/** What a watch says after a value. */
export interface Reading {
  /** Stays as it was while there is too little to judge by. */
  readonly isWrong: boolean;
  /** Values still to come before it can judge; 0 when it does. */
  readonly learning: number;
  /** What is usual, in the unit of the values; null where it isn't asked, or not known. */
  readonly baseline: number | null;
  /** How far the value is from that, in standard deviations of what is usual. */
  readonly deviation: number | null;
  /** Change a second, in the unit of the values; null where it can't be told from chance. */
  readonly slopePerS: number | null;
  /** Until the limit is reached if it goes on like this; 0 beyond it, null where it does not go there. */
  readonly limitInMs: number | null;
}

/** Judges a number that comes again and again; pure: the time is told with each. */
export interface AnomalyWatch {
  /** @param value finite, at most 1e15 either way @param atMs monotonic */
  take(value: number, atMs: number): Reading;
}

export type Side = 'above' | 'below';

const NOTHING: Omit<Reading, 'isWrong'> = {
  learning: 0,
  baseline: null,
  deviation: null,
  slopePerS: null,
  limitInMs: null,
};

/** Wrong beyond the limit, and well again only `hysteresis` on this side of it. */
export class ThresholdWatch implements AnomalyWatch {
  readonly #options: { limit: number; side: Side; hysteresis: number };
  #isWrong = false;

  /** @param options.hysteresis at least 0, in the unit of the values */
  constructor(options: { limit: number; side: Side; hysteresis: number }) {
    this.#options = options;
  }

  take(value: number): Reading {
    const { limit, side, hysteresis } = this.#options;
    const beyond = side === 'above' ? value - limit : limit - value;
    if (beyond > 0) this.#isWrong = true;
    else if (beyond <= -hysteresis) this.#isWrong = false;
    return { ...NOTHING, isWrong: this.#isWrong };
  }
}

/** A shift of two standard deviations is what the sums are made to find: half of it is let pass at each value (Page's k). */
const SLACK = 1;
/** No single value counts for more, so that one that is far out is no shift. */
const MOST_DEVIATION = 4;
/** Beyond the alarm the sums grow no further: else what lasted long would take as long to be over. */
const ROOM_ABOVE = 3;
/** Of a normal distribution: its standard deviation, in median absolute deviations. */
const MAD_TO_SIGMA = 1.4826;
/** Values that are all the same have no deviation; this much of their size stands for it. */
const LEAST_OF_SIZE = 1e-9;

/**
 * Whether values have moved to another level: learns what is usual from the first (median, and median absolute deviation, which a
 * few odd ones do not spoil), follows it slowly while all is well, and adds up what is beyond it on either side, as a cumulative
 * sum (E. S. Page, Continuous Inspection Schemes, Biometrika 41, 1954). Well again when the sum has gone back to nothing.
 */
export class LevelShiftWatch implements AnomalyWatch {
  readonly #options: { learn: number; alarm: number; side: Side | 'either'; least: number };
  readonly #first: number[] = [];
  #mean = 0;
  #variance = 0;
  #up = 0;
  #down = 0;
  #isWrong = false;

  /**
   * @param options.learn values that it learns from, at least 10
   * @param options.alarm height of the sum, in standard deviations: 8 takes three to eight values to see a shift
   * @param options.least standard deviation that is assumed at least, in the unit of the values: smaller changes don't matter
   */
  constructor(options: { learn: number; alarm: number; side: Side | 'either'; least: number }) {
    this.#options = options;
  }

  take(value: number): Reading {
    const { learn, alarm, side } = this.#options;
    if (this.#first.length < learn) {
      this.#first.push(value);
      if (this.#first.length === learn) this.#learn();
      return { ...NOTHING, isWrong: false, learning: learn - this.#first.length };
    }
    const sigma = this.#sigma();
    const deviation = (value - this.#mean) / sigma;
    const counted = Math.max(-MOST_DEVIATION, Math.min(MOST_DEVIATION, deviation));
    const most = alarm + ROOM_ABOVE;
    this.#up = side === 'below' ? 0 : Math.min(most, Math.max(0, this.#up + counted - SLACK));
    this.#down = side === 'above' ? 0 : Math.min(most, Math.max(0, this.#down - counted - SLACK));
    const sum = Math.max(this.#up, this.#down);
    if (sum >= alarm) this.#isWrong = true;
    else if (sum === 0) this.#isWrong = false;
    const reading = { ...NOTHING, isWrong: this.#isWrong, baseline: this.#mean, deviation };
    if (!this.#isWrong) this.#follow(counted * sigma);
    return reading;
  }

  #learn(): void {
    this.#mean = median(this.#first);
    const mad = median(this.#first.map((value) => Math.abs(value - this.#mean)));
    this.#variance = (mad * MAD_TO_SIGMA) ** 2;
  }

  #sigma(): number {
    return Math.max(Math.sqrt(this.#variance), this.#options.least, LEAST_OF_SIZE * Math.max(1, Math.abs(this.#mean)));
  }

  #follow(residual: number): void {
    const part = 1 / (4 * this.#options.learn);
    this.#mean += part * residual;
    this.#variance += part * (residual * residual - this.#variance);
  }
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  return ((sorted[Math.floor(middle)] ?? 0) + (sorted[Math.ceil(middle)] ?? 0)) / 2;
}

interface Bin {
  readonly index: number;
  sumMs: number;
  sum: number;
  count: number;
}

const BINS = 60;
const LEAST_BINS = 10;
/** A slope of so many standard errors is no chance; one that has been seen is believed until it is half of that. */
const SURE = 5;
/** Well again when the limit is so many horizons away. */
const AWAY = 1.5;

/**
 * When values will be beyond the limit if they go on as they do: a straight line by least squares through the means of sixty
 * parts of the window, so that it holds as much for one value a minute as for a hundred a second. Wrong when that is within the
 * horizon, or the line is beyond the limit now.
 */
export class TrendWatch implements AnomalyWatch {
  readonly #options: { limit: number; side: Side; windowMs: number; horizonMs: number };
  #bins: Bin[] = [];
  #isWrong = false;

  constructor(options: { limit: number; side: Side; windowMs: number; horizonMs: number }) {
    this.#options = options;
  }

  take(value: number, atMs: number): Reading {
    const { limit, side, windowMs, horizonMs } = this.#options;
    this.#add(value, atMs);
    const spanMs = atMs - (this.#bins[0]?.sumMs ?? 0) / (this.#bins[0]?.count ?? 1);
    const learning = Math.max(LEAST_BINS - this.#bins.length, spanMs < windowMs / 2 ? 1 : 0);
    if (learning > 0) return { ...NOTHING, isWrong: this.#isWrong, learning };
    const line = lineThrough(this.#bins);
    const isSure = Math.abs(line.slopePerMs) >= line.slopeError * (this.#isWrong ? SURE / 2 : SURE);
    const slopePerMs = isSure ? line.slopePerMs : 0;
    const now = isSure ? line.mean + slopePerMs * (atMs - line.meanMs) : line.mean;
    const left = side === 'above' ? limit - now : now - limit;
    const towards = side === 'above' ? slopePerMs : -slopePerMs;
    const limitInMs = left < 0 ? 0 : towards > 0 ? left / towards : null;
    if (limitInMs !== null && limitInMs <= horizonMs) this.#isWrong = true;
    else if (limitInMs === null || limitInMs > AWAY * horizonMs) this.#isWrong = false;
    const slopePerS = slopePerMs === 0 ? null : slopePerMs * 1_000;
    return { ...NOTHING, isWrong: this.#isWrong, baseline: now, slopePerS, limitInMs };
  }

  #add(value: number, atMs: number): void {
    const { windowMs } = this.#options;
    const index = Math.floor(atMs / (windowMs / BINS));
    this.#bins = this.#bins.filter((bin) => bin.index > index - BINS);
    const last = this.#bins.at(-1);
    if (last?.index === index) {
      last.sumMs += atMs;
      last.sum += value;
      last.count += 1;
    } else this.#bins.push({ index, sumMs: atMs, sum: value, count: 1 });
  }
}

function lineThrough(bins: readonly Bin[]): { mean: number; meanMs: number; slopePerMs: number; slopeError: number } {
  const points = bins.map(({ sumMs, sum, count }) => ({ ms: sumMs / count, value: sum / count }));
  const meanMs = points.reduce((all, { ms }) => all + ms, 0) / points.length;
  const mean = points.reduce((all, { value }) => all + value, 0) / points.length;
  const squares = points.reduce((all, { ms }) => all + (ms - meanMs) ** 2, 0);
  const slopePerMs = points.reduce((all, { ms, value }) => all + (ms - meanMs) * (value - mean), 0) / squares;
  const errors = points.reduce((all, { ms, value }) => all + (value - mean - slopePerMs * (ms - meanMs)) ** 2, 0);
  return { mean, meanMs, slopePerMs, slopeError: Math.sqrt(errors / (points.length - 2) / squares) };
}
