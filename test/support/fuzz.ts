import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Mutator } from './mutate.js';
import { seededRandom } from './random.js';

/** A parser, or what stands behind one, and good input for it. */
export interface FuzzTarget {
  readonly name: string;
  readonly corpus: readonly Uint8Array[];
  /** Words to be spliced into text. */
  readonly words?: readonly string[];
  /** Classes of fault, `ok` included, that a few thousand inputs come by at least. */
  readonly leastClasses: number;
  /** @returns the class of what the input was, `ok` or a fault. Throws where the target breaks a promise. */
  take(input: Buffer): string;
  close?(): void;
}

export interface FuzzOutcome {
  readonly inputs: number;
  /** How often each class came. */
  readonly classes: ReadonlyMap<string, number>;
  /** By how much the heap grew from a fifth of the inputs to their end, in bytes; a buffer has its part in it too. */
  readonly grownBytes: number;
}

export interface FuzzOptions {
  readonly seed: number;
  readonly inputs: number;
  readonly mostMs: number;
  /** Measures the heap, which takes a moment. */
  readonly weighs?: boolean;
  /** Told every 100,000 inputs. */
  readonly progress?: (inputs: number) => void;
}

/** Hands hostile input to a target. @throws Error with seed, number and input of what broke a promise */
export function fuzz(target: FuzzTarget, options: FuzzOptions): FuzzOutcome {
  const { seed, inputs, mostMs, weighs = false, progress } = options;
  const mutator = new Mutator({ random: seededRandom(seed), corpus: target.corpus, words: target.words ?? [] });
  const classes = new Map<string, number>();
  const endMs = performance.now() + mostMs;
  let before = 0;
  let done = 0;
  for (; done < inputs && (done % 256 !== 0 || performance.now() < endMs); done += 1) {
    const input = mutator.next();
    const copy = Buffer.from(input);
    try {
      const found = target.take(input);
      classes.set(found, (classes.get(found) ?? 0) + 1);
      if (!copy.equals(input)) throw new Error('the input was written to');
    } catch (cause) {
      const what = `${target.name}, seed ${seed}, input ${done}: ${copy.toString('hex')}`;
      throw new Error(`${what}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    }
    if (done % 100_000 === 99_999) progress?.(done + 1);
    if (weighs && done === Math.floor(inputs / 5)) before = weight();
  }
  return { inputs: done, classes, grownBytes: weighs && before > 0 ? weight() - before : 0 };
}

/** What a target says of what it has seen. @throws Error where it is not so */
export function promise(isKept: boolean, what: string): void {
  if (!isKept) throw new Error(`broken: ${what}`);
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;

function weight(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}
