import { DelayTrend } from './delay-trend.js';
import { type LossEstimate, type LossReport, LossWindow } from './loss-report.js';
import {
  heardAs,
  type Line,
  type Protection,
  type ProtectionLimits,
  protections,
  residualLoss,
  totalBps,
  worth,
} from './protection.js';

/**
 * Why the ladder stepped: `start`; `loss` or `bursts` grew, or `quiet` came; the `delay-rising` means too much for the line,
 * `probe` that it may take more again; `limits`: what both ends can do changed.
 */
export type LadderReason = 'start' | 'loss' | 'bursts' | 'quiet' | 'delay-rising' | 'probe' | 'limits';

/** What to send from now on, and why. */
export interface LadderStep extends Protection {
  readonly atMs: number;
  readonly reason: LadderReason;
  readonly lossPct: number;
  readonly meanRunPackets: number;
  /** Not even all of it helps: another path is wished for. */
  readonly wantsOtherPath: boolean;
}

/** A step must bring so much in R, about 0.1 of a point, or things stay as they are. */
const LEAST_GAIN = 3;
/** After a step up the ladder stays for so long; each time that it had to climb again, twice as long. */
const HOLD_MS = 8_000;
const MOST_HOLD_MS = 64_000;
/** Loss that comes back within this time after a step down made that step a wrong one. */
const REGRET_MS = 15_000;
const FORGIVEN_MS = 60_000;
/** A queue that builds up: send so much less, at most so often, at least so much. */
const BACK_OFF = 0.75;
const BACK_OFF_EVERY_MS = 1_500;
const LEAST_TOTAL_BPS = 17_000;
/** Probing a line that was too narrow: from so long after the last sign of it, so much more, every so often. */
const PROBE_AFTER_MS = 6_000;
const PROBE_EVERY_MS = 3_000;
const PROBE_BY = 1.2;
/** Less than this on the scale of R can't be understood; for so long, another path is wished for. */
const HOPELESS_R = 40;
const HOPELESS_MS = 4_000;
/** What a guess at the start weighs: two seconds of packets. */
const GUESS_PACKETS = 100;
/** Mouth to ear without network and copies: cards, packet, playout. */
const OWN_DELAY_MS = 65;

/**
 * What to send next, from what was lost. Of all that both ends can do it takes what the E-model, with the loss and the bursts that
 * reports tell of, makes the most of, less a price for every kbit/s and every millisecond that copies are waited for. A clean
 * line pays nothing: a call starts without any protection, and has none again when it is quiet.
 *
 * Up at once; down after it has been quiet for 8 s, doubled each time the loss came back. Rising delay comes first: then the
 * total bit rate is capped, and copies can only come out of what the cap leaves; quiet lets the cap rise again step by step.
 * Pure: time comes in with the reports.
 */
export class LossLadder {
  #limits: ProtectionLimits;
  readonly #window = new LossWindow();
  readonly #trend = new DelayTrend();
  #step: LadderStep;
  #leastMs: number | null = null;
  #capBps: number | null = null;
  #congestedMs = Number.NEGATIVE_INFINITY;
  #probedMs = Number.NEGATIVE_INFINITY;
  #probeAfterMs = PROBE_AFTER_MS;
  #steppedUpMs = Number.NEGATIVE_INFINITY;
  #steppedDownMs = Number.NEGATIVE_INFINITY;
  #holdMs = HOLD_MS;
  #hopelessSinceMs: number | null = null;

  /** @param expectedLossPct what to begin with, where more is known than that lines are clean; reports soon know better */
  constructor(limits: ProtectionLimits, nowMs: number, expectedLossPct = 0) {
    this.#limits = limits;
    const loss = Math.min(1, Math.max(0, expectedLossPct / 100));
    const guess = { atMs: nowMs, packets: GUESS_PACKETS, lost: GUESS_PACKETS * loss, runs: null };
    if (loss > 0) this.#window.add({ ...guess, roundTripMs: null, returnExcessMs: 0, jitterMs: 0 });
    const estimate = this.#window.estimate(nowMs);
    this.#step = this.#stepTo(this.#best(estimate, this.#line(0)), 'start', estimate, nowMs);
  }

  get step(): LadderStep {
    return this.#step;
  }

