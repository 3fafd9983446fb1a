/** Values that parsers stumble over: none, one, the signs' edges, all bits. */
const EDGES = [0x00, 0x01, 0x7f, 0x80, 0xfe, 0xff];
const EDGES_16 = [0, 1, 2, 0x7fff, 0x8000, 0xfffe, 0xffff];
const MOST_BYTES = 4_096;

/**
 * Makes hostile input of good input: bits flipped, bytes and lengths set to their edges, pieces cut off, cut out, repeated,
 * doubled in number, spliced in from another sample or from a list of words. The same `random` gives the same again.
 */
export class Mutator {
  readonly #random: () => number;
  readonly #corpus: readonly Uint8Array[];
  readonly #words: readonly Buffer[];

  /** @param options.random 0 ≤ r < 1 */
  constructor(options: { random: () => number; corpus: readonly Uint8Array[]; words?: readonly string[] }) {
    this.#random = options.random;
    this.#corpus = options.corpus;
    this.#words = (options.words ?? []).map((word) => Buffer.from(word));
  }

  /** A sample of the corpus, changed one to four times; in memory of its own. */
  next(): Buffer {
    let bytes: Buffer = Buffer.from(this.#sample());
    for (let times = 1 + this.#below(4); times > 0; times -= 1) bytes = this.#change(bytes);
    return bytes.subarray(0, MOST_BYTES);
  }

  #change(bytes: Buffer): Buffer {
    const at = this.#below(bytes.length + 1);
    const size = this.#below(Math.min(64, bytes.length - at) + 1);
    const [head, piece, tail] = [bytes.subarray(0, at), bytes.subarray(at, at + size), bytes.subarray(at + size)];
    switch (this.#below(this.#words.length === 0 ? 8 : 9)) {
      case 0:
        return this.#set(bytes, at, (byte) => byte ^ (1 << this.#below(8)));
      case 1:
        return this.#set(bytes, at, () => EDGES[this.#below(EDGES.length)] ?? 0);
      case 2:
        return this.#set(bytes, at, () => this.#below(256));
      case 3:
        return this.#setLength(bytes, at);
      case 4:
        return head;
      case 5:
        return Buffer.concat([head, tail]);
      case 6: {
        const copies = Array.from({ length: 2 + this.#below(20) }, () => piece);
        return Buffer.concat([head, ...copies, tail]);
      }
      case 7: {
        const other = this.#sample();
        const from = this.#below(other.length + 1);
        return Buffer.concat([head, other.subarray(from, from + this.#below(128)), tail]);
      }
      default:
        return Buffer.concat([head, this.#words[this.#below(this.#words.length)] ?? head, tail]);
    }
  }

  #set(bytes: Buffer, at: number, change: (byte: number) => number): Buffer {
    if (at < bytes.length) bytes[at] = change(bytes[at] ?? 0);
    return bytes;
  }

  /** A length of 16 bits, most significant byte first: an edge, or what is left of the input and a little more or less. */
  #setLength(bytes: Buffer, at: number): Buffer {
    if (at + 2 > bytes.length) return bytes;
    const left = bytes.length - at - 2 + this.#below(5) - 2;
    const value = this.#below(2) === 0 ? EDGES_16[this.#below(EDGES_16.length)] : left;
    bytes.writeUInt16BE((value ?? 0) & 0xffff, at);
    return bytes;
  }

  #sample(): Uint8Array {
    return this.#corpus[this.#below(this.#corpus.length)] ?? new Uint8Array();
  }

  #below(end: number): number {
    return Math.floor(this.#random() * end);
  }
}
