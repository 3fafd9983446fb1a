import { randomUUID } from 'node:crypto';
import type { Clock, Timer } from '../core/clock.js';
import { Counters } from '../core/counters.js';
import { AppError } from '../core/errors.js';
import { PRESS_OFFER_MS } from '../protocol/flows-api.js';

interface Taken {
  readonly pressId: string;
  readonly atMs: number;
}

/** An accepted press of flows that break down within this time, having done nothing, is done here. */
const TAKEN_MS = 10_000;
/** Presses that are remembered, so that a late acknowledgement can be told from a wrong one. */
const REMEMBERED = 64;

/**
 * A press is never lost and never doubled: flows have 500 ms to take it; what they don't take the station does itself, once.
 *
 *   pressed ─ nobody watches ──────────────────────────────▶ fallback
 *      └─ offered ─ acknowledged in time ─▶ theirs ─ they break down before they act ─▶ fallback
 *            ├─ 500 ms, or flows are gone ───────────────────────────────────────────▶ fallback; later: `press-late`
 */
export class PressOffers {
  /** `acknowledged`, `unwatched`, `unacknowledged`, `taken-and-lost`, `late`, `unknown`. */
  readonly counted = new Counters<string>();
  readonly #clock: Clock;
  readonly #offer: (press: { readonly button: string; readonly pressId: string }) => boolean;
  readonly #fallback: (button: string) => void;
  readonly #onIgnored: (inARow: number) => void;
  readonly #pending = new Map<string, { readonly button: string; readonly timer: Timer }>();
  readonly #taken = new Map<string, Taken>();
  readonly #settled = new Map<string, 'acknowledged' | 'late'>();
  #ignoredInARow = 0;

  constructor(options: {
    clock: Clock;
    /** @returns whether flows are there that watch this button */
    offer: (press: { readonly button: string; readonly pressId: string }) => boolean;
    /** What is configured for the button. */
    fallback: (button: string) => void;
    /** So many presses in a row were offered and not acknowledged. */
    onIgnored: (inARow: number) => void;
  }) {
    this.#clock = options.clock;
    this.#offer = options.offer;
    this.#fallback = options.fallback;
    this.#onIgnored = options.onIgnored;
  }

  /** @returns the id under which more can be told of this press */
  pressed(button: string): string {
    const pressId = randomUUID();
    const timer = this.#clock.after(PRESS_OFFER_MS, () => this.#ignored(pressId));
    this.#pending.set(pressId, { button, timer });
    if (!this.#offer({ button, pressId })) this.#fallBack(pressId, 'unwatched');
    return pressId;
  }

  /** @throws AppError `press-late` after the fallback, `press-unknown` */
  acknowledge(pressId: string): void {
    const press = this.#pending.get(pressId);
    if (press === undefined) {
      const settled = this.#settled.get(pressId);
      if (settled === 'acknowledged') return;
      const why = settled === 'late' ? 'late' : 'unknown';
      this.counted.count(why);
      throw new AppError(
        `press-${why}`,
        why === 'late' ? 'the station has done it already' : 'there is no such press',
        {
          remedy: `Acknowledge a press within ${PRESS_OFFER_MS} ms, and do nothing for one that was refused`,
        },
      );
    }
    press.timer.cancel();
    this.#pending.delete(pressId);
    this.#remember(pressId, 'acknowledged');
    this.#taken.set(press.button, { pressId, atMs: this.#clock.nowMs() });
    this.#ignoredInARow = 0;
    this.counted.count('acknowledged');
  }

  /** Flows asked for something: what they took they have dealt with. */
  acted(): void {
    this.#taken.clear();
  }

  /** No connected flows are left: what they were offered is done here, now. */
  unwatched(): void {
    for (const pressId of [...this.#pending.keys()]) this.#fallBack(pressId, 'unacknowledged');
  }

  /** They crashed, or hang: beside what they were offered, what they took just now and can't have acted on. */
  brokeDown(): void {
    this.unwatched();
    const since = this.#clock.nowMs() - TAKEN_MS;
    const lost = [...this.#taken].filter(([, { atMs }]) => atMs >= since);
    this.#taken.clear();
    for (const [button] of lost) {
      this.counted.count('taken-and-lost');
      this.#fallback(button);
    }
  }

  /** Nothing more is done. */
  close(): void {
    for (const { timer } of this.#pending.values()) timer.cancel();
    this.#pending.clear();
    this.#taken.clear();
  }

  #ignored(pressId: string): void {
    this.#ignoredInARow += 1;
    this.#fallBack(pressId, 'unacknowledged');
    this.#onIgnored(this.#ignoredInARow);
  }

  #fallBack(pressId: string, why: 'unwatched' | 'unacknowledged'): void {
    const press = this.#pending.get(pressId);
    if (press === undefined) return;
    press.timer.cancel();
    this.#pending.delete(pressId);
    this.#remember(pressId, 'late');
    // A later press of the same button stands for an earlier one.
    this.#taken.delete(press.button);
    this.counted.count(why);
    this.#fallback(press.button);
  }

  #remember(pressId: string, how: 'acknowledged' | 'late'): void {
    this.#settled.set(pressId, how);
    for (const [oldest] of this.#settled) {
      if (this.#settled.size <= REMEMBERED) break;
      this.#settled.delete(oldest);
    }
  }
}
