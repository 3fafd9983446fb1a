import type { Clock } from '../core/clock.js';
import type { EdgeCounts, EdgeStatus } from '../protocol/station-api.js';

const HOUR_MS = 3_600_000;
const MOST_HOURS = 24;
const FRAME_MS = 10;

const NOTHING: EdgeCounts = {
  capturedFrames: 0,
  capturedBytes: 0,
  inferredFrames: 0,
  inferredBytes: 0,
  sentFrames: 0,
  sentBytes: 0,
  callBytes: 0,
};

/**
 * Infer, alert, else drop, in figures: what the microphone gave to inference, what was inferred from, and what left the station because
 * of it; beside that what calls sent. In sum since the station's start, and of each of the last 24 hours of the clock.
 */
export class EdgeCounters {
  readonly #clock: Clock;
  #sum = NOTHING;
  /** The newest last. */
  #hours: { readonly fromMs: number; counts: EdgeCounts }[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  add(more: Partial<EdgeCounts>): void {
    this.#sum = plus(this.#sum, more);
    const nowMs = this.#clock.wallMs();
    const fromMs = nowMs - (nowMs % HOUR_MS);
    let hour = this.#hours.at(-1);
    // A clock that was set back counts on in the hour that it was in.
    if (hour === undefined || hour.fromMs < fromMs) {
      hour = { fromMs, counts: NOTHING };
      this.#hours.push(hour);
    }
    hour.counts = plus(hour.counts, more);
  }

  /** An event of the outbox has reached the broker. */
  eventSent(kind: string, payloadBytes: number, data: Record<string, unknown>): void {
    if (kind !== 'alert') return;
    const { durationMs = 0 } = (data.clip ?? {}) as { durationMs?: number };
    this.add({ sentBytes: payloadBytes, sentFrames: Math.round(durationMs / FRAME_MS) });
  }

  get status(): EdgeStatus {
    const oldestMs = this.#clock.wallMs() - MOST_HOURS * HOUR_MS;
    this.#hours = this.#hours.filter(({ fromMs }) => fromMs + HOUR_MS > oldestMs).slice(-MOST_HOURS);
    return { ...this.#sum, hours: this.#hours.map(({ fromMs, counts }) => ({ fromMs, ...counts })) };
  }
}

function plus(one: EdgeCounts, more: Partial<EdgeCounts>): EdgeCounts {
  const keys = Object.keys(NOTHING) as (keyof EdgeCounts)[];
  return Object.fromEntries(keys.map((key) => [key, one[key] + (more[key] ?? 0)])) as unknown as EdgeCounts;
}
