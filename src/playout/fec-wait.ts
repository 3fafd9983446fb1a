/** Time constant of what is remembered of losses. */
const MEMORY_MS = 10_000;
/** R of delay, for each ms (G.107, 7.4: 0.024 below the 177 ms at which conversation suffers). */
const R_PER_MS = 0.024;
/** R of concealment, for each per cent of the time (G.107, 7.5: 95 / Bpl, with the 25.1 of a codec that conceals; G.113, appendix I). */
const R_PER_CONCEALED_PCT = 3.8;
/** In-band FEC is coarser than what it stands for: so much of the harm it takes away. */
const FEC_WORTH = 0.7;
/** What has been decided is kept until the contrary is so much clearer. */
const HYSTERESIS = 2;

/**
 * Whether to wait one packet time more, so that the packet after a lost one, with its FEC, is there in time. By what is measured,
 * in R of the E-model: the losses of late that the packet after them told of, against the delay. With 20 ms packets it is worth it
 * from about 0.4 % of such losses on, and until they are under 0.1 %: a clean line waits for nothing.
 */
export class FecWait {
  #restorable = 0;
  #isWorth = false;

  get isWorth(): boolean {
    return this.#isWorth;
  }

  /** Packets went by. @param restorable of them were lost, and told of by the packet after them */
  passed(packets: number, restorable: number, packetMs: number): void {
    const memory = Math.min(1, packetMs / MEMORY_MS);
    this.#restorable += restorable * memory - this.#restorable * Math.min(1, packets * memory);
    const gain = this.#restorable * 100 * R_PER_CONCEALED_PCT * FEC_WORTH;
    const cost = packetMs * R_PER_MS;
    this.#isWorth = this.#isWorth ? gain > cost / HYSTERESIS : gain > cost * HYSTERESIS;
  }
}
