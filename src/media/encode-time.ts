/** Of each new time in the mean, as RFC 3550 smooths jitter. */
const SHARE = 1 / 16;
/** The worst is that of the last 50 … 100 packets: a second or two. */
const SPAN_PACKETS = 50;

/** How long a packet took to encode, for who must know whether this machine keeps up. */
export class EncodeTime {
  #meanMs = 0;
  #worstMs = 0;
  #worstBeforeMs = 0;
  #count = 0;

  took(ms: number): void {
    if (this.#count === 0) this.#meanMs = ms;
    this.#meanMs += (ms - this.#meanMs) * SHARE;
    this.#worstMs = Math.max(this.#worstMs, ms);
    this.#count += 1;
    if (this.#count % SPAN_PACKETS !== 0) return;
    this.#worstBeforeMs = this.#worstMs;
    this.#worstMs = 0;
  }

  /** Zero before the first packet. */
  get figures(): { readonly mean: number; readonly worst: number } {
    return { mean: this.#meanMs, worst: Math.max(this.#worstMs, this.#worstBeforeMs) };
  }
}
