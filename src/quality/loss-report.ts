/** What one report says of our stream, once it has been checked: how many packets it is about, and what became of them. */
export interface LossReport {
  readonly atMs: number;
  readonly packets: number;
  /** 0 … `packets` */
  readonly lost: number;
  /** Runs of packets lost one after another; null where the report does not tell, as a plain RR (RFC 3550, 6.4). */
  readonly runs: number | null;
  /** There and back; null where it is not known. */
  readonly roundTripMs: number | null;
  /** How much longer than at its quickest the far end's speech is now under way to us: no fault of what we send. */
  readonly returnExcessMs: number;
  readonly jitterMs: number;
}

/** Loss as it is now. */
export interface LossEstimate {
  /** 0 … 1 */
  readonly loss: number;
  /** Mean length of a run of losses, 1 and more. */
  readonly meanRun: number;
}

const SHORT_MS = 1_500;
const LONG_MS = 8_000;
const MOST_REPORTS = 64;
/** What is believed before anything is known: a clean line, as if from so many packets. */
const PRIOR_PACKETS = 25;
const PRIOR_LOST = 0.05;
const PRIOR_RUNS = 2;
/** A loss alone may be chance; the short window is believed from two runs on. */
const LEAST_RUNS = 2;

/**
 * Loss from the reports of the last seconds: quick to rise, from the last 1.5 s; slow to fall, since what the last 8 s saw
 * counts until they are over.
 */
export class LossWindow {
  readonly #reports: LossReport[] = [];

  add(report: LossReport): void {
    this.#reports.push(report);
    while (this.#reports.length > MOST_REPORTS || (this.#reports[0]?.atMs ?? 0) < report.atMs - LONG_MS) {
      this.#reports.shift();
    }
  }

  estimate(nowMs: number): LossEstimate {
    const long = this.#since(nowMs - LONG_MS);
    const short = this.#since(nowMs - SHORT_MS);
    const loss = Math.max(share(long), short.runs >= LEAST_RUNS ? share(short) : 0);
    // Of losses on their own, runs of 1 / (1 - p); some more of these than were seen pull a first long one down.
    const random = 1 / (1 - Math.min(0.9, loss));
    return { loss, meanRun: Math.max(random, (long.lost + PRIOR_RUNS * random) / (long.runs + PRIOR_RUNS)) };
  }

  #since(fromMs: number): { packets: number; lost: number; runs: number } {
    const sum = { packets: 0, lost: 0, runs: 0 };
    for (const { atMs, packets, lost, runs } of this.#reports) {
      if (atMs < fromMs) continue;
      sum.packets += packets;
      sum.lost += lost;
      sum.runs += runs ?? lost * (1 - lost / Math.max(1, packets));
    }
    return sum;
  }
}

function share({ packets, lost }: { packets: number; lost: number }): number {
  return Math.min(1, (lost + PRIOR_LOST) / (packets + PRIOR_PACKETS));
}
