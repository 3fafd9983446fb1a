import { sequenceDistance } from './sequence.js';

/** The fates of packets that follow one another. */
export interface Fates {
  readonly ssrc: number;
  readonly beginSequence: number;
  readonly received: readonly boolean[];
}

/** A packet that four others have overtaken is taken for lost: jitter of 60 ms reorders by three of 20 ms. */
const OVERTAKEN_BY = 4;
/** Fates that nobody takes are forgotten beyond this many; 20 s of 20 ms packets. */
const MOST_FATES = 1_024;

/**
 * Which packets of a stream came and which did not, each told once. A packet's fate is settled when four later ones came; one
 * that comes after that counts as lost, as it does for a playout that had no longer to wait.
 */
export class ArrivalLog {
  #ssrc = -1;
  /** The first packet whose fate is not settled. */
  #next = 0;
  /** Of the packets from `#next` on. */
  #early: boolean[] = [];
  /** Those of them that came. */
  #earlyCount = 0;
  #settled: boolean[] = [];
  #lost = 0;

  /** Of a source that is valid. @returns whether the loss of a packet has just been settled */
  packet(ssrc: number, sequence: number): boolean {
    const ahead = sequenceDistance(this.#next, sequence);
    if (ssrc !== this.#ssrc || ahead >= MOST_FATES || ahead < -MOST_FATES) this.#begin(ssrc, sequence);
    else if (ahead >= 0 && this.#early[ahead] !== true) {
      this.#early[ahead] = true;
      this.#earlyCount += 1;
    }
    const lostBefore = this.#lost;
    while (this.#early[0] === true || this.#earlyCount >= OVERTAKEN_BY) this.#settle(this.#early.shift() === true);
    return this.#lost > lostBefore;
  }

  /** What has been settled since the last time; null where nothing was. */
  take(): Fates | null {
    if (this.#settled.length === 0) return null;
    const received = this.#settled;
    this.#settled = [];
    return { ssrc: this.#ssrc, beginSequence: (this.#next - received.length) & 0xffff, received };
  }

  #begin(ssrc: number, sequence: number): void {
    this.#ssrc = ssrc;
    this.#next = sequence;
    this.#early = [true];
    this.#earlyCount = 1;
    this.#settled = [];
  }

  #settle(wasReceived: boolean): void {
    this.#settled.push(wasReceived);
    if (this.#settled.length > MOST_FATES) this.#settled.shift();
    if (wasReceived) this.#earlyCount -= 1;
    else this.#lost += 1;
    this.#next = (this.#next + 1) & 0xffff;
  }
}
