import { randomBytes } from 'node:crypto';
import type { Clock, Timer } from '../core/clock.js';
import { isStun, parseStunBinding, STUN_TRANSACTION_BYTES, writeStunRequest, writeStunResponse } from '../rtp/stun.js';

const ASK_EVERY_MS = 100;
/** The far end may start some time after us, and a request be lost. */
const PROVE_WITHIN_MS = 1_000;

export interface PathProbeOptions {
  readonly clock: Clock;
  /** Where the far end is now; null before it is known. */
  readonly remote: () => { readonly address: string; readonly port: number } | null;
  send(datagram: Uint8Array): void;
  /** No answer came in time: UDP does not go both ways. */
  unreached(): void;
}

/**
 * Whether UDP goes there and back, by STUN Binding requests on the session's own port (RFC 8489), whoever speaks and whoever is
 * muted. Answers the far end's requests too.
 */
export class PathProbe {
  readonly #options: PathProbeOptions;
  readonly #transaction = randomBytes(STUN_TRANSACTION_BYTES);
  #timer: Timer | null = null;

  constructor(options: PathProbeOptions) {
    this.#options = options;
  }

  /** Asks until it is answered, or its time is over; a question that is being asked goes on. */
  start(): void {
    if (this.#timer === null) this.#ask(PROVE_WITHIN_MS / ASK_EVERY_MS);
  }

  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** @returns whether the datagram was STUN, and so is no media */
  take(datagram: Uint8Array): boolean {
    if (!isStun(datagram)) return false;
    const binding = parseStunBinding(datagram);
    const remote = this.#options.remote();
    if (binding?.kind === 'request' && remote !== null) {
      this.#options.send(writeStunResponse(binding.transaction, remote));
    } else if (binding?.kind === 'response' && this.#transaction.equals(binding.transaction)) {
      this.stop();
    }
    return true;
  }

  #ask(timesLeft: number): void {
    if (timesLeft === 0) {
      this.#timer = null;
      this.#options.unreached();
      return;
    }
    this.#options.send(writeStunRequest(this.#transaction));
    this.#timer = this.#options.clock.after(ASK_EVERY_MS, () => this.#ask(timesLeft - 1));
  }
}
