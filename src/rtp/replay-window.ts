const WINDOW = 256;

/**
 * Which packets of one stream have come (RFC 3711, 3.3.2), of the last 256: what a path of 10 ms packets holds back for 2.5 s
 * still counts as new, what comes twice or later does not.
 */
export class ReplayWindow {
  /** Whether index i has come stands at i mod 256. */
  readonly #seen = new Uint8Array(WINDOW);
  #highest = -1;

  /** The highest index that has come; -1 before any. */
  get highest(): number {
    return this.#highest;
  }

  admits(index: number): boolean {
    if (index > this.#highest) return true;
    return index > this.#highest - WINDOW && index >= 0 && this.#seen[index % WINDOW] === 0;
  }

  /** Notes a packet that was admitted, and is authentic. */
  take(index: number): void {
    if (index > this.#highest) {
      const first = Math.max(this.#highest + 1, index - WINDOW + 1);
      for (let skipped = first; skipped < index; skipped++) this.#seen[skipped % WINDOW] = 0;
      this.#highest = index;
    }
    this.#seen[index % WINDOW] = 1;
  }
}
