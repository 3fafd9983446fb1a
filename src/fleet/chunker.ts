/**
 * Content-defined chunking: FastCDC (Xia et al., "FastCDC: a Fast and Efficient Content-Defined Chunking Approach", USENIX ATC 2016)
 * with its gear hash, normalized chunking of level 2 and skipping of what is below the least size.
 *
 * The hash has 32 bits, so that JavaScript's integers hold it, and shifts left: its upper bits depend on the last 32 bytes, hence the
 * masks take those. Where a chunk ends depends on its content alone: the same content after an insertion is cut at the same places.
 */
export interface ChunkSizes {
  readonly leastBytes: number;
  /** A power of two; what chunks of random content come to. */
  readonly normalBytes: number;
  readonly mostBytes: number;
}

/** Measured on this project's own release: docs/updates.md has the figures. */
export const CHUNK_SIZES: ChunkSizes = { leastBytes: 16_384, normalBytes: 65_536, mostBytes: 262_144 };

/** Part of the format: another table would cut every release elsewhere, and share no chunk with the releases before. */
const GEAR = gearTable(0x656e_7472);
const NORMALIZATION_LEVEL = 2;

/** Cuts a stream that comes in pieces of any size; holds one chunk at most. */
export class Chunker {
  readonly #sizes: ChunkSizes;
  /** Before the normal size a cut is less likely, after it more (the paper's mask S and mask L). */
  readonly #strictMask: number;
  readonly #looseMask: number;
  readonly #pending: Uint8Array;
  #length = 0;
  #hash = 0;

  /** @throws RangeError for sizes that are none */
  constructor(sizes: ChunkSizes = CHUNK_SIZES) {
    const { leastBytes, normalBytes, mostBytes } = sizes;
    const bits = Math.log2(normalBytes);
    if (!Number.isInteger(bits) || bits < 6 || bits > 24 || leastBytes < 32 || leastBytes >= normalBytes) {
      throw new RangeError(`no sizes of chunks: ${leastBytes}, ${normalBytes}, ${mostBytes}`);
    }
    if (mostBytes <= normalBytes) throw new RangeError(`no sizes of chunks: at most ${mostBytes}`);
    this.#sizes = sizes;
    this.#strictMask = upperBits(bits + NORMALIZATION_LEVEL);
    this.#looseMask = upperBits(bits - NORMALIZATION_LEVEL);
    this.#pending = new Uint8Array(mostBytes);
  }

  /** @returns the chunks that `bytes` completes, each a copy of its own */
  push(bytes: Uint8Array): Uint8Array[] {
    const chunks: Uint8Array[] = [];
    for (let from = 0; from < bytes.length; ) {
      const taken = this.#take(bytes, from);
      this.#pending.set(bytes.subarray(from, from + taken.bytes), this.#length);
      this.#length += taken.bytes;
      from += taken.bytes;
      if (taken.isCut) chunks.push(this.#cut());
    }
    return chunks;
  }

  /** The end of the stream. @returns what is left, if anything is */
  finish(): Uint8Array | undefined {
    return this.#length === 0 ? undefined : this.#cut();
  }

  /** How much of `bytes`, from `from` on, belongs to the chunk that is pending, and whether it ends there. */
  #take(bytes: Uint8Array, from: number): { bytes: number; isCut: boolean } {
    const { leastBytes, normalBytes, mostBytes } = this.#sizes;
    const start = this.#length - from;
    const end = Math.min(bytes.length, mostBytes - start);
    // What the hash forgets before the least size need not be hashed: 32 bytes are all that it knows.
    let at = Math.max(from, leastBytes - 32 - start);
    let hash = this.#hash;
    for (; at < end; at += 1) {
      hash = ((hash << 1) + (GEAR[bytes[at] ?? 0] ?? 0)) | 0;
      const length = at + 1 + start;
      if (length < leastBytes) continue;
      if ((hash & (length < normalBytes ? this.#strictMask : this.#looseMask)) === 0) {
        return { bytes: at + 1 - from, isCut: true };
      }
    }
    this.#hash = hash;
    return { bytes: Math.max(0, end - from), isCut: end + start === mostBytes };
  }

  #cut(): Uint8Array {
    const chunk = this.#pending.slice(0, this.#length);
    this.#length = 0;
    this.#hash = 0;
    return chunk;
  }
}

function upperBits(count: number): number {
  return (0xffff_ffff << (32 - count)) | 0;
}

/** 256 numbers of 32 bits from a seed (SplitMix32). */
function gearTable(seed: number): Int32Array {
  let state = seed | 0;
  return Int32Array.from({ length: 256 }, () => {
    state = (state + 0x9e37_79b9) | 0;
    let mixed = state;
    mixed = Math.imul(mixed ^ (mixed >>> 16), 0x21f0_aaad);
    mixed = Math.imul(mixed ^ (mixed >>> 15), 0x735a_2d97);
    return mixed ^ (mixed >>> 15);
  });
}
