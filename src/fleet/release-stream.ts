import { AppError } from '../core/errors.js';
import type { Chunk, Manifest, ReleaseFile } from './manifest.js';

/** Part of a file, in the order of the stream; a file without content comes once, with none. */
export interface FilePiece {
  readonly file: ReleaseFile;
  readonly bytes: Uint8Array;
  readonly isLast: boolean;
}

/** A stretch of a file. */
export interface Span {
  readonly file: ReleaseFile;
  readonly at: number;
  readonly bytes: number;
}

/**
 * The files of a release, made of its chunks again: what is written into a slot, and what is checked.
 * @param readChunk hands over a chunk's content, uncompressed and of the hash that it has to have
 * @throws AppError `chunk-wrong` where a chunk has not the size that the manifest says, and whatever `readChunk` throws
 */
export async function* filePieces(
  manifest: Pick<Manifest, 'files' | 'chunks'>,
  readChunk: (chunk: Chunk, offsetBytes: number) => Promise<Uint8Array>,
): AsyncGenerator<FilePiece> {
  let chunkIndex = 0;
  let offsetBytes = 0;
  let left: Uint8Array = new Uint8Array(0);
  for (const file of manifest.files) {
    let missing = file.sizeBytes;
    if (missing === 0) yield { file, bytes: new Uint8Array(0), isLast: true };
    while (missing > 0) {
      if (left.length === 0) {
        const chunk = manifest.chunks[chunkIndex];
        if (chunk === undefined) throw wrong(`the chunks end before ${file.path}`);
        left = await readChunk(chunk, offsetBytes);
        if (left.length !== chunk.sizeBytes) throw wrong(`chunk ${chunk.id} has ${left.length} bytes`);
        chunkIndex += 1;
        offsetBytes += left.length;
      }
      const bytes = left.subarray(0, missing);
      left = left.subarray(bytes.length);
      missing -= bytes.length;
      yield { file, bytes, isLast: missing === 0 };
    }
  }
}

/** Where the chunks of a release that is installed are found in its files. */
export class InstalledChunks {
  readonly #files: readonly ReleaseFile[];
  /** Where each file begins in the stream. */
  readonly #starts: Float64Array;
  /** Where each chunk begins, at its first place. */
  readonly #offsets = new Map<string, { readonly offsetBytes: number; readonly sizeBytes: number }>();

  constructor(manifest: Pick<Manifest, 'files' | 'chunks'>) {
    this.#files = manifest.files;
    this.#starts = new Float64Array(manifest.files.length);
    let offsetBytes = 0;
    for (const [index, file] of manifest.files.entries()) {
      this.#starts[index] = offsetBytes;
      offsetBytes += file.sizeBytes;
    }
    offsetBytes = 0;
    for (const { id, sizeBytes } of manifest.chunks) {
      if (!this.#offsets.has(id)) this.#offsets.set(id, { offsetBytes, sizeBytes });
      offsetBytes += sizeBytes;
    }
  }

  has(id: string): boolean {
    return this.#offsets.has(id);
  }

  /** The stretches of files that make up a chunk; undefined where the release has no such chunk. Its hash is to be checked. */
  spansOf(id: string): Span[] | undefined {
    const place = this.#offsets.get(id);
    if (place === undefined) return undefined;
    const end = place.offsetBytes + place.sizeBytes;
    const spans: Span[] = [];
    for (let index = this.#fileAt(place.offsetBytes); index < this.#files.length; index += 1) {
      const [file, start = 0] = [this.#files[index], this.#starts[index]];
      if (file === undefined || start >= end) break;
      const from = Math.max(start, place.offsetBytes);
      const bytes = Math.min(start + file.sizeBytes, end) - from;
      if (bytes > 0) spans.push({ file, at: from - start, bytes });
    }
    return spans;
  }

  /** The last file that begins at or before an offset. */
  #fileAt(offsetBytes: number): number {
    let [low, high] = [0, this.#files.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if ((this.#starts[middle] ?? 0) <= offsetBytes) low = middle;
      else high = middle - 1;
    }
    // Files without content begin at the same place as the one behind them.
    while (low > 0 && this.#starts[low] === offsetBytes && this.#starts[low - 1] === offsetBytes) low -= 1;
    return low;
  }
}

function wrong(what: string): AppError {
  return new AppError('chunk-wrong', what, { remedy: 'The release is damaged: fetch it again' });
}
