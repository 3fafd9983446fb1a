import type { Clock, Timer } from '../core/clock.js';

/** Held for so long a press is a long one; so soon after the last one it is the second half of a double one. */
export const LONG_PRESS_MS = 1_000;
export const DOUBLE_PRESS_MS = 400;

interface Contact {
  readonly pressId: string;
  readonly atMs: number;
  readonly held: Timer;
  /** The second press of a double one begins no third. */
  readonly isSecond: boolean;
}

/** What more there is to say of presses, once they are known. A press itself is never held back for it. */
export class PressGestures {
  readonly #clock: Clock;
  readonly #onGesture: (gesture: { button: string; pressId: string; kind: 'long' | 'double' }) => void;
  readonly #contacts = new Map<string, Contact>();

  constructor(options: {
    clock: Clock;
    onGesture: (gesture: { button: string; pressId: string; kind: 'long' | 'double' }) => void;
  }) {
    this.#clock = options.clock;
    this.#onGesture = options.onGesture;
  }

  pressed(button: string, pressId: string): void {
    const before = this.#contacts.get(button);
    before?.held.cancel();
    const atMs = this.#clock.nowMs();
    const isSecond = before !== undefined && !before.isSecond && atMs - before.atMs <= DOUBLE_PRESS_MS;
    const held = this.#clock.after(LONG_PRESS_MS, () => this.#onGesture({ button, pressId, kind: 'long' }));
    this.#contacts.set(button, { pressId, atMs, held, isSecond });
    if (isSecond) this.#onGesture({ button, pressId, kind: 'double' });
  }

  released(button: string): void {
    this.#contacts.get(button)?.held.cancel();
  }

  close(): void {
    for (const { held } of this.#contacts.values()) held.cancel();
  }
}