  /** Both ends can do more, or less, than before. @returns what to send from now on; null where nothing changes */
  limit(limits: ProtectionLimits, nowMs: number): LadderStep | null {
    this.#limits = limits;
    const estimate = this.#window.estimate(nowMs);
    const best = this.#best(estimate, this.#line(this.#leastMs ?? 0));
    if (isSame(best, this.#step)) return null;
    this.#step = this.#stepTo(best, 'limits', estimate, nowMs);
    return this.#step;
  }

  /** @returns what to send from now on; null where nothing changes */
  report(report: LossReport): LadderStep | null {
    const nowMs = report.atMs;
    if (report.packets > 0) this.#window.add(report);
    this.#noteDelay(report);
    const isRising = this.#trend.isRising(report.jitterMs);
    if (isRising) this.#backOff(nowMs);
    const probes = !isRising && this.#probe(nowMs);
    const estimate = this.#window.estimate(nowMs);
    const line = this.#line(report.roundTripMs ?? 0);
    const best = this.#best(estimate, line);
    const reason = this.#reasonFor(best, estimate, line, { nowMs, isRising, probes });
    const wantsOtherPath = this.#isHopeless(best, estimate, line, nowMs);
    if (reason === null && wantsOtherPath === this.#step.wantsOtherPath) return null;
    const protection = reason === null ? this.#step : best;
    this.#step = { ...this.#stepTo(protection, reason ?? this.#step.reason, estimate, nowMs), wantsOtherPath };
    return this.#step;
  }

  #noteDelay({ atMs, roundTripMs, returnExcessMs }: LossReport): void {
    if (roundTripMs === null) return;
    const thereMs = Math.max(0, roundTripMs - Math.max(0, returnExcessMs));
    this.#leastMs = this.#leastMs === null ? thereMs : Math.min(this.#leastMs, thereMs);
    this.#trend.add({ atMs, excessMs: thereMs - this.#leastMs });
  }

  #backOff(nowMs: number): void {
    // What was probed for has been too much.
    if (nowMs - this.#probedMs < PROBE_EVERY_MS) this.#probeAfterMs = Math.min(MOST_HOLD_MS, 2 * this.#probeAfterMs);
    if (this.#capBps !== null && nowMs - this.#congestedMs < BACK_OFF_EVERY_MS) return;
    this.#capBps = Math.max(LEAST_TOTAL_BPS, BACK_OFF * Math.min(this.#cap, totalBps(this.#step)));
    this.#congestedMs = nowMs;
  }

  #probe(nowMs: number): boolean {
    if (this.#capBps === null || nowMs - this.#congestedMs < this.#probeAfterMs) return false;
    if (nowMs - this.#probedMs < PROBE_EVERY_MS) return false;
    this.#probedMs = nowMs;
    this.#capBps *= PROBE_BY;
    const most = Math.max(...protections(this.#limits, true).map(totalBps));
    if (this.#capBps < most) return true;
    this.#capBps = null;
    this.#probeAfterMs = PROBE_AFTER_MS;
    return true;
  }

  get #cap(): number {
    return Math.min(this.#capBps ?? Number.POSITIVE_INFINITY, this.#limits.mostTotalBps ?? Number.POSITIVE_INFINITY);
  }

  #best(estimate: LossEstimate, line: Line): Protection {
    const all = protections(this.#limits, this.#cap < Number.POSITIVE_INFINITY);
    const allowed = all.filter((one) => totalBps(one) <= this.#cap);
    let best = allowed[0] ?? all.reduce((least, one) => (totalBps(one) < totalBps(least) ? one : least));
    let most = worth(best, estimate, line);
    for (const one of allowed) {
      const value = worth(one, estimate, line);
      if (value > most) [best, most] = [one, value];
    }
    return best;
  }

  #reasonFor(
    best: Protection,
    estimate: LossEstimate,
    line: Line,
    now: { nowMs: number; isRising: boolean; probes: boolean },
  ): LadderReason | null {
    const { nowMs, isRising, probes } = now;
    if (isSame(best, this.#step)) return null;
    if (totalBps(this.#step) > this.#cap) return 'delay-rising';
    const gain = worth(best, estimate, line) - worth(this.#step, estimate, line);
    // Less loss with what is chosen than with what is sent: a step up, whatever its bits.
    if (residualLoss(estimate, best) < residualLoss(estimate, this.#step)) {
      if (isRising || gain < LEAST_GAIN) return null;
      const sinceDownMs = nowMs - this.#steppedDownMs;
      if (sinceDownMs < REGRET_MS) this.#holdMs = Math.min(MOST_HOLD_MS, 2 * this.#holdMs);
      else if (sinceDownMs > FORGIVEN_MS) this.#holdMs = HOLD_MS;
      this.#steppedUpMs = nowMs;
      return estimate.meanRun > Math.max(1.5, 1.2 * this.#step.meanRunPackets) ? 'bursts' : 'loss';
    }
    if (probes) return 'probe';
    if (nowMs - Math.max(this.#steppedUpMs, this.#steppedDownMs) < this.#holdMs) return null;
    this.#steppedDownMs = nowMs;
    return this.#capBps === null ? 'quiet' : 'probe';
  }

  #isHopeless(best: Protection, estimate: LossEstimate, line: Line, nowMs: number): boolean {
    if (heardAs(best, estimate, line) >= HOPELESS_R) this.#hopelessSinceMs = null;
    else this.#hopelessSinceMs ??= nowMs;
    return this.#hopelessSinceMs !== null && nowMs - this.#hopelessSinceMs >= HOPELESS_MS;
  }

  #line(roundTripMs: number): Line {
    return { codec: this.#limits.codec, delayMs: OWN_DELAY_MS + roundTripMs / 2 };
  }

  #stepTo(protection: Protection, reason: LadderReason, estimate: LossEstimate, atMs: number): LadderStep {
    const { bitrateBps, fecForPct, redDistances, packetTimeMs } = protection;
    return {
      bitrateBps,
      fecForPct,
      redDistances,
      packetTimeMs,
      atMs,
      reason,
      lossPct: 100 * estimate.loss,
      meanRunPackets: estimate.meanRun,
      wantsOtherPath: false,
    };
  }
}

function isSame(a: Protection, b: Protection): boolean {
  return (
    a.bitrateBps === b.bitrateBps &&
    a.fecForPct > 0 === b.fecForPct > 0 &&
    a.packetTimeMs === b.packetTimeMs &&
    a.redDistances.join() === b.redDistances.join()
  );
}
