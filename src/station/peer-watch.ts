import type { Clock, Timer } from '../core/clock.js';

/** Media is said to be silent after 5 s; this long after it a peer that can't be reached by signalling either is gone. */
export const PEER_LOST_AFTER_MS = 10_000;

/**
 * Whether the far end of the call that lives is gone without a word: its media is silent, and it is not on the broker (or
 * we are not, so that nobody can tell). A silent microphone alone, or a broker's outage alone, ends no call.
 */
export class PeerWatch {
  readonly #clock: Clock;
  readonly #onLost: () => void;
  #silent = false;
  #peerOffline = false;
  #linkDown = false;
  #timer: Timer | undefined;

  constructor(options: { clock: Clock; onLost: () => void }) {
    this.#clock = options.clock;
    this.#onLost = options.onLost;
  }

  /** Another call, or none: nothing is known of its peer. */
  reset(): void {
    this.#silent = false;
    this.#peerOffline = false;
    this.#judge();
  }

  silent(silent: boolean): void {
    this.#silent = silent;
    this.#judge();
  }

  peerOnline(online: boolean): void {
    this.#peerOffline = !online;
    this.#judge();
  }

  linkConnected(connected: boolean): void {
    this.#linkDown = !connected;
    this.#judge();
  }

  close(): void {
    this.#timer?.cancel();
  }

  #judge(): void {
    const isSuspect = this.#silent && (this.#peerOffline || this.#linkDown);
    if (isSuspect) this.#timer ??= this.#clock.after(PEER_LOST_AFTER_MS, () => this.#onLost());
    else {
      this.#timer?.cancel();
      this.#timer = undefined;
    }
  }
}
