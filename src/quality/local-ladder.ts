/** What the station's own machine has to say, about once a second. */
export interface LocalReport {
  readonly atMs: number;
  /** What encoding a packet takes, and what a packet lasts. */
  readonly encodeMs: number;
  readonly packetTimeMs: number;
  /** Since the session began: buffers that ran over or dry, of microphone and speaker. */
  readonly xruns: number;
}

export type CapturePeriodMs = 10 | 20 | 40;

/** `slow`: encoding takes too long; `xruns`: the cards are served too late; `quiet`: neither for a while. */
export type LocalReason = 'start' | 'slow' | 'xruns' | 'quiet';

export interface LocalStep {
  readonly atMs: number;
  readonly reason: LocalReason;
  /** Of the encoder, 0 … 10. */
  readonly complexity: number;
  /** Even the simplest is too slow: G.711 is wished for, which costs next to nothing. */
  readonly wantsG711: boolean;
  readonly capturePeriodMs: CapturePeriodMs;
}

const COMPLEXITIES = [10, 8, 5, 2, 0] as const;
const PERIODS_MS = [10, 20, 40] as const;
/** Encoding that takes a larger share of the packet's time leaves too little for two cards and the rest. */
const SLOW_SHARE = 0.4;
const LEAST_SLOW_REPORTS = 2;
const XRUNS_WITHIN_MS = 5_000;
const LEAST_XRUNS = 2;
const QUIET_MS = 30_000;
const MOST_QUIET_MS = 480_000;

/**
 * What the machine can bear. Encoding too slowly lowers the complexity, then asks for G.711; xruns make the microphone's periods
 * longer, 10, 20, 40 ms. After half a minute of quiet one step back is tried; each time that it was wrong, after twice as long.
 */
export class LocalLadder {
  readonly #complexities: readonly number[];
  readonly #periodsMs: readonly CapturePeriodMs[];
  #step: LocalStep;
  #slow = 0;
  #xruns: { readonly atMs: number; readonly count: number }[] = [];
  #xrunsBefore: number | null = null;
  #troubledMs: number;
  #quietMs = QUIET_MS;

  /** @param most as configured: the highest complexity, the shortest period */
  constructor(most: Pick<LocalStep, 'complexity' | 'capturePeriodMs'>, nowMs: number) {
    const { complexity, capturePeriodMs } = most;
    this.#complexities = [complexity, ...COMPLEXITIES.filter((one) => one < complexity)];
    this.#periodsMs = PERIODS_MS.filter((one) => one >= capturePeriodMs);
    this.#step = { atMs: nowMs, reason: 'start', complexity, wantsG711: false, capturePeriodMs };
    this.#troubledMs = nowMs;
  }

  get step(): LocalStep {
    return this.#step;
  }

  /** @returns what to do from now on; null where nothing changes */
  report(report: LocalReport): LocalStep | null {
    const { atMs, encodeMs, packetTimeMs } = report;
    this.#slow = encodeMs > SLOW_SHARE * packetTimeMs ? this.#slow + 1 : 0;
    this.#noteXruns(report);
    const xruns = this.#xruns.reduce((sum, { count }) => sum + count, 0);
    if (this.#slow >= LEAST_SLOW_REPORTS) return this.#easier('slow', atMs);
    if (xruns >= LEAST_XRUNS) return this.#easier('xruns', atMs);
    if (this.#slow > 0 || xruns > 0) this.#troubledMs = atMs;
    return atMs - this.#troubledMs >= this.#quietMs ? this.#harder(atMs) : null;
  }

  #noteXruns({ atMs, xruns }: LocalReport): void {
    const count = Math.max(0, xruns - (this.#xrunsBefore ?? xruns));
    this.#xrunsBefore = xruns;
    this.#xruns = this.#xruns.filter((one) => one.atMs > atMs - XRUNS_WITHIN_MS);
    if (count > 0) this.#xruns.push({ atMs, count });
  }

  #easier(reason: 'slow' | 'xruns', atMs: number): LocalStep | null {
    // What had just been tried again is still too much.
    if (this.#step.reason === 'quiet') this.#quietMs = Math.min(MOST_QUIET_MS, 2 * this.#quietMs);
    this.#troubledMs = atMs;
    this.#slow = 0;
    this.#xruns = [];
    const { complexity, capturePeriodMs, wantsG711 } = this.#step;
    if (reason === 'xruns') {
      const longer = this.#periodsMs.find((one) => one > capturePeriodMs);
      return longer === undefined ? null : this.#change({ capturePeriodMs: longer, reason, atMs });
    }
    const simpler = this.#complexities[this.#complexities.indexOf(complexity) + 1];
    if (simpler !== undefined) return this.#change({ complexity: simpler, reason, atMs });
    return wantsG711 ? null : this.#change({ wantsG711: true, reason, atMs });
  }

  /** One step back, the dearest for those who listen first. */
  #harder(atMs: number): LocalStep | null {
    this.#troubledMs = atMs;
    const { complexity, capturePeriodMs, wantsG711 } = this.#step;
    const reason = 'quiet';
    if (wantsG711) return this.#change({ wantsG711: false, reason, atMs });
    const at = this.#complexities.indexOf(complexity);
    if (at > 0) return this.#change({ complexity: this.#complexities[at - 1] ?? complexity, reason, atMs });
    const shorter = this.#periodsMs.filter((one) => one < capturePeriodMs).at(-1);
    return shorter === undefined ? null : this.#change({ capturePeriodMs: shorter, reason, atMs });
  }

  #change(changes: Partial<LocalStep>): LocalStep {
    this.#step = { ...this.#step, ...changes };
    return this.#step;
  }
}
