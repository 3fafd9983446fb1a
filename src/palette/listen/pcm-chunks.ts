import { L16_RATE_HZ, type L16Sound } from '../../rtp/l16.js';

/** Some length of a tap's sound: signed 16 bits, little-endian, mono, 16 kHz. */
export interface PcmChunk {
  readonly payload: Buffer;
  readonly rateHz: number;
  /** Of the sound that was lost since the chunk before, be it that this process was too slow to take it. */
  readonly lostMs: number;
}

const PACKET_MS = 20;

/** Cuts a tap's sound into pieces of one length. What is lost is missing: nothing stands for it. */
export class PcmChunks {
  readonly #take: (chunk: PcmChunk) => void;
  readonly #samples: number;
  #chunk: Buffer;
  #fill = 0;
  #lostMs = 0;

  /** @param chunkMs a whole number of 10 ms @param take what it is given is its own */
  constructor(chunkMs: number, take: (chunk: PcmChunk) => void) {
    this.#samples = (chunkMs * L16_RATE_HZ) / 1_000;
    this.#chunk = Buffer.allocUnsafe(2 * this.#samples);
    this.#take = take;
  }

  push({ samples, lostPackets }: L16Sound): void {
    this.#lostMs += lostPackets * PACKET_MS;
    for (const sample of samples) {
      this.#chunk.writeInt16LE(sample, 2 * this.#fill);
      this.#fill += 1;
      if (this.#fill < this.#samples) continue;
      const [payload, lostMs] = [this.#chunk, this.#lostMs];
      this.#chunk = Buffer.allocUnsafe(2 * this.#samples);
      this.#fill = 0;
      this.#lostMs = 0;
      this.#take({ payload, rateHz: L16_RATE_HZ, lostMs });
    }
  }
}
